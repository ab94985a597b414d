"""Training by several ranks is that of one process but for rounding, on every mesh; its checkpoints belong to none."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

import made_training as made
from puna import storage
from puna.errors import PunaError
from puna.parallel import peers
from puna.train import checkpoint
from puna.train.callbacks import Training
from ranks import RankError, Ranks

Group = Callable[[int], Ranks]
Begun = Callable[[str], tuple[Path, Path]]

STEPS = ("train.steps=20", "train.dtype=float32", "train.checkpoint_every=10")
# More windows than ranks, two passes of a rank, and a norm that is clipped in most steps.
CUT = ("train.batch=192", "train.micro_batch=2", "train.clip=0.5")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.make(tmp_path_factory.mktemp("tokens"), *STEPS, *CUT)


@pytest.fixture
def folder(tokens: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tokens, tmp_path / "run"))


@pytest.fixture(scope="module")
def alone(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a training by one process."""
    done: dict[tuple[str, ...], Path] = {}

    def trained(*overrides: str, of: Path = tokens) -> Path:
        if overrides not in done:
            done[overrides] = Path(shutil.copytree(of, tmp_path_factory.mktemp("alone") / "run"))
            made.run(done[overrides], *STEPS, *CUT, *overrides)
        return done[overrides]

    return trained


def run(folder: Path, *overrides: str) -> dict[str, Any]:
    """On a rank."""
    return made.run(folder, *overrides)


def agree(left: Path, right: Path, within: float = 1e-5) -> None:
    told = list(zip(made.metrics(left), made.metrics(right), strict=True))
    assert len(told) == 20
    for one, other in told:
        assert one["loss"] == pytest.approx(other["loss"], rel=within), one["step"]
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=within), one["step"]


PIPELINE = ("train.mesh.pipeline=2",)
MESHES: list[tuple[int, tuple[str, ...]]] = [
    (2, ()),
    (2, ("train.mesh.reshard=false",)),
    (4, ()),
    (4, ("train.mesh.replicate=2",)),
    (2, ("train.mesh.replicate=2",)),
    (2, ("train.mesh.tensor=2",)),
    (4, ("train.mesh.tensor=2",)),
    (4, ("train.mesh.replicate=2", "train.mesh.tensor=2")),
    (4, ("train.mesh.replicate=2", *PIPELINE)),
    (2, PIPELINE),
    (4, PIPELINE),
    (4, (*PIPELINE, "train.mesh.tensor=2")),
    (8, (*PIPELINE, "train.mesh.tensor=2")),  # and the rest shards
]
QUICK_MESHES = {(2, (), "hand"), (4, (), "hand"), (2, ("train.mesh.tensor=2",), "selective"), (2, PIPELINE, "hand")}


@pytest.mark.promise("twins")
@pytest.mark.parametrize(
    ("count", "mesh", "mode"),
    [
        pytest.param(*each, mode, marks=() if (*each, mode) in QUICK_MESHES else pytest.mark.prove, id=f"{each} {mode}")
        for each in MESHES
        for mode in ("hand", "selective")
    ],
)
def test_losses_and_norms_are_those_of_one_process(
    ranks: Group, folder: Path, alone: Callable[..., Path], count: int, mesh: Sequence[str], mode: str
) -> None:
    ranks(count).run(run, folder, *STEPS, *CUT, f"train.layer={mode}", *mesh)
    agree(folder, alone(f"train.layer={mode}"))


EIGHT = ("train.batch=640",)  # 20 windows, so that some of eight ranks read two and some three, in two passes


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.make(tmp_path_factory.mktemp("many"), *STEPS, *CUT, *EIGHT)


@pytest.mark.prove
@pytest.mark.promise("twins")
@pytest.mark.parametrize(
    ("mesh", "mode"),
    [
        ((), "hand"),
        (("train.mesh.replicate=2",), "selective"),
        (("train.mesh.tensor=2",), "hand"),
        (("train.mesh.tensor=2",), "selective"),
    ],
    ids=str,
)
def test_eight_ranks_too(
    ranks: Group, many: Path, alone: Callable[..., Path], tmp_path: Path, mesh: Sequence[str], mode: str
) -> None:
    folder = Path(shutil.copytree(many, tmp_path / "run"))
    overrides = (*EIGHT, f"train.layer={mode}")
    ranks(8).run(run, folder, *STEPS, *CUT, *overrides, *mesh)
    agree(folder, alone(*overrides, of=many))
    assert max(each["grad_norm"] for each in made.metrics(folder)) > 0.5  # clipped


BFLOAT16 = 0.02  # nats a token, after 20 steps with the tiny model, whose loss falls from 5.7 to 5.3


@pytest.mark.promise("twins")
@pytest.mark.parametrize(
    "mesh",
    [(), *(pytest.param(mesh, marks=pytest.mark.prove) for mesh in (("train.mesh.tensor=2",), PIPELINE))],
    ids=str,
)
def test_in_bfloat16_they_are_within_its_rounding(
    ranks: Group, folder: Path, alone: Callable[..., Path], mesh: Sequence[str]
) -> None:
    ranks(4).run(run, folder, *STEPS, *CUT, "train.dtype=bfloat16", *mesh)
    told = zip(made.metrics(folder), made.metrics(alone("train.dtype=bfloat16")), strict=True)
    assert max(abs(one["loss"] - other["loss"]) for one, other in told) < BFLOAT16


KINDS: dict[str, tuple[int, tuple[str, ...]]] = {
    "1": (1, ()),
    "shard 2": (2, ()),
    "tensor 2": (2, ("train.mesh.tensor=2",)),
    "2 x 2": (4, ("train.mesh.tensor=2",)),
    "pipeline 2": (2, PIPELINE),
    "pipeline 2 x tensor 2": (4, (*PIPELINE, "train.mesh.tensor=2")),
}


def trained(ranks: Group, folder: Path, kind: str, *overrides: str) -> None:
    count, mesh = KINDS[kind]
    if count == 1:
        made.run(folder, *STEPS, *CUT, *overrides)
    else:
        ranks(count).run(run, folder, *STEPS, *CUT, *mesh, *overrides)


@pytest.fixture(scope="module")
def begun(ranks: Group, tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Begun:
    """By a mesh: the run with its checkpoint of step 10 as the last, and the same run undisturbed to its end."""
    made_by: dict[str, tuple[Path, Path]] = {}

    def made_on(kind: str) -> tuple[Path, Path]:
        if kind not in made_by:
            whole = Path(shutil.copytree(tokens, tmp_path_factory.mktemp("whole") / "run"))
            trained(ranks, whole, kind, "train.save=beside")
            half = Path(shutil.copytree(whole, tmp_path_factory.mktemp("half") / "run"))
            shutil.rmtree(half / "checkpoints" / "step-000020")
            made_by[kind] = half, whole
        return made_by[kind]

    return made_on


QUICK = {("1", "2 x 2"), ("2 x 2", "1"), ("2 x 2", "2 x 2"), ("tensor 2", "shard 2"), ("shard 2", "shard 2")}
QUICK |= {("1", "pipeline 2")}
PAIRS = [
    pytest.param(by, to, marks=() if (by, to) in QUICK else pytest.mark.prove, id=f"{by} to {to}")
    for kinds in (("1", "shard 2", "tensor 2", "2 x 2"), ("1", "pipeline 2", "pipeline 2 x tensor 2"))
    for by in kinds
    for to in kinds
    if kinds[1] == "shard 2" or (by, to) != ("1", "1")
]


@pytest.mark.parametrize(("by", "to"), PAIRS)
def test_a_checkpoint_of_any_mesh_goes_on_on_any_other(
    ranks: Group, begun: Begun, tmp_path: Path, by: str, to: str
) -> None:
    half, whole = begun(by)
    folder = Path(shutil.copytree(half, tmp_path / "run"))
    trained(ranks, folder, to)
    if by == to:
        assert made.result(folder, 20) == made.result(whole, 20)
    agree(folder, whole)
    segments = json.loads((folder / "machine.json").read_text())
    assert [segment["start_step"] for segment in segments] == [0, 10]
    assert len({segment["mesh"] for segment in segments}) == 2 - (by == to)


def killed(folder: Path, rank: int, event: str, like: str) -> None:
    """On a rank: train, and be killed before or after durable bytes whose place holds `like`, when this is `rank`."""

    def border(found: str, location: str) -> None:
        if found == event and like in location:
            os.kill(os.getpid(), signal.SIGKILL)

    if dist.get_rank() == rank:
        storage.border = border
    made.run(folder, *STEPS, *CUT, "train.save=beside")


@pytest.mark.parametrize(
    ("event", "like"),
    [("before write", "model."), ("before write", "optimizer."), ("before rename", "step-000020")],
)
def test_rank_0_killed_while_it_saves_leaves_no_part_of_a_checkpoint(
    ranks: Group, begun: Begun, tmp_path: Path, event: str, like: str
) -> None:
    half, whole = begun("shard 2")
    folder = Path(shutil.copytree(half, tmp_path / "run"))
    with pytest.raises(RankError, match="rank 0: ended with status -9"):
        ranks(2).run(killed, folder, 0, event, like)
    assert checkpoint.newest(folder / "checkpoints", made.FINGERPRINT).position.step == 10  # type: ignore[union-attr]
    trained(ranks, folder, "shard 2")
    assert made.result(folder, 20) == made.result(whole, 20)


def at_step(folder: Path, rank: int, number: int, what: str) -> None:
    """On a rank: train, and do something to it in the middle of a step; what is said of it goes into said-RANK."""
    first, done = Training.alive, []

    def alive(training: Training, *given: object) -> None:
        first(training, *given)
        if dist.get_rank() == rank and training.position.step + 1 == number and not done:
            done.append(number)
            if what == "fail":
                raise PunaError("out of poi", where="the kitchen")
            os.kill(os.getpid(), getattr(signal, what))

    def say(line: object) -> None:
        with (folder / f"said-{dist.get_rank()}").open("a") as file:
            file.write(f"{line}\n")

    peers.SILENT, peers.GRACE, peers.tell = 2.0, 1.0, say
    Training.alive = alive  # type: ignore[method-assign]
    try:
        made.run(folder, *STEPS, *CUT)
    except PunaError as error:
        say(f"{type(error).__name__}: {error}")
    finally:
        Training.alive = first  # type: ignore[method-assign]


def said(folder: Path, rank: int) -> str:
    path = folder / f"said-{rank}"
    return path.read_text() if path.exists() else ""


def test_a_signal_to_one_rank_stops_all_of_them_behind_the_step_which_is_saved(
    ranks: Group, begun: Begun, folder: Path
) -> None:
    ranks(2).run(at_step, folder, 1, 7, "SIGTERM")
    for rank in range(2):
        assert said(folder, rank).startswith("Interrupted: stopped after step 6 of 20, saved in")
    trained(ranks, folder, "shard 2")
    assert made.result(folder, 20) == made.result(begun("shard 2")[1], 20)


def test_the_first_error_is_told_by_its_rank_with_the_step_and_ends_all(ranks: Group, folder: Path) -> None:
    with pytest.raises(
        RankError, match="rank 0: ended with status 75"
    ):  # the other's process is there, and so it waits
        ranks(2).run(at_step, folder, 1, 7, "fail")
    assert said(folder, 0) == ""
    assert said(folder, 1) == "PunaError: rank 1, step 7: the kitchen: out of poi\n"


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_stops_is_named_with_its_step_and_all_end(ranks: Group, folder: Path, rank: int) -> None:
    with pytest.raises(RankError, match=r"ended with status (75|-9)"):
        ranks(2).run(at_step, folder, rank, 7, "SIGSTOP")
    assert re.search(rf"error: step 7: rank {rank} \(process \d+ on .*\) gave no sign of life", said(folder, 1 - rank))


@pytest.mark.promise("errors")
@pytest.mark.parametrize(
    ("overrides", "what"),
    [
        (("train.mesh.tensor=3",), r"train\.mesh: tensor 3 is for 3 ranks, and there are 2"),
        (("train.mesh.shard=1",), r"train\.mesh: shard 1 is for 1 rank, and there are 2"),
        (("train.mesh.tensor=2", "model.kv_heads=1"), r"kv_heads = 1 cannot be cut over 2 ranks"),
        ((*PIPELINE, "model.tied=true"), r"train\.mesh: a tied model's embedding is its output too"),
        (
            (*PIPELINE, "model.layers=1"),
            r"train\.mesh: a model of 1 layers has none for some of 2 stages; set pipeline",
        ),
        (
            (*PIPELINE, "train.micro_batch=0"),
            r"train\.mesh: 6 windows of a rank in passes of 6 are fewer passes than the 2 stages; set "
            r"train\.micro_batch to at most 5",
        ),
    ],
)
def test_a_mesh_that_cannot_be_is_refused_in_one_line(
    ranks: Group, folder: Path, overrides: Sequence[str], what: str
) -> None:
    for rank, error in enumerate(ranks(2).run(refused, folder, *overrides)):
        assert error.startswith("ToldElsewhere" if rank else "InputError")
        assert re.search(what, error)


def refused(folder: Path, *overrides: str) -> str:
    try:
        made.run(folder, *STEPS, *CUT, *overrides)
    except PunaError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def test_a_spike_is_found_and_rewound_by_all_ranks_as_by_one(ranks: Group, tmp_path: Path) -> None:
    spiky = ("train.steps=32", "train.learning_rate=0.01", "train.spike_window=8", "train.spike_score=5")
    spiky += ("train.checkpoint_every=5", "train.spike=rewind", "train.dtype=float32")
    told = []
    for count in (1, 4):
        folder = made.make(tmp_path / str(count), *spiky, poisoned=[9])  # of random bytes
        if count == 1:
            made.run(folder, *spiky)
        else:
            ranks(count).run(run, folder, *spiky)
        found = [line["spike"] for line in made.told(folder) if "spike" in line]
        told.append([(spike["step"], spike["rewound"], spike["documents"][0]["id"]) for spike in found])
    assert told[0] == told[1]
    assert told[0]
