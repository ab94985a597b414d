"""`puna fetch --benchmarks`: from a local server that has the releases' layouts, whole, killed, changed and hostile."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

import fetch_server as fakes
import made_testsets
from fetch_server import Server
from made_fetch import server as server
from puna import testsets
from puna.errors import InputError
from puna.evaluate import chosen
from puna.fetch import released
from puna.fetch.released import Release, ReleaseFile
from puna.fetch.unpack import unpack
from puna.testsets import BENCHMARKS
from typed import Says, said

ARTICLE = json.dumps({**made_testsets.ARTICLE, "id": "high12.txt"}).encode()
RACE = {"RACE/test/middle/12.txt": json.dumps(made_testsets.ARTICLE).encode(), "RACE/test/high/12.txt": ARTICLE}


def tar(files: Mapping[str, bytes], mode: str = "w:gz", link: str = "") -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if name == link:
                info.type, info.linkname, info.size = tarfile.SYMTYPE, "/etc/passwd", 0
            archive.addfile(info, io.BytesIO(data))
    return target.getvalue()


def zipped(files: Mapping[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return target.getvalue()


@pytest.fixture
def samples(bench: Path) -> dict[str, bytes]:
    """What the server has: real samples, packed as their releases are."""
    read = {path.name: path.read_bytes() for path in bench.iterdir() if path.is_file()}
    piqa = {"piqa/dev.jsonl": read["piqa.jsonl"], "piqa/dev-labels.lst": read["piqa-labels.lst"]}
    mmlu = {f"data/{path.parent.name}/{path.name}": path.read_bytes() for path in bench.glob("mmlu/*/*.csv")}
    return {
        "/hellaswag_val.jsonl": read["hellaswag.jsonl"],
        "/piqa.zip": zipped({**piqa, "piqa/train.jsonl.md": b"not wanted", "__MACOSX/piqa/._dev.jsonl": b"\0"}),
        "/data.tar": tar({"data/README.txt": b"About", "data/auxiliary_train/race.csv": b"x", **mmlu}, "w"),
        "/RACE.tar.gz": tar(RACE),
    }


KEEP = {
    "/piqa.zip": ("*/dev.jsonl", "*/dev-labels.lst"),
    "/data.tar": ("data/test/*_test.csv", "data/dev/*_dev.csv"),
    "/RACE.tar.gz": ("RACE/test/middle/*.txt", "RACE/test/high/*.txt"),
}
PATHS = {"hellaswag": "/hellaswag_val.jsonl", "piqa": "/piqa.zip", "mmlu": "/data.tar", "race": "/RACE.tar.gz"}
COUNTS = {"hellaswag": 400, "piqa": 400, "race_middle": 2, "race_high": 2}


@pytest.fixture
def says(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    server: Server,
    samples: dict[str, bytes],
) -> Says:
    """Types `puna fetch --benchmarks ...` where the releases are the server's: status, output, errors."""
    server.files.update(samples)
    real = released.releases()

    def served() -> dict[str, Release]:
        known = {"hellaswag": hashlib.sha256(samples["/hellaswag_val.jsonl"]).hexdigest()}
        return {
            name: replace(
                real[name],
                files=(ReleaseFile(server.address + path, known.get(name, ""), keep=KEEP.get(path, ())),),
            )
            for name, path in PATHS.items()
        }

    monkeypatch.setattr("puna.fetch.benchmarks.releases", served)
    mmlu = sum(mmlu_rows(samples["/data.tar"]))
    for name, count in {**COUNTS, "mmlu": mmlu}.items():
        monkeypatch.setitem(BENCHMARKS, name, replace(BENCHMARKS[name], items=count))
    monkeypatch.chdir(tmp_path)
    return partial(said, capsys, "fetch", "--benchmarks")


def mmlu_rows(data: bytes) -> Iterator[int]:
    """Rows of each test file of MMLU, counted without the project's readers."""
    import csv

    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            if member.name.startswith("data/test/"):
                file = archive.extractfile(member)
                assert file
                yield len(list(csv.reader(io.StringIO(file.read().decode("utf-8-sig"), newline=""))))


def test_the_whole_way_and_the_second_time_nobody_is_asked(says: Says, server: Server, tmp_path: Path) -> None:
    status, out, err = says("--yes", "--accept", "race")
    assert status == 0, err
    assert "HellaSwag: 400 validation items, as many as are known" in out
    assert "RACE high: 2 test items" in out
    assert "race: none; by condition; published by https://www.cs.cmu.edu" in err
    assert "condition: for non-commercial research only" in err
    found = testsets.find(tmp_path / "benchmarks")
    assert {name for name, _ in found.files} == {"hellaswag", "piqa", "mmlu", "race_middle", "race_high"}
    assert not [path for path in (tmp_path / "benchmarks").rglob("*") if "MACOSX" in str(path) or "aux" in str(path)]
    seen = json.loads((tmp_path / "benchmarks" / "checksums.json").read_text())["files"]
    assert seen.keys() == {"piqa/piqa.zip", "mmlu/data.tar", "race/RACE.tar.gz"}
    assert seen["mmlu/data.tar"]["sha256"] == hashlib.sha256(server.files["/data.tar"]).hexdigest()
    server.asked.clear()
    again = says()
    assert again[:2] == (status, out)
    assert not server.asked


def test_a_dry_run_lists_and_asks_nobody(says: Says, server: Server, tmp_path: Path) -> None:
    status, out, _ = says("hellaswag", "race", "--dry-run")
    assert status == 0
    assert "hellaswag: MIT; published by https://github.com/rowanz/hellaswag" in out
    assert f"{server.address}/RACE.tar.gz" in out
    told = json.loads(says("race_high", "--dry-run", "--json")[1])
    assert told["releases"]["race"]["condition"].startswith("for non-commercial research only")
    assert not server.asked
    assert not (tmp_path / "benchmarks").exists()


class Types:
    """A terminal at which somebody types."""

    def __init__(self, *lines: str) -> None:
        self._lines = list(lines)

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self._lines.pop(0)


def test_races_condition_has_to_be_accepted(says: Says, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    status, out, err = says("race_middle", "--yes")
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].startswith("error: race: its condition is not accepted: for non-commercial research")
    monkeypatch.setattr("puna.cli.fetching.sys.stdin", Types("y\n"))
    assert says("race", "--yes")[0] == 2
    assert not server.asked
    monkeypatch.setattr("puna.cli.fetching.sys.stdin", Types("race\n", "y\n"))
    assert says("race")[0] == 0
    assert says("race")[0] == 0  # it is there: nothing is fetched, and nothing to be accepted


def test_a_changed_checksum_is_one_line_and_an_error(says: Says, server: Server, tmp_path: Path) -> None:
    assert says("piqa", "--yes")[0] == 0
    path = tmp_path / "benchmarks" / "piqa" / "piqa.zip"
    path.write_bytes(path.read_bytes() + b"more")
    status, out, err = says("piqa", "--yes")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "piqa.zip: its sha256:" in err
    assert "was first seen on 20" in err
    path.unlink()
    server.files["/piqa.zip"] += b"more"  # at its place too
    status, out, err = says("piqa", "--yes")
    assert status == 1
    assert "was first seen on 20" in err.splitlines()[-1]
    assert not path.exists()
    server.files["/hellaswag_val.jsonl"] += b"\n"
    status, _, err = says("hellaswag", "--yes")
    assert status == 1
    assert "is published" in err.splitlines()[-1]


def test_a_file_that_changed_since_it_was_fetched_is_not_evaluated(says: Says, server: Server, tmp_path: Path) -> None:
    assert says("--yes", "hellaswag", "piqa")[0] == 0
    folder = tmp_path / "benchmarks"
    for path, benchmark in (
        (folder / "hellaswag" / "hellaswag_val.jsonl", "hellaswag"),
        (folder / "piqa" / "unpacked" / "piqa" / "dev.jsonl", "piqa"),
        (folder / "piqa" / "unpacked" / "piqa" / "dev-labels.lst", "piqa"),
    ):
        for data in (folder, folder / benchmark):
            whole = path.read_bytes()
            assert chosen.read(benchmark, data).asked
            path.write_bytes(whole.replace(b"the", b"a").replace(b"0", b"1"))
            with pytest.raises(InputError, match=f"is not the file that was fetched.*fetch --benchmarks {benchmark}"):
                chosen.read(benchmark, data)
            path.write_bytes(whole)
    (folder / "piqa.unpacked.json").write_text("[]")
    with pytest.raises(InputError, match="is no list of digests; remove it"):
        chosen.read("piqa", folder)
    (folder / "piqa.unpacked.json").unlink()
    assert chosen.read("piqa", folder).asked


def test_another_number_of_items_is_an_error(says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BENCHMARKS, "piqa", replace(BENCHMARKS["piqa"], items=1838))
    status, _, err = says("piqa", "hellaswag", "--yes")
    assert status == 1
    assert "holds 400 validation items of PIQA where 1,838 are known" in err.splitlines()[-1]
    assert "HellaSwag: 400 validation items, as many as are known" in err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("nothing",), "error: nothing is no benchmark; take one of hellaswag"),
        (("piqa", "--pay"), "error: --pay, --anew and --verify are for raw dumps"),
        (
            ("piqa", "--to", "s3://bucket/x"),
            "error: s3://bucket/x: benchmarks are fetched into a folder of this machine",
        ),
    ],
)
def test_what_is_wrong_is_one_line_and_status_2(says: Says, words: tuple[str, ...], line: str) -> None:
    status, out, err = says(*words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(line)


KILLED = """
import sys
from dataclasses import replace
from puna import cli
from puna.fetch import benchmarks, partial, released
from puna.testsets import BENCHMARKS
partial.MARK_EVERY = 20_000
address, real = sys.argv[1], released.releases()["hellaswag"]
benchmarks.releases = lambda: {"hellaswag": replace(real, files=(released.ReleaseFile(address),))}
BENCHMARKS["hellaswag"] = replace(BENCHMARKS["hellaswag"], items=400)
sys.argv = ["puna", "fetch", "--benchmarks", "--yes", "--to", sys.argv[2]]
cli.main()
"""


def test_killed_in_the_middle_it_goes_on(server: Server, samples: dict[str, bytes], tmp_path: Path) -> None:
    path, data = "/hellaswag_val.jsonl", samples["/hellaswag_val.jsonl"]
    server.files[path] = data
    server.faults[path].append(fakes.slowly(held := threading.Event()))
    command = [sys.executable, "-c", KILLED, server.address + path, str(tmp_path / "to")]
    half = tmp_path / "to" / "hellaswag" / f".fetch-{path[1:]}.json"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        for _ in range(1000):
            if half.exists():
                break
            time.sleep(0.01)
        process.kill()
    held.set()
    assert half.exists()
    assert not (tmp_path / "to" / "hellaswag" / path[1:]).exists()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "HellaSwag: 400 validation items, as many as are known\n"
    assert (tmp_path / "to" / "hellaswag" / path[1:]).read_bytes() == data
    assert server.ranges(path)[-1].startswith("bytes=")


KEPT = ("RACE/test/*/*.txt",)


@pytest.mark.parametrize(
    ("name", "data", "line"),
    [
        ("a.tar.gz", tar({**RACE, "../../out.txt": b"x"}), "'../../out.txt', a path that leads out of its folder"),
        ("a.tar.gz", tar({"/etc/out.txt": b"x", **RACE}), "'/etc/out.txt', a path that leads out of its folder"),
        ("a.zip", zipped({**RACE, "RACE/test/../../../out.txt": b"x"}), "a path that leads out of its folder"),
        ("a.zip", zipped({**RACE, "RACE\\..\\out.txt": b"x"}), "a path that leads out of its folder"),
        ("a.tar.gz", tar(RACE, link="RACE/test/high/12.txt"), "'RACE/test/high/12.txt' as a link or a device"),
        ("a.tar.gz", tar({"other.txt": b"x"}), "holds none of RACE/test/*/*.txt"),
        ("a.tar.gz", tar({**RACE, "RACE/test/high/13.txt": bytes(5000)}), "unpacks to more than 4,000 bytes"),
        ("a.tar.gz", tar(RACE)[:200], "is no archive, or is damaged"),
        ("a.zip", zipped(RACE)[:-30], "is no archive, or is damaged"),
        ("a.tar.gz", b"<html>moved</html>", "is no archive, or is damaged"),
    ],
)
def test_an_archive_that_would_do_harm_is_refused_and_leaves_nothing(
    name: str, data: bytes, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("puna.fetch.unpack.LARGEST", 4000)
    archive = tmp_path / "in" / name
    archive.parent.mkdir()
    archive.write_bytes(data)
    with pytest.raises(InputError) as error:
        unpack(archive, KEPT, archive.parent / "unpacked")
    assert line in str(error.value)
    assert str(error.value).startswith(str(archive))
    assert [path.name for path in tmp_path.rglob("*")] == ["in", name]


def test_every_benchmark_is_published_somewhere() -> None:
    releases = released.releases()
    assert {name for each in releases.values() for name in each.benchmarks} == BENCHMARKS.keys()
    assert [each.name for each in releases.values() if each.condition] == ["race"]
    for each in releases.values():
        assert each.published_by.startswith("https://")
        assert each.licence
        assert each.source
        assert len({file.name for file in each.files}) == len(each.files)
        for file in each.files:
            assert file.url.startswith("https://")
            assert bool(file.sha256) == bool(file.known)
            assert file.sha256 == "" or (len(file.sha256) == 64 and int(file.sha256, 16))
            assert bool(file.keep) == file.name.endswith((".zip", ".tar", ".tar.gz"))


def test_the_documents_say_of_each_what_the_list_says() -> None:
    told = (Path(__file__).parents[1] / "docs" / "fetch.md").read_text("utf-8")
    for each in released.releases().values():
        (row,) = [line for line in told.split("\n") if line.startswith(f"| `{each.benchmarks[0]}`")]
        assert all(word in row for word in (each.published_by, each.licence, each.condition, each.source))
        assert all(file.name in row and file.sha256[:8] in row for file in each.files)
