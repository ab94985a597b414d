"""The sections of a recipe that make data: sources, documents, held-out text, tokenizer.

The paper's section 2.1 and Table 1. Where it gives a rule but no number, the number of the reproduction that is cited
for that source is the default; each is a key here and never a constant in the code that applies it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from puna.recipe_values import (
    Bytes,
    Fraction,
    Maybe,
    Number,
    Patterns,
    Positive,
    PositiveBytes,
    PositiveNumber,
    Share,
    Takes,
    Texts,
    TextTable,
    Whole,
)

LANGUAGES = [
    "bg", "ca", "cs", "da", "de", "en", "es", "fr", "hr", "hu",
    "it", "nl", "pl", "pt", "ro", "ru", "sl", "sr", "sv", "uk",
]  # fmt: skip


class Section(BaseModel):
    """One table of a recipe: its values never change, keys that it does not know are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class Source(Section):
    """What every source has."""

    inputs: Texts = []
    """Dumps to read: files, globs, folders, fsspec URLs, or `package:NAME/PATH` inside an installed package. None: the
    source is left out, and the other shares grow in proportion."""
    share: Share
    """Share of the training tokens (Table 1). Shares that do not sum to 1 are divided by their sum."""
    max_epochs: Maybe[PositiveNumber] = None
    """How often this source may be read at most; a cap lowers the number of training tokens before the first step."""
    heldout_groups: Texts = []
    """Groups held out by name (a page id, a package). When empty, `heldout.share` of the groups is chosen by hash."""


class Wikipedia(Source):
    languages: Texts = LANGUAGES
    """Language editions that are kept; the default is the paper's 20."""
    min_characters: Whole = 300
    """Articles with fewer characters of clean text are dropped."""
    drop_disambiguation: bool = True
    """Drop pages that only list meanings of a name."""
    drop_sections: Texts = [
        "References", "External links", "See also", "Further reading", "Notes", "Bibliography", "Sources",
    ]  # fmt: skip
    """Sections that end an article and are cut off, by their English titles."""
    keep_tables: bool = False
    """Keep the text of tables."""


class GitHub(Source):
    licences: Texts = ["MIT", "BSD", "Apache"]
    """Families of licences that are read; anything else is refused."""
    declared: TextTable = {}
    """Package -> SPDX id of its own sources, for a package whose metadata joins that licence with those of libraries it
    carries. It must be one of the licences that the metadata names."""
    extensions: Texts = [".py"]
    """Files that are read, by the end of their name."""
    max_line_length: Positive = 1000
    """Files with a longer line (in characters) are dropped."""
    mean_line_length: PositiveNumber = 100.0
    """Files whose lines are longer on average (in characters) are dropped."""
    min_alphanumeric: Fraction = 0.25
    """Files with a smaller share of letters and digits are dropped."""
    min_letters_per_token: Number = 1.5
    """Files with fewer letters a token are dropped: tables of numbers."""
    min_characters: Whole = 100
    """Files with fewer characters are dropped."""
    max_bytes: PositiveBytes = 1_000_000
    """Larger files are dropped."""
    drop_paths: Patterns = [
        r"(^|/)(third_party|thirdparty|_?vendor(ed)?|_vendored_packages|extern(al|s)?|node_modules)/",
        r"(^|/)tests?/(.*/)?data/",
        r"(^|/)(testdata|test_data|fixtures|generated)/",
        r"(_pb2(_grpc)?|_generated|\.generated)\.py$",
    ]
    """Files whose path matches one of these are dropped: code of others, generated code, test data."""


class Sources(Section):
    commoncrawl: Maybe[Source] = None
    c4: Maybe[Source] = None
    github: Maybe[GitHub] = None
    wikipedia: Maybe[Wikipedia] = None
    books: Maybe[Source] = None
    arxiv: Maybe[Source] = None
    stackexchange: Maybe[Source] = None

    def items(self) -> Iterator[tuple[str, Source]]:
        """The sources that the recipe has, in the order of Table 1."""
        for name in type(self).model_fields:
            source = getattr(self, name)
            if source is not None:
                yield name, source

    def __getitem__(self, name: str) -> Source:
        return dict(self.items())[name]

    def __contains__(self, name: object) -> bool:
        return any(name == known for known, _ in self.items())

    @model_validator(mode="after")
    def _at_least_one(self) -> Sources:
        if not list(self.items()):
            raise ValueError("no source; a recipe needs one such as [sources.wikipedia] with inputs and share")
        return self


class Data(Section):
    task_size: PositiveBytes = 32_000_000
    """Raw bytes a task reads, where the format can be cut there."""
    shard_size: PositiveBytes = 64_000_000
    """Bytes of text in one shard of documents."""
    partitions: Positive = 16
    """Parts of the exchange that finds repeats; its memory is one part."""
    max_bad_share: Fraction = 0.01
    """Share of the records that may be unreadable before the run is called failed."""


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
