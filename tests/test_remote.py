"""Runs on an object store: what storage promises of a disk holds there too, over the S3 protocol."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from object_store import ObjectStore, serving
from puna import lock, remote, storage
from puna.errors import InputError, PunaError
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


def test_one_of_many_alone_can_claim_a_name(folder: storage.Place) -> None:
    for number in range(5):
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda n, at=folder / f"lock-{number}": storage.claim(at, b"%d" % n), range(8)))
        assert sum(made) == 1
        assert storage.read(folder / f"lock-{number}") == b"%d" % made.index(True)


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


def test_names_that_hold_wildcards_are_names(folder: storage.Place) -> None:
    for name in ("exp[1]", "exp1", "lr*1", "lr31", "a?", "ab"):
        storage.write(folder / name / "file", name.encode())
    for name in ("exp[1]", "lr*1", "a?"):
        assert [path.name for path in storage.listing(folder / name, "*")] == ["file"]
        storage.remove(folder / name / "file")
        assert not storage.is_folder(folder / name)
    assert storage.names(folder) == ["ab", "exp1", "lr31"]


def test_a_folder_made_by_hand_is_an_empty_one(folder: storage.Place) -> None:
    path = remote.place(folder)
    path.fs.pipe_file(f"{path.path}/", b"")
    assert storage.tree(folder) == {}
    assert storage.names(folder) == []
    with lock.locked(folder):
        assert storage.names(folder) == ["run.lock"]


def test_a_request_that_fails_is_never_taken_for_absence(
    folder: storage.Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write(folder / "file", b"x")
    system = remote.place(folder).fs

    def fail(*arguments: object, **options: object) -> None:
        raise OSError("the network is down")

    monkeypatch.setattr(system, "info", fail)
    for ask in (storage.is_file, storage.exists, storage.is_folder, storage.look, storage.size):
        with pytest.raises(PunaError, match=r"does not serve \(the network is down\)"):
            ask(folder / "file")


def test_a_living_lock_that_cannot_be_read_is_not_taken(folder: storage.Place, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"format": 1, "host": "elsewhere", "pid": 1, "born": "x", "namespace": "y", "flock": False}
    storage.write(folder / "run.lock", json.dumps(told).encode())

    def fail(*arguments: object, **options: object) -> None:
        raise OSError("503 slow down")

    monkeypatch.setattr(remote.place(folder).fs, "cat_file", fail)
    with pytest.raises(PunaError, match="503 slow down"), lock.locked(folder):
        pass
    monkeypatch.undo()


def test_where_there_is_no_flock_another_machine_or_boot_is_another_host(folder: storage.Place) -> None:
    with lock.locked(folder):
        mine = json.loads(storage.read(folder / "run.lock"))
    for other in ({"machine": "a copy of this one"}, {"born": "another-boot/1"}):
        storage.write(folder / "run.lock", json.dumps({**mine, **other}).encode())
        held = lock.holder(folder)
        assert held
        assert held.alive is None
        with pytest.raises(InputError, match="--take-over"), lock.locked(folder):
            pass


def test_who_lost_the_run_to_another_process_is_told(folder: storage.Place) -> None:
    with lock.locked(folder) as still:
        still()
        storage.write(folder / "run.lock", b'{"format": 1, "host": "elsewhere", "pid": 1, "born": "x"}')
        with pytest.raises(PunaError, match="was taken over by another process"):
            still()
    assert json.loads(storage.read(folder / "run.lock"))["host"] == "elsewhere"


def test_a_store_that_cannot_keep_two_writers_apart_is_refused(
    folder: storage.Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def claim(location: object, data: bytes) -> bool:
        remote.put(location, data)
        return True

    monkeypatch.setattr(remote, "claim", claim)
    with pytest.raises(InputError, match="cannot keep two writers apart"), lock.locked(folder):
        pass


def test_what_a_killed_process_left_in_the_temporary_folder_goes_with_the_next_one(
    folder: storage.Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import os, signal, sys; from puna import storage; from puna.lines import Appender\n"
        "place = storage.place(sys.argv[1]); log = Appender(place / 'log.txt')\n"
        "with storage.create(place / 'a') as a, storage.create_folder(place / 'b') as b: "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert subprocess.run([sys.executable, "-c", code, str(folder)], check=False).returncode == -9
    assert len(list(tmp_path.iterdir())) == 3
    with storage.create(folder / "mine"), lock.locked(folder):
        left = [path.name for path in tmp_path.iterdir() if path.is_file() or any(path.name.endswith(s) for s in "b")]
        assert len([name for name in left if name.startswith(remote.temporary())]) == 1  # of this living process
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []


def test_the_folder_of_the_flocks_is_this_users_own(
    folder: storage.Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with lock.locked(folder):
        (side,) = tmp_path.iterdir()
    shutil.rmtree(side)
    (tmp_path / "planted").mkdir()
    side.symlink_to(tmp_path / "planted")
    with pytest.raises(InputError, match="is not a folder of this user"), lock.locked(folder):
        pass
    assert not list((tmp_path / "planted").iterdir())


@pytest.mark.parametrize("url", ["s3:///run", "s3://", "gs:///x"])
def test_a_url_without_a_bucket_is_one_line(url: str) -> None:
    with pytest.raises(InputError, match="names no bucket; is a variable of the shell unset"):
        storage.place(url)
