"""The sources of a recipe: what is read of each of the seven, and the number of every rule (section 2.1, Table 1).

Where the paper gives a rule but no number, the number of the reproduction that is cited for that source is the default;
each is a key here and never a constant in the code that applies it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from puna.recipe_values import (
    Fraction,
    Integer,
    Maybe,
    Number,
    Patterns,
    Percentiles,
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
    """One table of a recipe: its values never change, keys that it does not know are refused.

    What validates is built when it is first asked for, and the strings under keys are read where they are shown
    (recipe_text.py): a worker is given a recipe that was validated, and starts in half the time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


class Source(Section):
    """What every source has."""

    LATER: ClassVar[frozenset[str]] = frozenset({"inputs", "share", "max_epochs", "heldout_groups"})
    """Values that the cleaning of raw records never sees."""

    inputs: Texts = []
    """Dumps to read: files, globs, folders, fsspec URLs, or `package:NAME/PATH` inside an installed package. None: the
    source is left out, and the other shares grow in proportion; not given at all, beside a `[fetch.NAME]` table: the
    folder that `puna fetch` fills."""
    share: Share
    """Share of the training tokens (Table 1). Shares that do not sum to 1 are divided by their sum."""
    max_epochs: Maybe[PositiveNumber] = None
    """How often this source may be read at most; a cap lowers the number of training tokens before the first step."""
    heldout_groups: Texts = []
    """Groups held out by name (a page id, a package). When empty, `heldout.share` of the groups is chosen by hash."""


class WebPages(Source):
    """What is asked of web pages in WARC and WET files, whichever source they are for."""

    LATER = Source.LATER | {
        "paragraphs", "paragraph_parts", "near", "min_similarity", "languages", "min_language_score",
        "perplexity_percentiles", "keep_buckets", "min_reference_score",
    }  # fmt: skip

    max_payload: PositiveBytes = 5_000_000
    """Larger pages are set aside. Common Crawl itself cuts pages at 1 MiB. Ours."""
    statuses: Texts = ["200"]
    """HTTP statuses of pages that are kept. Common Crawl keeps others apart from its WARC files of pages."""
    mime_types: Texts = ["text/html", "application/xhtml+xml"]
    """Content types of pages that are kept, in lower case."""
    max_undecoded: Fraction = 0.01
    """Pages with a larger share of characters that their charset does not have are set aside. Ours."""
    drop_truncated: bool = False
    """Drop pages that the crawl cut off. The paper does not say, CCNet does not ask."""
    respect_robots: bool = False
    """Drop pages whose robots rules, in HTTP or `meta`, say noindex or noarchive. CCNet does not ask."""
    paragraphs: Literal["keep", "drop", "keep-first"] = "keep"
    """What becomes of lines that occur twice or more: "drop" takes every copy, as CCNet does; "keep-first" leaves that
    of the document with the smallest id."""
    paragraph_parts: Positive = 1
    """Parts that documents are dealt to by their ids; repeated lines are looked for within each. 1: in all documents.
    CCNet compares 50 of 1,600 shards, as 32 parts do."""
    near: Literal["none", "minhash"] = "none"
    """Near duplicates among pages: "minhash" finds them and keeps one of each group. The paper looks for none."""
    min_similarity: Fraction = 0.8
    """Pages that share at least this part of their 5-grams of words (Jaccard) are near duplicates. Ours; for `near`."""
    min_reference_score: Maybe[Fraction] = None
    """Pages that the classifier of pages cited by Wikipedia gives a lower score are dropped; "none": there is no
    classifier for this source. The paper names no number; RedPajama: 0.25."""
    languages: Texts = []
    """Languages that are kept, by fastText's codes ("en"); none: none is told and all are kept. The paper keeps
    English."""
    min_language_score: Fraction = 0.5
    """Pages whose language is told with a lower score are dropped. CCNet."""
    perplexity_percentiles: Percentiles = []
    """Percentiles of perplexity, of each language's pages, that part head from middle and middle from tail, such as
    [30, 60] (CCNet's); none: perplexity is not asked."""
    keep_buckets: list[Literal["head", "middle", "tail"]] = ["head", "middle"]
    """Which of the three are kept. The paper does not say; RedPajama keeps these."""

    @model_validator(mode="after")
    def _perplexity_has_a_language(self) -> WebPages:
        if self.perplexity_percentiles and not self.languages:
            raise ValueError("perplexity_percentiles needs languages: a model is of one language")
        if self.perplexity_percentiles and set(self.keep_buckets) == {"head", "middle", "tail"}:
            raise ValueError("keep_buckets keeps all there are: name fewer, or set perplexity_percentiles = []")
        idle = (
            ("keep_buckets", self.perplexity_percentiles, "without perplexity_percentiles, such as [30, 60]"),
            ("min_language_score", self.languages, 'without languages, such as ["en"]'),
            ("paragraph_parts", self.paragraphs != "keep", 'while paragraphs = "keep"'),
            ("min_similarity", self.near != "none", 'without near = "minhash"'),
        )
        for key, on, otherwise in idle:
            if not on and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} changes nothing {otherwise}")
        if not self.keep_buckets:
            raise ValueError('keep_buckets keeps nothing; name at least one, such as ["head"]')
        return self


class CommonCrawl(WebPages):
    LATER = WebPages.LATER | {"min_characters"}

    min_characters: Whole = 0
    """Pages of which fewer characters are left, once repeated lines are gone, are dropped. CCNet: 300."""
    prose_characters: Positive = 60
    """Lines with so many characters are prose, and those of half as many that end like a sentence: the main text is
    trimmed to where prose stands. Measured on pages marked by hand (docs/log.md)."""
    other_line_cost: Whole = 40
    """Characters of prose that must stand beyond a line of another kind to keep it. Measured likewise."""
    look_again_below: Whole = 500
    """A main text with fewer characters is looked for again among hidden elements, and with a fifth of them in the
    whole page. Measured likewise."""


class C4(WebPages):
    LATER = WebPages.LATER | {"spans", "published_spans"}

    published: bool = True
    """JSON lines are C4 as published and taken as they are; false: C4's rules are applied to them too. Pages of WARC
    and WET files always go through the rules."""
    min_words: Whole = 5
    """Lines with fewer words are left out. C4 as it was published; the first version of its paper says 3."""
    min_sentences: Whole = 3
    """Pages with fewer sentences are dropped. C4 as it was published; the first version of its paper says 5."""
    end_marks: Texts = [".", "?", "!", '"', "'", "”", "’"]
    """Lines that end in none of these are left out. C4, and the curly quotation marks that its pages have as well."""
    ellipsis: Texts = ["...", "…"]
    """Lines that end in one of these are left out all the same. C4."""
    drop_lines: Texts = [
        "javascript", "terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies",
        "use cookies",
    ]  # fmt: skip
    """Lines with one of these, in any case, are left out. C4."""
    drop_pages: Texts = ["lorem ipsum", "{"]
    """Pages with one of these, in any case, are dropped. C4."""
    bad_words: Texts = []
    """Files of words, one a line; pages with one of them are dropped. C4 used a public list, which is yours to name."""
    min_characters: Whole = 1
    """Pages with fewer characters are dropped."""
    max_line: PositiveBytes = 8_000_000
    """Longer JSON lines are set aside. Ours."""
    spans: Whole = 0
    """Sentences in a row that make a span; of spans that occur more than once all but one go. C4: 3; 0: none go."""
    published_spans: bool = False
    """Look for spans in published JSON lines too, from which C4's authors took them already."""

    @model_validator(mode="after")
    def _one_unit(self) -> C4:
        if self.spans and self.paragraphs != "keep":
            raise ValueError('spans and paragraphs cannot both be on: give spans = 0 or paragraphs = "keep"')
        return self


class GitHub(Source):
    licences: Texts = ["MIT", "BSD", "Apache"]
    """Families of licences that are read; anything else is refused."""
    declared: TextTable = {}
    """Package -> SPDX id of its own sources, for a package whose metadata joins that licence with those of libraries it
    carries. It must be one of the licences that the metadata names."""
    extensions: Texts = [
        ".asm", ".bat", ".c", ".cc", ".clj", ".cmake", ".cmd", ".cpp", ".cs", ".css", ".cu", ".cuh", ".cxx", ".dart",
        ".el", ".erl", ".ex", ".exs", ".f90", ".f95", ".go", ".h", ".hh", ".hpp", ".hs", ".html", ".java", ".jl", ".js",
        ".jsx", ".kt", ".lisp", ".lua", ".m", ".md", ".mjs", ".ml", ".php", ".pl", ".pm", ".ps1", ".py", ".pyi", ".pyx",
        ".r", ".R", ".rb", ".rs", ".scala", ".scm", ".sh", ".sql", ".swift", ".tex", ".ts", ".tsx", ".vb",
        "Dockerfile", "Makefile",
    ]  # fmt: skip
    """Files that are read, by the end of their name: source code and its Markdown, no data. The paper names no list;
    this one is ours, close to those of public sets of code."""
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
        r"([._]min|\.bundle)\.(js|css|mjs)$",
        r"(\.pb\.(go|cc|h)|_generated\.(go|rs|ts|js|h|cc|cpp)|\.g\.(dart|cs)|\.designer\.cs)$",
    ]
    """Files whose path matches one of these are dropped: code of others, generated and minified code,
    test data."""


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
    """Keep the text of tables, a row a line, cells between bars."""
    parser: Literal["fast", "exact"] = "fast"
    """How mark-up is read: `exact` parses every page whole, `fast` gives the same text, cleans nine times as fast
    as mwparserfromhell alone and parses only the pages that it is not sure of."""


class Books(Source):
    LATER = Source.LATER | {"max_containment"}

    languages: Texts = []
    """Languages that are kept, as a book's header names them; none: all. A file that names none is kept."""
    keep_copyrighted: bool = False
    """Keep books that are under copyright and that their owners lent to Project Gutenberg."""
    min_characters: Whole = 1000
    """Books with fewer characters are dropped."""
    max_bytes: PositiveBytes = 50_000_000
    """Larger files are dropped: a book is read whole."""
    max_containment: Maybe[Annotated[Fraction, Field(lt=1), Takes("a number from 0, below 1")]] = None
    """Of books that share more of the smaller one's 5-grams of words, one is kept. The paper: 0.9; "none": all stay."""


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
    """Sites that are read: the largest ones by bytes of their Posts.xml; all when there are fewer (section 2.1)."""
    keep_closed: bool = True
    """Keep questions that were closed, as RedPajama does."""
    keep_deleted: bool = False
    """Keep posts that are marked as deleted. Published dumps hold none."""
    keep_unanswered: bool = True
    """Keep questions without an answer, as RedPajama does."""
    min_question_score: Maybe[Integer] = None
    """Questions with a lower score are dropped with their answers; "none" keeps all, as RedPajama does."""
    min_answer_score: Maybe[Integer] = None
    """Answers with a lower score are dropped; "none" keeps all, as RedPajama does."""
    min_characters: Whole = 1
    """Questions that make fewer characters, answers included, are dropped. RedPajama drops none."""


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
