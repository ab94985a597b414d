"""Runs on an object store: what storage promises of a disk holds there too, over the S3 protocol."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from object_store import ObjectStore, serving
from puna import lock, storage
from puna.errors import InputError
from puna.lines import Appender


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with serving() as found:
        yield found


@pytest.fixture
def folder(store: ObjectStore, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> storage.Place:
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    return storage.place(store.url(request.node.name))


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    monkeypatch.setattr(storage, "border", lambda event, location: found.append((event, location.rpartition("/")[2])))
    return found


def test_an_object_is_one_completed_upload(folder: storage.Place) -> None:
    storage.write(folder / "a" / "file", b"old")
    with pytest.raises(KeyError), storage.create(folder / "a" / "file") as file:
        file.write(b"half")
        raise KeyError
    assert storage.read(folder / "a" / "file") == b"old"
    assert storage.tree(folder) == {"a/file": 3}
    assert [storage.below(path, folder) for path in storage.listing(folder, "*/*")] == ["a/file"]
    before = storage.look(folder / "a" / "file")
    storage.write(folder / "a" / "file", b"new")
    assert storage.look(folder / "a" / "file") != before
    storage.move(folder / "a" / "file", folder / "b c" / "ü#%.txt")
    assert storage.tree(folder) == {"b c/ü#%.txt": 3}
    storage.remove(folder)
    storage.remove(folder)
    assert storage.tree(folder) == {}


def test_one_process_alone_can_claim_a_name(folder: storage.Place) -> None:
    assert storage.claim(folder / "lock", b"first")
    assert not storage.claim(folder / "lock", b"second")
    assert storage.read(folder / "lock") == b"first"


def test_the_marker_of_a_folder_is_uploaded_last(folder: storage.Place, events: list[tuple[str, str]]) -> None:
    with storage.create_folder(folder / "step", last="a.json") as inside:
        for name in ("b", "a.json", "z"):
            (inside / name).write_text(name)
    assert [name for event, name in events if event == "after write"] == ["b", "z", "a.json"]
    assert storage.tree(folder) == {"step/a.json": 6, "step/b": 1, "step/z": 1}
    with pytest.raises(KeyError), storage.create_folder(folder / "other") as inside:
        (inside / "b").write_text("b")
        raise KeyError
    assert not storage.tree(folder / "other")


def test_lines_stand_once_they_are_synced_and_a_half_one_is_cut_off(folder: storage.Place) -> None:
    lines = Appender(folder / "metrics.jsonl")
    lines.line("one")
    lines.sync()
    lines.line("two")  # not synced: a process that is killed here loses it
    assert storage.read(folder / "metrics.jsonl") == b"one\n"
    storage.write(folder / "metrics.jsonl", b"one\nha")
    again = Appender(folder / "metrics.jsonl")
    again.line("three")
    again.close()
    assert storage.read(folder / "metrics.jsonl") == b"one\nthree\n"


def test_a_local_copy_has_the_bytes_and_the_name(folder: storage.Place) -> None:
    storage.write(folder / "model.bin", b"abc")
    with storage.local_copy(folder / "model.bin") as copy:
        assert (copy.name, copy.read_bytes()) == ("model.bin", b"abc")
    assert not copy.exists()
    with pytest.raises(InputError, match="missing: no such file"), storage.local_copy(folder / "missing"):
        pass


def test_a_run_there_has_one_writer(folder: storage.Place) -> None:
    with lock.locked(folder):
        held = lock.holder(folder)
        assert held
        assert (held.pid, held.alive) == (os.getpid(), True)
        with pytest.raises(InputError, match="which is running"), lock.locked(folder):
            pass
    assert lock.holder(folder) is None


def test_a_dead_writer_there_is_taken_over_and_another_host_only_when_asked(
    folder: storage.Place, tmp_path: Path
) -> None:
    code = (
        "import os, signal, sys; from puna import lock, storage\n"
        "with lock.locked(storage.place(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], check=False)
    assert done.returncode == -9
    held = lock.holder(folder)
    assert held
    assert held.alive is False
    with lock.locked(folder):
        pass
    told = {"format": 1, "host": "elsewhere", "pid": 1, "born": "x", "namespace": "y", "flock": False}
    storage.write(folder / "run.lock", json.dumps(told).encode())
    with pytest.raises(InputError, match="--take-over"), lock.locked(folder):
        pass
    with lock.locked(folder, take_over=True):
        pass
    assert lock.holder(folder) is None


def test_what_a_store_refuses_is_one_line(folder: storage.Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no such file"):
        storage.read(folder / "missing")
    with pytest.raises(InputError, match="no such bucket; make it first"):
        storage.write("s3://no-such-bucket/file", b"x")
    with pytest.raises(InputError, match=r"nosuch.*cannot be opened"):
        storage.read("nosuch://bucket/file")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    code = "import sys; from puna import storage; storage.write(sys.argv[1], b'x')"
    done = subprocess.run([sys.executable, "-c", code, str(folder / "x")], capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("puna.errors.PunaError: ")
    assert "the object store does not serve (" in last
    assert "credentials" in last


def test_without_the_extra_the_line_names_it() -> None:
    code = "import sys; sys.modules['s3fs'] = None; from puna import storage; storage.read('s3://bucket/file')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("puna.errors.InputError: s3://bucket/file: cannot be opened here (")
    assert last.endswith("install the extra for object stores: pip install 'puna[s3]'")
