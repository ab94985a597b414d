"""What `puna fetch` brings of each source: the `[fetch]` tables of a recipe (section 2.1 names the data sets).

They stand apart from `[sources]`, since where a dump came from changes nothing of what is made of it: no step of a run
depends on a key here. A source with a `[fetch.NAME]` table and no `inputs` of its own reads the folder that its dumps
are put into.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from puna.recipe_layers import DEFAULT, Key, Origins, Values
from puna.recipe_sources import Section
from puna.recipe_values import Maybe, Number, Positive, PositiveBytes, Takes, Texts, Whole

TO = "dumps"


def _address(value: str) -> str:
    protocol, separator, rest = value.partition("://")
    host = rest.partition("/")[0]
    if not separator or protocol not in ("http", "https", "s3") or not host or "@" in host or not value.isprintable():
        raise ValueError("an address begins with https://, http:// or s3:// and holds no user name")
    return value.rstrip("/")


def _plain(pattern: str) -> Any:
    return Field(pattern=pattern)


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Address = Annotated[str, AfterValidator(_address), Takes('an address, such as "https://mirror.example.org/dumps"')]
Snapshots = Annotated[
    list[Annotated[str, _plain(r"^CC-MAIN-[0-9]{4}(-[0-9]{2}){1,2}$")]],
    Field(min_length=1),
    Takes('a list of snapshots, such as ["CC-MAIN-2019-09"]'),
]
Segments = Annotated[
    list[Annotated[str, _plain(r"^[0-9]+(\.[0-9]+)?$")]], Takes('a list of segments, such as ["1550247479101.30"]')
]
Numbers = Annotated[list[Whole], Field(min_length=1), Takes("a list of whole numbers, such as [0, 1]")]
Editions = Annotated[
    list[Annotated[str, _plain(r"^[a-z][a-z0-9_-]{1,30}$")]],
    Field(min_length=1),
    Takes('languages, such as ["en", "de"]'),
]
Date = Annotated[
    str, BeforeValidator(_as_text), _plain(r"^(latest|[0-9]{8})$"), Takes('a day such as "20220620", or "latest"')
]
Months = Annotated[
    list[Annotated[str, _plain(r"^[0-9]{4}$")]],
    Field(min_length=1),
    Takes('a list of months as YYMM, such as ["2001"]'),
]
Sites = Annotated[
    list[Annotated[str, _plain(r"^[a-z0-9][a-z0-9.-]{1,80}(-Posts)?$")]],
    Field(min_length=1),
    Takes('a list of sites, such as ["physics.stackexchange.com"]'),
]
Repositories = Annotated[
    list[Annotated[str, _plain(r"^[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+@[A-Za-z0-9][A-Za-z0-9._-]*$")]],
    Field(min_length=1),
    Takes('a list of repositories at a tag or commit, such as ["psf/requests@v2.32.3"]'),
]


class Place(Section):
    """What every place has: where it is, and how it may be asked."""

    base: Address
    """The place, or a mirror of its layout."""
    connections: Positive = 2
    """Connections to this place at the same time."""
    pause: Number = 0.0
    """Seconds between the beginnings of two requests to it."""
    redirects: Texts = Field(default=[])
    """Hosts, with all below them, that it may send on to; its own host always may."""


class FetchCommonCrawl(Place):
    base: Address = "https://data.commoncrawl.org"
    """Common Crawl, or a mirror of its layout."""
    snapshots: Snapshots
    """Monthly crawls."""
    kind: Literal["warc", "wet"] = "warc"
    """Pages as they were answered, or their text as Common Crawl extracts it."""
    segments: Segments = Field(default=[])
    """Segments that are taken; none: all."""
    files: Positive = 1
    """Files of each snapshot: the first of its list, after `skip`."""
    skip: Whole = 0
    """Files of each snapshot's list that are passed over first."""
    bytes: Maybe[PositiveBytes] = None
    """Of each file only so much from its beginning, cut behind its last whole record; unset: all."""


class FetchC4(Place):
    base: Address = "https://huggingface.co/datasets/allenai/c4"
    """The data set's repository, or a mirror of its layout."""
    revision: Annotated[str, _plain(r"^[A-Za-z0-9][A-Za-z0-9._-]*$"), Takes("a branch, tag or commit in quotes")] = (
        "main"
    )
    """State of the repository."""
    split: Literal["train", "validation"] = "train"
    """Which files: 1,024 of about 320 MB, or 8 of about 40 MB."""
    numbers: Numbers = Field(default=[0])
    """Which of them, counted from 0."""
    redirects: Texts = Field(default=["huggingface.co", "hf.co"])
    """Hosts, with all below them, that it may send on to; its own host always may."""


class FetchGitHub(Place):
    base: Address = "https://codeload.github.com"
    """Where GitHub hands out archives."""
    repositories: Repositories
    """OWNER/NAME@REF, each fetched as one archive of that tag or commit."""


class FetchWikipedia(Place):
    base: Address = "https://dumps.wikimedia.org"
    """Wikimedia's dumps, or a mirror of their layout."""
    languages: Editions
    """Editions: en is enwiki."""
    date: Date = "latest"
    """Day of the dump. Wikimedia keeps the last few; latest: the newest one when it is first asked."""
    files: Maybe[Positive] = None
    """Large editions come in several files: how many of them, from the first; unset: all."""
    bytes: Maybe[PositiveBytes] = None
    """Of each file only so much from its beginning, cut where a hundred pages end; unset: all."""


class FetchBooks(Place):
    base: Address = "https://gutenberg.pglaf.org"
    """A mirror of Project Gutenberg; its own pages are for people alone."""
    catalogue: Address = "https://www.gutenberg.org/cache/epub/feeds/pg_catalog.csv"
    """The catalogue that it publishes for programs."""
    languages: Texts = Field(default=["en"])
    """Languages that are taken, as the catalogue writes them."""
    ids: Annotated[list[Positive], Takes("a list of whole numbers, such as [1342, 84]")] = Field(default=[])
    """Books by number; none: all of those languages."""
    files: Maybe[Positive] = None
    """How many books at most, by number from the lowest; unset: all."""
    connections: Positive = 1
    """Connections to this place at the same time."""
    pause: Number = 2.0
    """Seconds between the beginnings of two requests to it; 2 is what Project Gutenberg shows to programs."""


class FetchArXiv(Place):
    base: Address = "s3://arxiv"
    """arXiv's bucket, where the one who asks pays, or a mirror of its layout."""
    months: Months
    """Months of submission."""
    files: Maybe[Positive] = None
    """Files of each month, from the first; unset: all."""
    bytes: Maybe[PositiveBytes] = None
    """Of each file only so much from its beginning, cut behind its last whole paper; unset: all."""
    price: Number = 0.09
    """Dollars for a GB out of the bucket, of which the cost is said; Amazon's list says what holds today."""


class FetchStackExchange(Place):
    base: Address = "https://archive.org/download/stackexchange"
    """The Internet Archive's item, or a mirror of its layout."""
    sites: Sites
    """Sites by host name; a site that comes in several archives is named with what follows, such as
    stackoverflow.com-Posts."""
    redirects: Texts = Field(default=["archive.org"])
    """Hosts, with all below them, that it may send on to; its own host always may."""


class Fetch(Section):
    to: Annotated[str, Field(min_length=1), Takes("a folder or URL in quotes")] = TO
    """The folder that `puna fetch` fills, one folder a source in it; a URL is one of an object store."""
    contact: Annotated[str, Field(max_length=200), _plain(r"^[ -~]*$"), Takes("an address in quotes")] = ""
    """A page or mail address of yours, told to servers behind Puna's name and version; Wikimedia asks for one."""
    commoncrawl: Maybe[FetchCommonCrawl] = None
    c4: Maybe[FetchC4] = None
    github: Maybe[FetchGitHub] = None
    wikipedia: Maybe[FetchWikipedia] = None
    books: Maybe[FetchBooks] = None
    arxiv: Maybe[FetchArXiv] = None
    stackexchange: Maybe[FetchStackExchange] = None

    def items(self) -> Iterator[tuple[str, Place]]:
        """The sources that are fetched, in the order of Table 1."""
        for name in type(self).model_fields:
            place = getattr(self, name)
            if isinstance(place, Place):
                yield name, place


def lay_inputs(values: Values, origins: Origins) -> None:
    """Have each source that is fetched, and says nothing of its inputs, read the folder of its dumps. In place; what
    is no table is left for validation to refuse."""
    fetch, sources = values.get("fetch"), values.get("sources")
    if not isinstance(fetch, dict) or not isinstance(sources, dict):
        return
    to = fetch.get("to", TO)
    for name, place in fetch.items():
        source = sources.get(name)
        if isinstance(place, dict) and isinstance(source, dict) and "inputs" not in source and isinstance(to, str):
            source["inputs"] = [f"{to.rstrip('/')}/{name}"]
            key: Key = ("sources", name, "inputs")
            origins[key] = next((who for known, who in origins.items() if known[:2] == ("fetch", name)), DEFAULT)
