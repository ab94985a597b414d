"""`puna fetch` as it is typed: what it says, what it asks, with which status it ends."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

import fetch_server as fakes
from fetch_server import Server
from made_fetch import KILLED, there
from made_fetch import server as server
from made_fetch import written as written
from typed import Says, said


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Says:
    """Types a command: exit status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    return partial(said, capsys, "fetch")


def test_it_says_what_it_fetches_and_where_to_go_from_there(says: Says, written: Path, tmp_path: Path) -> None:
    status, out, err = says(written, "books", "wikipedia", "--yes")
    assert status == 0
    assert "wikipedia      2 files, " in err
    assert "To fetch       5 files, about " in err
    assert out.splitlines()[-1] == f"Next   puna run {written}"
    assert {name.split("/")[0] for name in there(tmp_path / "dumps")} == {"books", "wikipedia"}


def test_a_dry_run_lists_files_with_sizes_and_writes_nothing(says: Says, written: Path, tmp_path: Path) -> None:
    status, out, _ = says(written, "--dry-run")
    assert status == 0
    assert "wikipedia/simplewiki-20261101-pages-articles-multistream1.xml-p1p5.bz2" in out
    assert not (tmp_path / "dumps").exists()
    status, out, _ = says(written, "c4", "--dry-run", "--json")
    told = json.loads(out)
    assert (status, told["format"]) == (0, 1)
    (file,) = told["sources"]["c4"]["files"]
    assert file["name"] == "c4-validation.00003-of-00008.json.gz"
    assert file["size"] == told["bytes_left"] > 0


def test_json_is_one_document_when_it_fetched_too(says: Says, written: Path) -> None:
    status, out, _ = says(written, "books", "--yes", "--json", "--quiet")
    assert status == 0
    assert json.loads(out)["sources"]["books"]["missing"] == 0


def test_nothing_is_fetched_without_a_yes(
    says: Says, written: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    status, _, err = says(written, "books")
    assert status == 2
    assert "error: there is no terminal to ask on whether to fetch; give --yes" in err
    monkeypatch.setattr("puna.cli.fetching.sys.stdin", Answers("n\n"))
    assert says(written, "books")[:2] == (0, "nothing was fetched\n")
    assert not (tmp_path / "dumps").exists()
    monkeypatch.setattr("puna.cli.fetching.sys.stdin", Answers("y\n"))
    assert says(written, "books")[0] == 0
    assert len(there(tmp_path / "dumps")) == 2


def test_the_examples_of_its_help_work(
    says: Says, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("puna.fetch.planned.Bucket", lambda: pytest.fail("a place that bills was asked"))
    status, out, _ = says("--help")
    assert status == 0
    examples = [shlex.split(line) for line in re.findall(r"^\W*puna fetch (web .*?)\W*$", out, re.MULTILINE)]
    assert len(examples) == 2
    for _, *words in examples:
        status, out, err = says(written, "fetch.arxiv.base=s3://arxiv", *words, "--dry-run")
        assert status == 0
        assert all(line.startswith("asking ") for line in err.splitlines())
        assert "c4/c4-validation.00003-of-00008.json.gz" in out
    assert not (tmp_path / "dumps").exists()


class Answers:
    """A terminal at which somebody types."""

    def __init__(self, line: str) -> None:
        self._line = line

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self._line


def test_another_folder_is_named_for_the_run_too(says: Says, written: Path, tmp_path: Path) -> None:
    status, out, _ = says(written, "books", "--to", tmp_path / "big dumps", "--yes")
    assert status == 0
    assert out.splitlines()[-1] == f"Next   puna run {written} 'fetch.to=\"{tmp_path}/big dumps\"'"
    assert len(there(tmp_path / "big dumps")) == 2


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("laptop",), "the recipe laptop says nothing of what to fetch; write [fetch.NAME] tables"),
        (("web", "nothing"), "the recipe web has no [fetch.nothing]; it has commoncrawl, c4"),
        (("web", "books", "--to", "s3:///dumps"), "s3:///dumps: names no bucket; is a variable of the shell unset?"),
        (("web", "--to", ""), "--to is empty"),
        (("web",), "arxiv: s3://arxiv bills the one who asks, about 0.09 dollars for a GB"),
        (("web", "fetch.books.files=0"), "fetch.books.files takes a whole number above 0"),
        (("web", "fetch.c4.base=http://me:secret@host/"), "fetch.c4.base takes an address"),
    ],
)
def test_what_is_wrong_is_one_line_and_status_2(words: tuple[str, ...], line: str, says: Says) -> None:
    status, out, err = says(*words)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {line}")
    assert err.count("\n") == 1


def test_a_file_that_cannot_be_had_is_status_1(says: Says, written: Path, server: Server) -> None:
    del server.files["/pytest-dev/pluggy/tar.gz/1.5.0"]
    status, _, err = says(written, "github", "--yes")
    assert status == 1
    assert err.splitlines()[-1].startswith("error: http://127.0.0.1")


def test_an_interrupted_fetch_ends_with_130_and_goes_on(server: Server, written: Path, tmp_path: Path) -> None:
    path = "/download/stackexchange/ai.stackexchange.com.7z"
    server.faults[path].append(fakes.slowly(held := threading.Event()))
    command = [sys.executable, "-c", KILLED, str(written), "stackexchange", "--yes"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for _ in range(1000):
            if server.count(path):
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
        held.set()
        assert process.stderr.read().splitlines()[-1] == "interrupted; the same command goes on where it was"
    assert process.returncode == 130
    assert there(tmp_path / "dumps") == {}
    subprocess.run(command, capture_output=True, check=True)
    assert there(tmp_path / "dumps") == {path[10:]: server.files[path]}
