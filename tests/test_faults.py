"""A fault at every border of durable bytes: the same command again ends as if nothing had been.

`make test` takes a seeded sample of the borders, `make prove` every twelfth of them: the process killed there, the disk
full from there on, an input/output error there, SIGTERM there, and a power cut of which only stays what was synced.
What a kill or a power cut leaves is the same at many borders that follow each other, and is tried once then. On an
object store: killed at every twenty-fourth state of the store, and a seeded sample of the other faults. With
PUNA_EVERY_STATE=1 `make prove` tries each border and each state, which takes an hour. faults.py and warm.py are the
machinery.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from fault_places import Durable
from faults import ASKED, KINDS, Border, Scenario, Trial, WarmParent
from object_store import ObjectStore, serving
from puna import storage
from puna.data import asked

SEED = 7
EVERY = 1 if os.environ.get("PUNA_EVERY_STATE") else 12  # of the borders, or of the states that a kill leaves at them
EVERY_STORED = 1 if EVERY == 1 else 24
MEMORY = Path("/dev/shm")  # a file system in memory: syncs cost nothing there, and no inode comes twice
ALONE = ("sources.github=none",)
FRESH = Scenario("fresh", faulted=ALONE, again=ALONE)
ADDED = Scenario("added", before=(ALONE,), again=ALONE)
BACK = Scenario("back", before=(ALONE, ()), faulted=ALONE, again=ALONE)
CLEANED = Scenario("cleaned", before=(ALONE, ()), faulted=("clean", "--work", "--checkpoints", "--yes"), again=ALONE)
WEB = Scenario("web", faulted=("data", *ASKED), again=("data", *ASKED))
IN_MEMORY = os.access(MEMORY, os.W_OK)
needs_memory = pytest.mark.skipif(not IN_MEMORY, reason=f"no {MEMORY} here: a power cut is played there only")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if not IN_MEMORY:
        yield tmp_path_factory.mktemp("faults")
        return
    with tempfile.TemporaryDirectory(prefix="puna-faults-", dir=MEMORY) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def disk(home: Path) -> Iterator[WarmParent]:
    (home / "disk").mkdir()
    with WarmParent(home / "disk") as parent:
        yield parent


@pytest.fixture(scope="module")
def served() -> Iterator[ObjectStore]:
    pytest.importorskip("moto", reason="the object store of the tests needs moto[server]")
    with serving() as found:
        yield found


@pytest.fixture(scope="module")
def store(home: Path, served: ObjectStore) -> Iterator[WarmParent]:
    (home / "store").mkdir()
    with WarmParent(home / "store", served) as parent:
        yield parent


def _all_kept(trials: Iterator[Trial], count: int | None = None) -> int:
    """The number of trials, when each kept what is promised. count: how many there must be, where that is known."""
    done = list(trials)
    assert count is None or len(done) == count
    broken = [f"{one.kind} {one.number}, {one.event} {one.location}: {one.problem}" for one in done if one.problem]
    assert not broken, "\n".join([f"{len(broken)} of {len(done)} trials broke a promise", *broken[:10]])
    return len(done)


def _told(where: str, borders: Sequence[Border], kinds: Sequence[str], trials: int) -> str:
    return f"fault sweep, {where}: {len(borders)} borders, {', '.join(kinds)}: {trials} trials"


def test_after_a_fault_at_any_of_some_borders_the_same_command_ends_as_undisturbed(
    disk: WarmParent, proved: Callable[[str], None]
) -> None:
    chance = random.Random(SEED)
    borders = disk.borders(FRESH)
    kinds = [kind for kind in KINDS if kind != "power" or IN_MEMORY]
    faults = [(kind, number) for kind in kinds for number in chance.sample(range(len(borders)), 4)]
    trials = _all_kept(disk.sweep(FRESH, faults), len(faults))
    proved(f"{_told('a run on a disk', borders, kinds, trials)}, seed {SEED}")


def _told_states(where: str, kind: str, borders: Sequence[Border], states: int, step: int = EVERY) -> str:
    each = {1: "each", 12: "each twelfth", 24: "each twenty-fourth", 20: "each twentieth"}[step]
    return f"{_told(where, borders, [kind], states)}, one for {each} state that they leave"


@pytest.mark.prove
@pytest.mark.parametrize("kind", ["full", "broken", "stop"])
def test_after_a_fault_at_every_twelfth_border_the_same_command_ends_as_undisturbed(
    disk: WarmParent, kind: str, proved: Callable[[str], None]
) -> None:
    borders = disk.borders(FRESH)
    numbers = range([*KINDS].index(kind) % EVERY, len(borders), EVERY)  # other borders for another kind
    trials = _all_kept(disk.sweep(FRESH, [(kind, number) for number in numbers]), len(numbers))
    proved(_told("a run on a disk", borders, [f"{kind} ({KINDS[kind]})"], trials))


@pytest.mark.prove
def test_after_a_kill_at_every_twelfth_state_the_same_command_ends_as_undisturbed(
    disk: WarmParent, proved: Callable[[str], None]
) -> None:
    borders = disk.borders(FRESH)
    states = _all_kept(disk.states(FRESH, "kill", step=EVERY))
    assert states > len(borders) / 3 / EVERY
    proved(_told_states("a run on a disk", f"kill ({KINDS['kill']})", borders, states))


@pytest.mark.prove
def test_after_a_kill_at_every_twentieth_state_of_a_run_that_filters_pages_the_same_command_ends_as_undisturbed(
    disk: WarmParent, proved: Callable[[str], None]
) -> None:
    borders = disk.borders(WEB)
    steps = [step for step in asked.VERSIONS if any(f"{step}." in one.location for one in borders)]
    assert {"lines", "near", "language", "perplexity", "references", "contamination"} <= set(steps)
    states = _all_kept(disk.states(WEB, "kill", first=SEED, step=20))
    assert states > len(borders) / 100
    proved(_told_states("a run that filters pages", "kill", borders, states, 20))


@pytest.mark.prove
def test_pages_filtered_on_an_object_store_are_those_of_a_disk_though_each_step_is_killed_midway_there(
    home: Path, served: ObjectStore, disk: WarmParent, store: WarmParent, proved: Callable[[str], None]
) -> None:
    disk.undisturbed(WEB)
    there = store.undisturbed(WEB)
    made = _made(home / "disk" / "web-undisturbed")
    assert _made_there(served, "web-undisturbed") == made
    steps = {}  # of each kind the first one, and how many borders its own files have
    for step in (border.location.split("/")[1] for border in there if border.location.startswith("work/")):
        if steps.setdefault(step.partition(".")[0], [step, 0])[0] == step:
            steps[step.partition(".")[0]][1] += 1
    assert {*asked.VERSIONS} - {"lm"} <= {*steps} | {"lm"}
    moments = [(step, count // 2) for step, count in steps.values()]
    trials = _all_kept(store.chain(WEB, moments), len(moments) + 1)
    assert _made_there(served, "web-chain") == made
    proved(f"pages filtered over the S3 protocol: killed within {trials - 1} kinds of step, the bytes of a disk")


def _made(run: Path) -> dict[str, object]:
    """What the data steps of a run on a disk made, by name: MD5s of bytes, and what each step counted."""
    files = {path.relative_to(run).as_posix(): path.read_bytes() for path in run.rglob("*") if path.is_file()}
    return _compared({name: hashlib.md5(data).hexdigest() for name, data in files.items()}, files.__getitem__)


def _made_there(served: ObjectStore, out: str) -> dict[str, object]:
    return _compared(served.listing(out), lambda name: served.read(f"{out}/{name}"))


def _compared(digests: Mapping[str, str], read: Callable[[str], bytes]) -> dict[str, object]:
    """Without what tells times, and without the keys of work folders: they hold where a benchmark's file lies."""
    found: dict[str, object] = {}
    for name, digest in digests.items():
        if name.startswith("records/") and not name.endswith(".begun.json"):
            found[name] = json.loads(read(name))["counts"]
        elif name.startswith(("documents/", "heldout/")) or (name.startswith("work/") and not name.endswith(".json")):
            found[re.sub("/[0-9a-f]{16}/", "/", name)] = digest
    return found


@needs_memory
@pytest.mark.prove
def test_after_a_power_cut_at_every_twelfth_state_what_was_synced_is_enough_to_end_as_undisturbed(
    disk: WarmParent, proved: Callable[[str], None]
) -> None:
    borders = disk.borders(FRESH)
    states = _all_kept(disk.states(FRESH, "power", first=1 % EVERY, step=EVERY))
    assert states > len(borders) / 10 / EVERY
    proved(_told_states("a run on a disk", f"power ({KINDS['power']})", borders, states))


@pytest.mark.prove
@pytest.mark.parametrize(
    ("scenario", "where"),
    [
        (ADDED, "a source added and taken out again"),
        (BACK, "an old value taken up again"),
        (CLEANED, "puna clean, and an old value again"),
    ],
    ids=["added", "back", "cleaned"],
)
def test_killed_at_every_twelfth_state_of_a_change_the_old_value_gives_the_old_result(
    disk: WarmParent, scenario: Scenario, where: str, proved: Callable[[str], None]
) -> None:
    borders = disk.borders(scenario)
    states = _all_kept(disk.states(scenario, "kill", first=2 % EVERY, step=EVERY))
    assert states > len(borders) / 10 / EVERY
    proved(_told_states(where, "kill", borders, states))


@pytest.mark.prove
def test_killed_at_every_twenty_fourth_state_of_an_object_store_the_same_command_ends_as_undisturbed(
    store: WarmParent, proved: Callable[[str], None]
) -> None:
    borders = store.borders(FRESH)
    states = _all_kept(store.states(FRESH, "kill", first=SEED % EVERY_STORED, step=EVERY_STORED))
    assert states > len(borders) / 5 / EVERY_STORED
    proved(_told_states("a run over the S3 protocol", "kill", borders, states, EVERY_STORED))


@pytest.mark.prove
def test_what_fails_at_some_borders_on_an_object_store_is_one_line_and_the_same_command_goes_on(
    store: WarmParent, proved: Callable[[str], None]
) -> None:
    chance = random.Random(SEED)
    borders = store.borders(FRESH)
    kinds = ["full", "broken", "stop"]
    faults = [(kind, number) for kind in kinds for number in chance.sample(range(len(borders)), 2)]
    trials = _all_kept(store.sweep(FRESH, faults), len(faults))
    proved(f"{_told('a run over the S3 protocol', borders, kinds, trials)}, seed {SEED}")


@needs_memory
def test_of_what_was_never_synced_a_power_cut_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The power cuts above would find a sync that is missing."""
    folder = home / "synced"
    folder.mkdir()
    monkeypatch.setattr(os, "fsync", os.fsync)  # put back when this test ends
    durable = Durable(folder)
    storage.write(folder / "whole", b"whole")
    (folder / "not synced").write_bytes(b"lost")
    (folder / "renamed").write_bytes(b"lost")
    storage.sync_folder(folder)
    (folder / "renamed").rename(folder / "to a name that was not synced")
    (folder / "whole").write_bytes(b"written over")
    durable.write(home / "left")
    left = {path.name: path.read_bytes() for path in (home / "left").iterdir()}
    assert left == {"whole": b"whole", "not synced": b"", "renamed": b""}
    shutil.rmtree(home / "left")
