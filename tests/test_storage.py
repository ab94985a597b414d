"""Durable bytes: whole or not at all, whoever dies when."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna import storage, unfinished
from puna.errors import InputError, PunaError
from puna.lines import Appender

DIES = """
import os, signal, sys
from pathlib import Path
from puna import storage, unfinished
number = int(sys.argv[2])
def border(event, location):
    global number
    number -= 1
    if number < 0:
        os.kill(os.getpid(), signal.SIGKILL)
storage.border = border
storage.write(Path(sys.argv[1]), b"new" * 1000)
print("done")
"""


def test_a_file_stands_whole_or_not_at_all_whenever_its_writer_is_killed(
    tmp_path: Path, proved: Callable[[str], None]
) -> None:
    target = tmp_path / "file"
    points = 0
    while True:
        storage.write(target, b"old")
        command = [sys.executable, "-c", DIES, str(target), str(points)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert target.read_bytes() in (b"old", b"new" * 1000)
        if "done" in done.stdout:
            break
        assert done.returncode == -9
        points += 1
    assert points >= 5
    assert storage.sweep(tmp_path) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    proved(f"one write: its process killed at each of {points} borders")


def test_an_exception_in_the_block_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file"
    storage.write(target, b"old")
    with pytest.raises(KeyError), storage.create(target) as file:
        file.write(b"half")
        raise KeyError
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "checkpoint"
    with pytest.raises(KeyError), storage.create_folder(target) as folder:
        (folder / "a").write_bytes(b"a")
        raise KeyError
    assert not list(tmp_path.iterdir())
    with storage.create_folder(target) as folder:
        (folder / "a").write_bytes(b"a")
        assert not target.exists()
    assert (target / "a").read_bytes() == b"a"


def test_bytes_are_synced_before_their_name_and_the_folder_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str | int] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        told.append(os.fstat(handle).st_ino)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(storage, "border", lambda event, location: told.append(event))
    storage.write(tmp_path / "file", b"x")
    folder, file = (path.stat().st_ino for path in (tmp_path, tmp_path / "file"))
    assert told.index(file) < told.index("before rename") < told.index(folder)
    told.clear()
    with storage.create_folder(tmp_path / "whole") as whole:
        (whole / "a").write_bytes(b"a")
    inside, own = (path.stat().st_ino for path in (tmp_path / "whole" / "a", tmp_path / "whole"))
    assert max(told.index(inside), told.index(own)) < told.index("before rename") < told.index(folder)


@pytest.mark.promise("errors")
def test_a_full_disk_is_one_line_with_the_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(event: str, location: str) -> None:
        if event == "before sync":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(storage, "border", full)
    with pytest.raises(PunaError, match="the disk is full; free some space") as error:
        storage.write(tmp_path / "file", b"x")
    assert "\n" not in str(error.value)
    assert error.value.exit_status == 1


@pytest.mark.promise("errors")
@pytest.mark.parametrize("make", [storage.create, storage.create_folder])
def test_a_disk_that_fills_while_a_file_is_filled_is_the_same_line(
    tmp_path: Path, make: Callable[[Path], AbstractContextManager[object]]
) -> None:
    with pytest.raises(PunaError, match="output: the disk is full; free some space"), make(tmp_path / "output"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list(tmp_path.iterdir())


@pytest.mark.promise("errors")
@pytest.mark.parametrize("make", [storage.create, storage.create_folder])
def test_the_output_is_not_blamed_for_what_else_fails_while_it_is_filled(
    tmp_path: Path, make: Callable[[Path], AbstractContextManager[object]]
) -> None:
    for number in (errno.EACCES, errno.ENOTDIR, errno.EROFS):
        with pytest.raises(OSError, match="other") as error, make(tmp_path / "output"):
            raise OSError(number, os.strerror(number), "other")
        assert error.value.errno == number
    assert not list(tmp_path.iterdir())


@pytest.mark.promise("errors")
def test_an_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="a file stands where a folder is needed"):
        storage.write(tmp_path / "file" / "below", b"x")


def test_each_folder_made_is_synced_into_the_one_it_lies_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(storage, "sync_folder", lambda path: synced.append(path.relative_to(tmp_path).as_posix()))
    storage.make_folder(tmp_path / "a" / "b" / "c")
    assert synced == [".", "a", "a/b"]
    synced.clear()
    storage.make_folder(tmp_path / "a" / "b" / "c")
    assert synced == []
    storage.write(tmp_path / "a" / "d" / "file", b"x")
    assert synced == ["a", "a/d"]
    synced.clear()
    for _ in range(2):
        Appender(tmp_path / "e" / "lines").close()
    assert synced == [".", "e"]
    synced.clear()
    with storage.create_folder(tmp_path / "f") as folder:
        (folder / "g" / "h").mkdir(parents=True)
    assert [name.split("/", 1)[-1] for name in synced[:2]] == ["g", "g/h"]
    assert synced[-1] == "."
    assert len(synced) == 4  # g, g/h, the folder itself, and the one it lies in


def test_only_one_of_many_claims_of_a_name_at_once_succeeds(tmp_path: Path) -> None:
    for number in range(20):
        lock, together = tmp_path / str(number), threading.Barrier(8)

        def claim(name: int, lock: Path = lock, together: threading.Barrier = together) -> bool:
            together.wait()
            return storage.claim(lock, b"%d" % name)

        with ThreadPoolExecutor(8) as pool:
            claimed = list(pool.map(claim, range(8)))
        assert claimed.count(True) == 1
        assert lock.read_bytes() == b"%d" % claimed.index(True)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=20)), st.binary(max_size=30))
@settings(max_examples=50, deadline=None)
def test_lines_survive_and_a_half_line_is_cut_off(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], half: bytes
) -> None:
    path = tmp_path_factory.mktemp("lines") / "log"
    appender = Appender(path)
    for line in lines:
        appender.line(line)
    appender.close()
    with path.open("ab") as file:
        file.write(half.replace(b"\n", b""))
    appender = Appender(path)
    appender.line("next")
    appender.close()
    assert path.read_bytes().decode().split("\n") == [*lines, "next", ""]


def test_what_is_written_to_an_object_store_is_one_completed_upload() -> None:
    storage.write("memory://bucket/run/file.json", b"{}")
    assert storage.read("memory://bucket/run/file.json") == b"{}"
    with pytest.raises(KeyError), storage.create("memory://bucket/run/other") as file:
        file.write(b"half")
        raise KeyError
    assert not storage.exists("memory://bucket/run/other")
    assert [path.name for path in storage.listing("memory://bucket/run")] == ["file.json"]
    storage.remove("memory://bucket/run")
    assert not storage.exists("memory://bucket/run/file.json")


@pytest.mark.promise("errors")
def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        storage.read(tmp_path / "missing")


@pytest.mark.promise("formats")
def test_equal_values_are_equal_json_bytes(tmp_path: Path) -> None:
    storage.write_json(tmp_path / "a", {"b": 1, "a": "é"})
    storage.write_json(tmp_path / "b", {"a": "é", "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert storage.read_json(tmp_path / "a") == {"a": "é", "b": 1}


@pytest.mark.promise("formats")
def test_a_digest_is_of_the_bytes_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"puna")
    assert storage.digest(tmp_path / "a") == storage.digest_bytes(b"puna")
    # Part of every format that holds digests.
    assert storage.digest_bytes(b"puna") == "xxh3:84c2229ddbc87c9d5604d0d002617ea5"
    assert storage.digest_bytes(b"") == "xxh3:99aa06d3014798d86001c324468d497f"


def test_of_two_that_write_one_folder_the_first_stays_and_the_second_is_told(tmp_path: Path) -> None:
    target = tmp_path / "target"
    with pytest.raises(InputError, match="was made by somebody else"), storage.create_folder(target) as slow:
        (slow / "a").write_text("slow")
        with storage.create_folder(target) as fast:
            (fast / "a").write_text("fast")
    assert (target / "a").read_text() == "fast"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    target = tmp_path / "a[b]"
    names = [f".part-a[b]-{ended.pid}-7", f".part-a[b]-{os.getpid()}-8", ".part-a[b]-odd", f".part-other-{ended.pid}-9"]
    (tmp_path / names[0]).write_text("a file")
    for name in names[1:]:
        (tmp_path / name).mkdir()
    unfinished.sweep_beside(target)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([names[1], names[3]])
