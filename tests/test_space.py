"""Disk space: what a step needs is foreseen and never too little; a full disk is one line with the mend."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import made_training as made
import tiny
from made_tokens import Spelling, document
from puna import space, storage
from puna.data import exclude, judge, route
from puna.data.dedup import exact
from puna.data.document import Document, Origin, document_id, write_documents
from puna.errors import PunaError
from puna.lines import Appender
from puna.recipe import batch_windows
from puna.records import read_records
from puna.space import Need
from puna.steps import Context, Step, run_steps
from puna.tokens.shards import write_shard
from small_disk import Disk

NEED = Need(3_000_000, 1_000_000, 2_000_000)


def _free(monkeypatch: pytest.MonkeyPatch, available: int) -> list[Path]:
    """Let any folder have that many bytes free; the list grows by the folders that are asked about."""
    asked: list[Path] = []
    monkeypatch.setattr(space, "free", lambda folder: asked.append(folder) or available)
    return asked


def _graph() -> list[Step]:
    def work(context: Context) -> Mapping[str, Any]:
        storage.write(context.scratch / "part", bytes(1_500_000))
        storage.write(context.folder / f"{context.name}.txt", b"made")
        return {}

    return [Step("first", work, ("first.txt",)), Step("second", work, ("second.txt",), space=lambda context: NEED)]


def test_a_step_that_the_disk_cannot_hold_is_one_line_before_anything_of_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _free(monkeypatch, 2_200_000)
    with pytest.raises(PunaError) as error:
        run_steps(tmp_path, _graph(), workers=1)
    mend = "free 840 kB there, or give another folder with --out"
    assert str(error.value) == f"{tmp_path}: second needs about 3.0 MB and 2.2 MB are free; {mend}"
    assert error.value.exit_status == 1
    assert list(read_records(tmp_path)) == ["first"]
    assert not list(tmp_path.rglob("*second*"))


def test_what_an_interrupted_attempt_left_is_not_needed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(event: str, location: str) -> None:
        if location.endswith("second.txt"):
            raise KeyboardInterrupt

    monkeypatch.setattr(storage, "border", stop)
    with pytest.raises(KeyboardInterrupt):
        run_steps(tmp_path, _graph(), workers=1)
    monkeypatch.setattr(storage, "border", lambda event, location: None)
    _free(monkeypatch, 1_400_000)
    with pytest.raises(PunaError, match=r"second needs about 1\.5 MB more and 1\.4 MB are free"):
        run_steps(tmp_path, _graph(), workers=1)
    _free(monkeypatch, 1_500_000)
    run_steps(tmp_path, _graph(), workers=1)


def test_what_was_left_outside_work_is_not_needed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stops = iter([True])

    def work(context: Context) -> Mapping[str, Any]:
        for number in range(3):
            if number == 2 and next(stops, False):
                raise KeyboardInterrupt
            storage.write(context.folder / "checkpoints" / str(number), bytes(1_000_000))
        return {}

    graph = [Step("train", work, ("checkpoints/*",), space=lambda context: NEED)]
    _free(monkeypatch, 3_100_000)
    with pytest.raises(KeyboardInterrupt):
        run_steps(tmp_path, graph, workers=1)
    _free(monkeypatch, 1_100_000)
    run_steps(tmp_path, graph, workers=1)


def test_what_may_be_written_once_more_stays_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _free(monkeypatch, 999_999)
    with pytest.raises(PunaError, match=r"needs about 1\.0 MB more"):
        space.check(tmp_path, "a step", NEED, there=10**9)


@given(st.integers(1, 10**15), st.floats(0, 0.999))
@settings(max_examples=50, deadline=None)
def test_what_is_said_to_be_missing_would_do(need: int, share: float) -> None:
    available = int(need * share)
    with pytest.MonkeyPatch.context() as patch:
        _free(patch, available)
        with pytest.raises(PunaError) as error:
            space.check(Path("run"), "a step", Need(need, need, need))
    number, unit = re.findall(r"free ([\d.]+) (\w+) there", str(error.value))[0]
    assert available + float(number) * {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit] >= need


def test_a_folder_that_is_not_there_yet_has_what_the_one_above_it_has(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    found = space.free(tmp_path / "not" / "yet")
    assert found is not None
    assert space.free(storage.place("memory://run")) is None
    assert abs(found - status.f_bavail * status.f_frsize) < 100_000_000  # other processes write meanwhile


def test_an_object_store_needs_the_local_room_of_the_files_on_their_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    asked = _free(monkeypatch, NEED.here)
    space.check(storage.place("memory://run"), "a step", NEED)
    assert asked == [tmp_path]
    _free(monkeypatch, NEED.here - 500_000)
    with pytest.raises(PunaError) as error:
        space.check(storage.place("memory://run"), "a step", NEED)
    assert str(error.value).startswith(f"{tmp_path}: a step for memory://run needs about 2.0 MB and 1.5 MB are free")
    assert "set TMPDIR to another folder" in str(error.value)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _close(need: Need, real: int) -> None:
    assert real <= need.bytes - space.FLOOR <= 2.5 * real


@pytest.mark.parametrize(("dim", "layers"), [(32, 2), (256, 4)])
def test_checkpoints_are_foreseen_exactly(tmp_path: Path, dim: int, layers: int) -> None:
    folder = made.make(tmp_path / "run")
    sized = (f"model.dim={dim}", f"model.layers={layers}")
    made.run(folder, *sized, "train.keep=1")
    vocabulary = Spelling().vocabulary
    one = space.checkpoint(made.recipe(*sized).model.parameters(vocabulary), 9 * layers + 3).bytes
    assert 0 <= one - _size(folder / "checkpoints") < 60_000
    for steps, copies in ((1, 1), (9, 3), (12, 3), (10**6, 4)):  # two kept, one to rewind to, one being written
        need = space.training(made.recipe(*sized), vocabulary, steps, tokens=5)
        windows = steps * batch_windows(made.recipe(*sized))
        lines = space.FLOOR + 2 * space.METRICS_LINE * (steps + 1) + 2 * space.WINDOW * windows
        assert need == Need(lines + copies * one, one, lines + one + 5)


def test_a_checkpoint_that_the_disk_cannot_hold_ends_the_training_and_the_one_before_it_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, folder = made.make(tmp_path / "undisturbed"), made.make(tmp_path / "run")
    made.run(undisturbed)

    def free(place: Path) -> int:
        return 100 if (folder / "checkpoints" / "step-000004").exists() else 10**9

    with monkeypatch.context() as patch:
        patch.setattr(space, "free", free)
        with pytest.raises(PunaError, match=r"run: the checkpoint of step 8 needs about \d+ kB and 100 B are free;"):
            made.run(folder)
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-000004"]
    made.run(folder)
    assert made.result(folder) == made.result(undisturbed)


@pytest.mark.parametrize("vital", [True, False])
def test_a_line_that_a_full_disk_takes_in_part_is_taken_back(tmp_path: Path, vital: bool) -> None:
    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            return super().write(data[:3])

    appender = Appender(tmp_path / "lines", vital=vital)
    appender.line("first")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(appender, "_file", Full(tmp_path / "lines", "a+"))
        if vital:
            with pytest.raises(PunaError, match="lines: the disk is full; free some space and run the same command"):
                appender.line("second")
        else:
            appender.line("second")
    appender.line("third")
    assert (tmp_path / "lines").read_text() == "first\nthird\n"


@pytest.mark.parametrize("same", [True, False])
def test_the_exchange_is_never_more_than_foreseen(tmp_path: Path, same: bool) -> None:
    shards, each, partitions = 3, 4_000, 16
    hashes = [tmp_path / f"{shard}.hashes" for shard in range(shards)]
    for shard, target in enumerate(hashes):
        texts = ("the same" if same else f"{shard} {number}" for number in range(each))
        rows = ((document(shard * each + number), text) for number, text in enumerate(texts))
        exact.write_hashes(target, rows, partitions)
    for part in range(partitions):
        exact.find_repeats(hashes, part, tmp_path / f"{part}.verdicts")
    row, verdict = exact.ROW.itemsize, exact.VERDICT.itemsize
    _close(space.exchanged(shards * each, shards, partitions, row, verdict, workers=1), _size(tmp_path))


@pytest.mark.parametrize("parts", [1, 30])
@pytest.mark.parametrize("words", [300, 10**6])
def test_sorting_documents_is_never_more_than_foreseen(tmp_path: Path, words: int, parts: int) -> None:
    chance = np.random.default_rng(words)
    scratch = tmp_path / "work" / "step" / "fingerprint"
    shards = []
    for index in range(3):
        texts = enumerate(" ".join(map(str, chance.integers(words, size=1000))) for _ in range(100))
        shards.append(tmp_path / f"{index}.parquet")
        write_documents(shards[-1], (_document(f"{index}-{number}", text) for number, text in texts))
        storage.write(tmp_path / f"{index}.overlap", bytes(400))
    written = sum(shard.stat().st_size for shard in shards)
    overlaps = tuple(tmp_path / f"{index}.overlap" for index in range(3))
    rule = route.Verdict(judge.Judge(lambda group: group[-1] == "7", exclude.Exclusions(()), ()), overlaps, 0.5, parts)
    for task in enumerate(shards):
        route.send(rule, task, scratch)
    for part in [None, *range(parts)]:
        route.gather(tmp_path / "run", "wikipedia", 3, part, scratch)
    real = _size(scratch) + _size(tmp_path / "run")
    _close(space.routed(written, 3, parts, 64_000_000, workers=1), real)


def _document(key: str, text: str) -> Document:
    origin = Origin("dump", key, "file", 0, "", "", "", "")
    return Document(document_id("wikipedia", "dump", key), "wikipedia", key, "en", text, origin)


@given(st.lists(st.text(max_size=50), max_size=30))
@settings(max_examples=30, deadline=None)
def test_token_shards_are_never_more_than_foreseen(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("tokens")
    spelling = Spelling()
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    counts = write_shard(folder / "00000", ((document(n), text) for n, text in enumerate(texts)), spelling)
    need = space.encoded(counts["bytes"], len(texts), 1, spelling.dtype.itemsize, 1.0, workers=1)
    assert need.bytes - space.FLOOR >= _size(folder)


def test_the_guess_names_what_a_station_makes() -> None:
    recipe = made.recipe()
    raw = {"wikipedia": {"a.xml.bz2": 10**9}, "github": {"package:x": 10**9}}
    guess = space.whole(recipe, raw, None)
    assert list(guess) == ["work", "documents", "tokens", "checkpoints"]
    assert guess["documents"] == pytest.approx(1.65e9, rel=0.01)
    assert list(space.whole(recipe, raw, "documents")) == ["work", "documents"]
    assert list(space.whole(recipe, raw, "mixture")) == ["work", "documents", "tokens"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    tiny.write(folder)
    return folder


@pytest.fixture
def disk(home: Path, tmp_path: Path) -> Iterator[Disk]:
    found = Disk(tmp_path / "disk", home)
    try:
        yield found
    finally:
        found.close()


ONE = ("--threads", "1", "--workers", "1")
TWO = ("--threads", "1", "--workers", "2")


@pytest.fixture(scope="module")
def undisturbed(home: Path) -> Path:
    done = tiny.puna("run", home / "tiny.toml", "--out", "undisturbed", *ONE, cwd=home)
    assert done.returncode == 0, done.stderr
    return home / "undisturbed"


@pytest.mark.prove
def test_no_step_takes_more_than_it_foresaw(disk: Disk, proved: Callable[[str], None]) -> None:
    listed = disk.mount / "listed"
    done = disk.puna(*TWO, plan={"list": str(listed)})
    assert done.returncode == 0, done.stderr
    foreseen: dict[str, tuple[int, int]] = {}
    highest: dict[str, int] = {}
    for kind, *values in map(json.loads, (disk.inside / "listed").read_text().splitlines()):
        if kind == "foreseen":
            name, need, before = values
            foreseen[name] = need, before
        else:
            step, used = values
            highest[step] = max(used, highest.get(step, 0))
    steps = read_records(disk.inside / "run")
    assert foreseen.keys() >= steps.keys()
    taken = {step: highest[step] - foreseen[step][1] for step in steps}
    for step, real in taken.items():
        # What is small hides in the floor; what is not must be foreseen without it.
        assert real <= foreseen[step][0] - (space.FLOOR if real > 300_000 else 0), step
    closest = max(steps, key=lambda step: taken[step] / foreseen[step][0])
    proved(f"disk: {len(steps)} steps foreseen, {closest} used {taken[closest] / foreseen[closest][0]:.0%} of it")


FORESEEN = re.compile(
    r"^error: \S+: (?P<what>.+) needs about [\d.]+ \w+ (more )?and [\d.]+ \w+ are free; free \S+ \w+ "
)


def _foreseen(done: subprocess.CompletedProcess[str]) -> str:
    """At what a run stopped, in one line that foresaw it; "" for one that ended well."""
    assert "Traceback" not in done.stderr, done.stderr
    if done.returncode == 0:
        return ""
    assert done.returncode == 1, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert errors == done.stderr.splitlines()[-1:]
    found = FORESEEN.match(errors[0])
    assert found, f"met, not foreseen: {done.stderr}"
    return found["what"]


@pytest.mark.prove
def test_on_a_disk_of_any_size_a_run_stops_where_it_foresees_it_and_more_room_ends_it_alike(
    disk: Disk, undisturbed: Path, proved: Callable[[str], None]
) -> None:
    """Each of ten disks from empty; then one that grows, with the same command each time."""
    stops = []
    sizes = (0, 500_000, 1_200_000, 1_500_000, 1_600_000, 2_000_000, 3_000_000, 4_500_000, 5_500_000, 7_000_000)
    for size in sizes:
        disk.resize(max(4096, size))
        done = disk.puna(*ONE)
        stops.append(_foreseen(done))
        if stops[-1] not in ("", "a run folder"):
            assert "of disk: work" in done.stderr
            assert "are free there, so it may have to stop on the way" in done.stderr
        disk.empty()
    assert len(set(stops)) >= 6, stops
    assert stops[-1] == ""
    size, grown = 64_000, []
    while not grown or grown[-1]:
        disk.resize(size)
        grown.append(_foreseen(disk.puna(*TWO)))
        size += 500_000
    assert tiny.stable(disk.inside / "run") == tiny.stable(undisturbed)
    told = ", ".join(f"{size / 1e6:.2f} MB at {stop or 'the end'}" for size, stop in zip(sizes, stops, strict=True))
    proved(f"full disk: {len(stops) + len(grown) - 1} stops foreseen, none met; {told}")


@pytest.mark.prove
def test_a_disk_filled_by_others_within_any_step_is_one_line_and_freed_again_the_run_ends_alike(
    disk: Disk, undisturbed: Path, proved: Callable[[str], None]
) -> None:
    disk.resize(32_000_000)
    plans = [
        {"step": step, "like": like}
        for step, like in (
            ("inputs.github", "before write"),
            ("extract.github", "before write"),
            ("extract.wikipedia", "before rename"),
            ("heldout", "before write"),
            ("documents.wikipedia", "heldout/wikipedia"),
            ("tokenizer", "before write"),
            ("tokens.github", "before sync"),
            ("baselines", "before write"),
            ("train", "before write"),
            ("train", "metrics.jsonl"),
            ("train", "optimizer.safetensors"),
            ("report", "before write"),
        )
    ]
    for plan in plans:
        done = disk.puna(*TWO, plan=plan)
        assert (disk.inside / "filler").exists(), plan
        (disk.inside / "filler").unlink()
        last = done.stderr.strip().splitlines()[-1]
        assert done.returncode == 1, f"{plan}: {done.stderr}"
        assert "Traceback" not in done.stderr, f"{plan}: {done.stderr}"
        assert last.startswith("error: "), done.stderr
        assert "the disk is full; free some space and run the same command" in last, f"{plan}: {last}"
    done = disk.puna(*TWO)
    assert done.returncode == 0, done.stderr
    assert tiny.stable(disk.inside / "run") == tiny.stable(undisturbed)
    assert not list((disk.inside / "run").rglob(f"{storage.TEMPORARY}*"))
    proved(f"full disk: filled by others within {len(plans)} writes, one line each, the same bytes afterwards")
