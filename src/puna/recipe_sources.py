"""The sources of a recipe: what is read of each of the seven, and the number of every rule (section 2.1, Table 1).

Where the paper gives a rule but no number, the number of the reproduction that is cited for that source is the default;
each is a key here and never a constant in the code that applies it.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, model_validator

from puna.recipe_values import (
    Fraction,
    Maybe,
    Number,
    Patterns,
    Positive,
    PositiveBytes,
    PositiveNumber,
    Share,
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


class CommonCrawl(Source):
    max_payload: PositiveBytes = 5_000_000
    """Larger pages are set aside."""


class C4(Source):
    min_characters: Whole = 1
    """Pages with fewer characters are dropped."""


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


class Books(Source):
    min_characters: Whole = 1000
    """Books with fewer characters are dropped."""


class ArXiv(Source):
    min_characters: Whole = 500
    """Papers with fewer characters of text are dropped."""
    max_bytes: PositiveBytes = 10_000_000
    """Papers whose LaTeX files have more bytes together are dropped. Ours; it bounds a worker's memory."""
    keep_appendix: bool = True
    """Keep what stands behind \\appendix. The paper names the bibliography alone; RedPajama drops both."""
    keep_without_section: bool = False
    """Keep papers without any section, from behind their title and abstract on. The paper, and RedPajama, take text
    from the first section on, and so drop them."""


class StackExchange(Source):
    sites: Positive = 28
    """Sites that are read: the largest ones; all when there are fewer."""


class Sources(Section):
    commoncrawl: Maybe[CommonCrawl] = None
    c4: Maybe[C4] = None
    github: Maybe[GitHub] = None
    wikipedia: Maybe[Wikipedia] = None
    books: Maybe[Books] = None
    arxiv: Maybe[ArXiv] = None
    stackexchange: Maybe[StackExchange] = None

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
