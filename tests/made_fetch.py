"""What tests of fetching share: time that does not pass, a server's file, a recipe that asks it for all seven."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fetch_server import Server, fill, serving, tables
from puna import fetch, recipe
from puna.fetch import Options, download
from puna.fetch.client import Client, Clock, Gate
from puna.fetch.download import Door, Fetched
from puna.fetch.file import File

DATA = random.Random(1).randbytes(100_000)
SHA1 = f"sha1:{hashlib.sha1(DATA).hexdigest()}"


class Waits(Clock):
    """Time that passes only by waiting, and what was waited."""

    def __init__(self) -> None:
        super().__init__(now=lambda: self.time)
        self.time = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.check()
        self.slept.append(seconds)
        self.time += seconds


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    with serving() as server:
        fill(server)
        server.files["/a.bin"] = DATA
        yield server


@pytest.fixture
def clock() -> Waits:
    return Waits()


Get = Callable[..., bytes]


@pytest.fixture
def one(server: Server, clock: Waits, tmp_path: Path) -> Get:
    """Fetches a path of the server, and gives the bytes that stand here then."""

    def one(path: str = "/a.bin", redirects: tuple[str, ...] = (), **told: object) -> bytes:
        file = File(Path(path).name, server.address + path, **told)  # type: ignore[arg-type]
        door = Door(Client("", redirects), Gate(clock, 2, 0.0), clock)
        got: list[Fetched] = []
        came: list[int] = []
        fetched = download.download(file, tmp_path / file.name, door, came.append, got.append)
        data = (tmp_path / file.name).read_bytes()
        assert got == [fetched]
        assert fetched.size == len(data)
        if file.limit is None:
            assert sum(came) == len(data)
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".fetch-")] == []
        return data

    return one


SOURCES = ["commoncrawl", "c4", "github", "wikipedia", "books", "arxiv", "stackexchange"]
MODEL = "[model]\ndim = 64\nheads = 2\nlayers = 2\n[train]\nsteps = 5\nlearning_rate = 1e-3\n"
WARC = "commoncrawl/CC-MAIN-2019-09/CC-MAIN-20190215183319-20190215205319-0000{}.warc.gz"
HERE = {
    WARC.format(0), WARC.format(1), "c4/c4-validation.00003-of-00008.json.gz", "github/pytest-dev/pluggy-1.5.0.tar.gz",
    "wikipedia/simplewiki-20261101-pages-articles-multistream1.xml-p1p5.bz2",
    "wikipedia/simplewiki-20261101-pages-articles-multistream2.xml-p6p10.bz2",
    "books/pg1.txt", "books/pg5.txt", "arxiv/arXiv_src_2001_001.tar", "stackexchange/ai.stackexchange.com.7z",
}  # fmt: skip


@pytest.fixture
def written(server: Server, tmp_path: Path) -> Path:
    """A recipe that asks the server for something of each place."""
    sources = "".join(f"[sources.{name}]\nshare = 0.1\n" for name in SOURCES)
    path = tmp_path / "small.toml"
    path.write_text(f'name = "small"\n{sources}{tables(server.address, tmp_path / "dumps")}{MODEL}')
    return path


def get(written: Path, *names: str, overrides: tuple[str, ...] = (), **options: bool) -> str:
    waiting = Options(clock=Waits(), **options)
    return fetch.fetch(fetch.plan(recipe.load(written, overrides), names, waiting))


def there(to: Path) -> dict[str, bytes]:
    """What readers see: all but hidden names and the accounts beside the folders."""
    files = {path.relative_to(to).as_posix(): path.read_bytes() for path in to.rglob("*") if path.is_file()}
    return {name: data for name, data in files.items() if "/" in name and not Path(name).name.startswith(".")}


KILLED = """
import sys
from puna import cli
from puna.fetch import partial
partial.MARK_EVERY = 20_000
sys.argv = ["puna", "fetch", *sys.argv[1:]]
cli.main()
"""
