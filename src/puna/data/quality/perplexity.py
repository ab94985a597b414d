"""Perplexity of a document by an n-gram model of its language, as CCNet computes it (section 2.1).

The lines of a document, normalised, are scored as one sentence <s> pieces </s>, and its perplexity is
10^(-sum of log10 p / number of pieces), </s> among them. CCNet's pipeline scores one sentence as well, since its
normalisation deletes the line breaks; here they are spaces. A model that Puna trained answers from its own tables
(`ngram_table.py`). Of another there is an ARPA file or KenLM's binary: KenLM's module answers where it is installed,
and the binary searches of `NgramModel`, the readable twin of both, stand in for it. CCNet's percentiles part head,
middle and tail; they are measured, since another model has other perplexities.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import islice
from math import ceil
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from puna import storage
from puna.data.quality import language
from puna.data.quality.arpa import read_arpa
from puna.data.quality.many_words import ManyWords
from puna.data.quality.ngram import NgramModel, stream
from puna.data.quality.ngram_table import UNIT, NgramTable
from puna.data.quality.sentences import Pieces, read_pieces, sentence
from puna.errors import InputError, PunaError
from puna.recipe_sources import WebPages
from puna.storage import Location, Place

BATCH, CHARACTERS = 64, 1 << 19  # documents whose tokens are looked up at once, and their characters, but for the last
KNOWN = 0.9  # share of a tokenizer's pieces that an n-gram model over them lists; less is another tokenizer's
BUCKETS = ("head", "middle", "tail")
Scores = npt.NDArray[np.float32]


class Model(Protocol):
    """A language's pieces and n-grams."""

    def perplexities(self, texts: Iterable[str]) -> Iterator[float]:
        """The perplexity of each text; NaN for one without a piece."""


class TableModel:
    """A model in tables of its own. Memory: the pages of its file that are read, and 100 bytes for a character of BATCH
    texts, of CHARACTERS and one text at most."""

    def __init__(self, pieces: Pieces, table: NgramTable) -> None:
        self.words, self.table = ManyWords(pieces), table

    def perplexities(self, texts: Iterable[str]) -> Iterator[float]:
        for batch in _batches(enumerate(texts)):
            tokens, lengths = self.words.tokens([text for _, text in batch])
            sums = np.append(0, np.cumsum(self.table.scores(tokens)))
            totals = np.diff(sums[np.append(0, np.cumsum(lengths))])
            for total, length in zip(totals.tolist(), lengths.tolist(), strict=True):
                yield _perplexity(total / UNIT, length - 2)


class NumpyModel:
    """The readable twin. Memory: the model's 24 bytes an n-gram, and BATCH texts."""

    def __init__(self, pieces: Pieces, model: NgramModel) -> None:
        self.pieces, self.model = pieces, model

    def perplexities(self, texts: Iterable[str]) -> Iterator[float]:
        rest = iter(texts)
        while batch := list(islice(rest, BATCH)):
            model = self.model
            cut = [self.pieces.cut(sentence(text)) for text in batch]
            tokens = stream(cut, vocabulary=model.vocabulary, bos=model.bos, eos=model.eos)
            scores = iter(model.log10_probabilities(tokens).tolist())
            for ids in cut:
                yield _perplexity(math.fsum(islice(scores, len(ids) + 2)), len(ids))


class KenlmModel:
    """KenLM's module: one call a document. Memory: the model's file, mapped when it is a binary."""

    def __init__(self, pieces: Pieces, model: Any) -> None:
        self.pieces, self.model = pieces, model

    def perplexities(self, texts: Iterable[str]) -> Iterator[float]:
        words, score = self.pieces.words, self.model.score
        for text in texts:
            line = words(sentence(text))
            yield _perplexity(score(line), line.count(" "))


def open_model(pieces: Location, ngrams: Location, *, kenlm: bool | None = None) -> Model:
    """The model in a SentencePiece file and a table of n-grams, an ARPA file or KenLM's binary.

    kenlm: whether KenLM's module answers for the latter two; None: where it is installed. InputError when a file is no
    such model or the n-grams are not over those pieces; PunaError for a binary without the module.
    """
    cut = read_pieces(pieces)
    if str(ngrams).endswith(".ngrams"):
        with storage.local_copy(ngrams) as path:
            return TableModel(cut, NgramTable(path, cut.pieces, ngrams))
    if kenlm is None:
        kenlm = _kenlm() is not None
    if not kenlm:
        if str(ngrams).endswith(".binary"):
            mend = "pip install 'puna[web]', or give the model's .arpa"
            raise PunaError("only KenLM's module reads its binaries", where=str(ngrams), mend=mend)
        return NumpyModel(cut, read_arpa(ngrams, cut.pieces))
    module = _kenlm()
    if module is None:
        raise PunaError("KenLM's module is not installed", mend="pip install 'puna[web]'")
    config = module.Config()
    config.show_progress = False
    config.arpa_complain = module.ARPALoadComplain.NONE
    with storage.local_copy(ngrams) as path:
        try:
            model = module.Model(str(path), config)
        except (OSError, RuntimeError) as error:
            what = f"cannot be read as an n-gram model ({str(error).splitlines()[0]})"
            raise InputError(what, where=str(ngrams), mend="write or fetch it again") from None
    wanted = [name for name in cut.spelled if name not in ("<s>", "</s>", "<unk>")]
    share = sum(name in model for name in wanted) / max(1, len(wanted))
    if share < KNOWN:
        what = f"lists {share:.0%} of the pieces of {pieces}: it is of another tokenizer"
        raise InputError(what, where=str(ngrams), mend="give the SentencePiece model that it was trained with")
    return KenlmModel(cut, model)


def measured(texts: Iterable[str], languages: npt.NDArray[Any], models: dict[str, Model]) -> Scores:
    """Perplexity of each text by the model of its language: (documents,); NaN where there is none. languages: codes as
    bytes, (documents,)."""
    found = np.full(len(languages), np.nan, np.float32)
    with np.errstate(over="ignore"):
        for numbered in _batches(enumerate(texts)):
            for code in sorted({languages[index] for index, _ in numbered}):
                model = models.get(code.decode())
                own = [(index, text) for index, text in numbered if languages[index] == code]
                if model is not None:
                    found[[index for index, _ in own]] = list(model.perplexities([text for _, text in own]))
    return found


def thresholds(source: WebPages, languages: Sequence[Place], perplexities: Sequence[Place]) -> dict[str, list[float]]:
    """Per language of a source its percentiles of perplexity, exact, over the documents that pass the language verdict.

    languages, perplexities: the score files of all shards, in the same order. The p-th percentile is the smallest score
    that p in 100 documents do not exceed (nearest rank), so neither ties nor the order of shards matter. Scores are
    positive, and as positive floats sort like their bits, two counts over the files find it: of the high 16 bits, then
    of the low ones. Memory: one shard's scores and 0.5 MB a language. A language without a document has no entry.
    """
    counts = {code: np.zeros(1 << 16, np.int64) for code in source.languages}
    for code, bits in _bits(source, languages, perplexities):
        counts[code] += np.bincount(bits >> 16, minlength=1 << 16)
    wanted: dict[str, list[tuple[int, int]]] = {}
    for code, count in counts.items():
        total = int(count.sum())
        if total:
            ends = np.cumsum(count)
            shares = [Fraction(str(percentile)) / 100 for percentile in source.perplexity_percentiles]
            ranks = [max(1, ceil(total * share)) for share in shares]
            highs = [int(np.searchsorted(ends, rank)) for rank in ranks]
            wanted[code] = [
                (high, rank - int(ends[high] - count[high])) for high, rank in zip(highs, ranks, strict=True)
            ]
    low = {(code, high): np.zeros(1 << 16, np.int64) for code, places in wanted.items() for high, _ in places}
    for code, bits in _bits(source, languages, perplexities):
        for high in {high for high, _ in wanted[code]}:
            low[code, high] += np.bincount(bits[bits >> 16 == high] & 0xFFFF, minlength=1 << 16)
    found: dict[str, list[float]] = {}
    for code, places in wanted.items():
        values = [high << 16 | int(np.searchsorted(np.cumsum(low[code, high]), rank)) for high, rank in places]
        found[code] = np.array(values, np.uint32).view(np.float32).astype(float).tolist()
    return found


def buckets(rows: language.Rows, scores: Scores, found: dict[str, list[float]]) -> npt.NDArray[np.int8]:
    """Each document's place in BUCKETS: head up to the first percentile of its language, middle up to the second. What
    has no perplexity (NaN) or no percentiles is tail. (documents,)"""
    places = np.full(len(scores), 2, np.int8)
    for code, (head, middle) in found.items():
        own = rows["language"] == code.encode()
        places[own & (scores <= middle)] = 1
        places[own & (scores <= head)] = 0
    return places


def stays(source: WebPages, places: npt.NDArray[np.int8]) -> npt.NDArray[np.bool_]:
    """The verdict: documents of a bucket that the source keeps. (documents,)"""
    kept: npt.NDArray[np.bool_] = np.isin(places, [BUCKETS.index(name) for name in source.keep_buckets])
    return kept


def _bits(
    source: WebPages, languages: Sequence[Place], perplexities: Sequence[Place]
) -> Iterator[tuple[str, npt.NDArray[np.uint32]]]:
    """Shard by shard and language by language, the scores that count, as the bits of their float32."""
    for told, scored in zip(languages, perplexities, strict=True):
        rows, scores = language.read(told), language.read_scores(scored, "<f4")
        if len(rows) != len(scores):
            raise InputError(f"has {len(scores)} scores for {len(rows)} documents", where=str(scored))
        counting = language.passes(rows, source) & ~np.isnan(scores)
        for code in source.languages:
            chosen = scores[counting & (rows["language"] == code.encode())]
            if chosen.size:
                yield code, chosen.astype(np.float32).view(np.uint32)


def _batches(texts: Iterable[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """The numbered texts in order, BATCH at a time, fewer once they have CHARACTERS together."""
    batch: list[tuple[int, str]] = []
    held = 0
    for number, text in texts:
        batch.append((number, text))
        held += len(text)
        if len(batch) == BATCH or held >= CHARACTERS:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _perplexity(log10: float, pieces: int) -> float:
    return float(10.0 ** min(-log10 / (pieces + 1), 38.0)) if pieces else float("nan")


def scorer() -> str:
    """What answers here for an ARPA file; their scores differ in their last bits, and those of tables nowhere."""
    return "numpy" if _kenlm() is None else "kenlm"


def _kenlm() -> Any:
    try:
        import kenlm  # of ufal-kenlm
    except ImportError:
        return None
    return kenlm
