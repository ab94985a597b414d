"""The language models that pages are judged by: SentencePiece pieces and a 5-gram of each language, trained by the run
itself on its Wikipedia documents as CCNet trains them (section 2.1), or brought along.

    LANGUAGE.model      SentencePiece, unigram, 65,536 pieces (CCNet)
    LANGUAGE.arpa       modified Kneser-Ney 5-gram over those pieces, a sentence a line of text
    LANGUAGE.ngrams     the same as tables that Puna maps (ngram_table.py)
    LANGUAGE.binary     the same for KenLM, where its build_binary is on PATH
    LANGUAGE.json       what it was trained on, how well it does on text of its language that it did not see, and the
                        digest of its pieces: by these a model is told that is another's or of another language

The text is a sample by a hash of seed and id, sorted by it, so that no shard, worker or order of either shows. One
article in HELD of the sample is kept back to measure the model.
"""

from __future__ import annotations

import io
import math
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash

from puna import storage
from puna.data.document import read_documents
from puna.data.quality.arpa import read_arpa, word, write_arpa
from puna.data.quality.ngram import Level, NgramModel
from puna.data.quality.ngram import train as train_ngrams
from puna.data.quality.ngram_table import says_the_same, write_table
from puna.data.quality.perplexity import open_model
from puna.data.quality.sentences import Pieces, normalised
from puna.errors import InputError, PunaError
from puna.progress import say, size
from puna.recipe_data import LanguageModels
from puna.storage import Location, Place

HELD = 50  # one article in so many measures the model
COVERAGE = 0.9995  # share of characters that get pieces (CCNet); the others are <unk>
LONGEST_SENTENCE = 2**30  # bytes; SentencePiece drops a longer training sentence
ENDINGS = ("model", "arpa", "ngrams", "json", "binary")
STRANGE = 4.0  # times the perplexity that was measured: text of another language or kind; ours of another are 5 to 50


class Trained(NamedTuple):
    """A language's model: its files, and what its JSON tells ({} where there is none)."""

    pieces: Location
    ngrams: Location
    told: dict[str, Any]


def rank(seed: int, identifier: str) -> int:
    """The 64-bit hash by which documents are sampled."""
    return xxhash.xxh3_64_intdigest(f"{seed}\0lm\0{identifier}".encode())


def sample(documents: Iterable[tuple[int, str]], size: int) -> list[tuple[int, str]]:
    """Of (rank, text) those of lowest rank that have `size` bytes together at most; one at least."""
    ranked = sorted(documents)
    return ranked[: _fitting([len(text.encode()) for _, text in ranked], size)]


def _fitting(lengths: Sequence[int], size: int) -> int:
    """How many of the first texts have `size` bytes together at most; one at least, of none none."""
    return max(int((np.cumsum(lengths) <= size).sum()), 1) if lengths else 0


def train(folder: Place, language: str, documents: Sequence[tuple[int, str]], recipe: LanguageModels) -> list[Place]:
    """Train a language's model on (rank, text) of documents, in any order; the files that were written.

    InputError when the text is less than `lm.minimum`. Memory: 25 bytes for a byte of text.
    """
    documents = sorted(documents)
    have = sum(len(text.encode()) for _, text in documents)
    if not documents or have < recipe.minimum:
        what = (
            f"its language model has {size(have)} of Wikipedia text to learn from, and lm.minimum is {recipe.minimum}"
        )
        mend = f"give Wikipedia dumps of it, a model in lm.models, or a lower lm.minimum; or take {language} out"
        raise InputError(what, where=f"languages {language}", mend=mend)
    kept_back = [text for number, text in documents if number % HELD == 0]
    texts = [text for number, text in documents if number % HELD] or kept_back
    model = _train_pieces(language, texts, recipe.pieces)
    cut = Pieces(model)
    if len(cut.pieces) < recipe.pieces:
        say(f"  {language}: {size(have)} of text give {len(cut.pieces):,} pieces, not lm.pieces={recipe.pieces:,}")
    written = [folder / f"{language}.{ending}" for ending in ENDINGS]
    to_model, to_arpa, to_table, to_json, to_binary = written
    storage.write(to_model, model)
    lmplz = shutil.which("lmplz") if recipe.trainer != "numpy" else None
    if lmplz:
        ngrams, tokens = _by_lmplz(lmplz, texts, cut, recipe.order)
    elif recipe.trainer == "lmplz":
        raise PunaError("lmplz is not on PATH", where="lm.trainer", mend="install KenLM, or set lm.trainer=numpy")
    else:
        ids = [np.array(cut.cut(line), np.int32) for text in texts for line in normalised(text)]
        tokens = sum(len(line) + 1 for line in ids)
        ngrams = train_ngrams(ids, order=recipe.order, vocabulary=len(cut.pieces), bos=cut.bos, eos=cut.eos)
        del ids
    write_arpa(ngrams, to_arpa, cut.pieces)
    write_table(ngrams, to_table, cut.pieces, to_arpa)
    del ngrams
    found = open_model(to_model, to_table)
    scores = [score for score in found.perplexities(kept_back or texts[:HELD]) if not math.isnan(score)]
    told = {
        "language": language,
        "pieces": len(cut.pieces),
        "order": recipe.order,
        "documents": len(texts),
        "tokens": tokens,
        "heldout_documents": len(kept_back),
        "heldout_perplexity": round(float(np.median(scores)), 2) if scores else None,
        "trainer": "lmplz" if lmplz else "numpy",
        "pieces_digest": storage.digest(to_model),
        "ngrams_digest": storage.digest(to_arpa),
    }
    storage.write_json(to_json, told)
    say(
        f"  {language}: {len(cut.pieces):,} pieces, {tokens:,} tokens, perplexity {told['heldout_perplexity']} held out"
    )
    builder = shutil.which("build_binary")
    if builder is None:
        return [to_model, to_arpa, to_table, to_json]
    _build_binary(builder, to_arpa, to_binary)
    return written


def train_from(shards: Sequence[Location], language: str, to: Place, recipe: LanguageModels, seed: int) -> list[Place]:
    """Train one model from shards of documents anywhere, of those in that language: for recipes that bring theirs along
    as `lm.models`. The sample is the documents of lowest rank. The shards are read twice; memory as `train`, and
    100 bytes a document."""
    ranked = sorted(
        (rank(seed, document.id), len(document.text.encode()))
        for shard in shards
        for document in read_documents(shard, ["id", "language", "text"])
        if document.language == language
    )
    last = ranked[_fitting([length for _, length in ranked], recipe.sample) - 1][0] if ranked else -1
    chosen = [
        (number, document.text)
        for shard in shards
        for document in read_documents(shard, ["id", "language", "text"])
        if document.language == language and (number := rank(seed, document.id)) <= last
    ]
    return train(to, language, chosen, recipe)


def found(prefix: Location, language: str) -> Trained:
    """The files of a model by their path before the endings. InputError when one is missing, when the JSON beside them
    names another language, or when the pieces are not those that the n-grams were trained over."""
    pieces = f"{prefix}.model"
    ngrams = next(
        (f"{prefix}.{end}" for end in ("ngrams", "binary", "arpa") if storage.exists(f"{prefix}.{end}")), None
    )
    if ngrams is None or not storage.exists(pieces):
        missing = f"{prefix}.arpa nor {prefix}.binary" if ngrams is None else pieces
        raise InputError(f"no {missing}", where=f"lm.models {language}", mend="name the path before .model and .arpa")
    told = storage.read_json(f"{prefix}.json") if storage.exists(f"{prefix}.json") else {}
    if told.get("language", language) != language:
        what = f"is a model of {told['language']!r}, not of {language!r}"
        raise InputError(what, where=f"{prefix}.json", mend="name the model of that language in lm.models")
    if "pieces_digest" in told and told["pieces_digest"] != storage.digest(pieces):
        what = f"is not the tokenizer that {ngrams} was trained with"
        raise InputError(what, where=pieces, mend="put the .model back that was made with it")
    return Trained(storage.place(pieces), storage.place(ngrams), told)


def refuse_other_ngrams(prefix: Location, model: Trained) -> None:
    """InputError when the .arpa of a model is another one than its table of n-grams was written beside, or than its
    JSON tells of: one of them was replaced, and nobody can say which is meant. Reads the .arpa once."""
    arpa = f"{prefix}.arpa"
    if not storage.exists(arpa):
        return
    digest = storage.digest(arpa)
    if str(model.ngrams).endswith(".ngrams") and not says_the_same(model.ngrams, storage.size(arpa), digest):
        what = f"is not the model that {model.ngrams} holds, which would be asked"
        raise InputError(what, where=arpa, mend="take the .ngrams away, or put the .arpa back that was made with it")
    if model.told.get("ngrams_digest") not in (None, digest):
        what = f"is not the model that {prefix}.json tells of"
        raise InputError(what, where=arpa, mend="take the .json away, or put the .arpa back that was made with it")


def strange(name: str, language: str, median: float, told: dict[str, Any]) -> str | None:
    """A loud line where pages have a median perplexity that a model of their language does not give, else None."""
    expected = told.get("heldout_perplexity")
    if not expected or not median > STRANGE * expected:
        return None
    return (
        f"WARNING: {name}: pages in {language!r} have a median perplexity of {median:,.0f}, and the model had "
        f"{expected:,.0f} on text of its language: is it of another language or kind of text?"
    )


def _train_pieces(language: str, texts: Iterable[str], pieces: int) -> bytes:
    """A unigram model of the normalised lines, of fewer pieces where the text is too small for so many."""
    import sentencepiece

    lines = [line for text in texts for line in normalised(text)]
    out = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=out,
            model_type="unigram",
            vocab_size=pieces,
            hard_vocab_limit=False,  # a small text gives fewer
            character_coverage=COVERAGE,
            max_sentence_length=LONGEST_SENTENCE,
            num_threads=1,  # written into the model file, whose bytes must not depend on the machine
            minloglevel=2,
        )
    except RuntimeError as error:
        raise InputError(f"SentencePiece cannot learn from this text ({error})", where=language) from None
    return out.getvalue()


def _by_lmplz(lmplz: str, texts: Iterable[str], cut: Pieces, order: int) -> tuple[NgramModel, int]:
    """The model as KenLM's program counts it, and the number of tokens.

    lmplz deletes the word <unk> from what it reads, and spreads unigrams over the words that it saw. So what has no
    piece is spelled as another word on the way, and the vocabulary is made as large as that of all pieces: then every
    number is ours but for its single precision. Memory: lmplz's own 200 MB; the model's 24 bytes an n-gram, and as much
    again while its longest are read.
    """
    tokens = 0
    with tempfile.TemporaryDirectory() as scratch:
        arpa = Path(scratch) / "arpa"
        command = [lmplz, "-o", str(order), "-S", "200M", "-T", scratch, "--discount_fallback"]
        command += ["--vocab_pad", str(len(cut.pieces) - 1), "--arpa", str(arpa)]
        with tempfile.TemporaryFile() as told:
            work = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=told)
            assert work.stdin is not None
            try:
                for line in _lines(texts, cut):
                    tokens += len(line.split()) + 1
                    work.stdin.write(f"{line}\n".encode())
                work.stdin.close()
            except BrokenPipeError:
                pass  # it ended, and says why
            if work.wait():
                told.seek(0)
                said = told.read().decode(errors="replace").strip().splitlines()
                raise PunaError(f"lmplz ended with status {work.returncode} ({said[-1:]})", where="lm.trainer")
        return _of_pieces(read_arpa(arpa, [*_spelled(cut), "<unk>"])), tokens


def _of_pieces(model: NgramModel) -> NgramModel:
    """The model without the last word of its vocabulary, which stands in no longer n-gram: its probability is what
    pieces have that were not seen."""
    size = model.vocabulary - 1
    first, *longer = model.levels
    levels = [Level(first.keys[:size], first.log10[:size], first.backoff[:size])]
    for level in longer:
        context, last = np.divmod(level.keys, model.vocabulary)
        levels.append(Level(context * size + last, level.log10, level.backoff))
    return NgramModel(size, model.bos, model.eos, tuple(levels))


def _spelled(cut: Pieces) -> list[str]:
    """The pieces, and for <unk> a word that none of them is."""
    name = "<unknown>"
    while name in cut.spelled:
        name += ">"
    return [name if number == cut.unknown else piece for number, piece in enumerate(cut.pieces)]


def _lines(texts: Iterable[str], cut: Pieces) -> Iterator[str]:
    words = [word(piece) for piece in _spelled(cut)]
    for text in texts:
        for line in normalised(text):
            yield " ".join([words[number] for number in cut.cut(line)])


def _build_binary(builder: str, arpa: Place, target: Place) -> None:
    with storage.local_copy(arpa) as source, tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "binary"
        done = subprocess.run([builder, str(source), str(made)], capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise PunaError(f"build_binary ended with status {done.returncode} ({said[-1:]})", where=str(arpa))
        with made.open("rb") as file, storage.create(target) as out:
            shutil.copyfileobj(file, out)
