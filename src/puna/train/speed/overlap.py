"""`puna bench overlap`: what a layer computes while its collectives are under way, where ranks share it.

Ranks are processes of this machine with gloo between them, one thread each. What is noted of one layer is the order:
when each collective was begun, ran, and was waited for, and which matmuls ran meanwhile. It is no gain in speed: gloo's
copies take the same cores as the matmuls. What overlap is worth shows where each collective takes longer by a given
delay, as a slow network's would, which takes no core: then layers and whole steps are timed with the delay and without.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from puna import storage
from puna.errors import InputError, PunaError
from puna.model.config import ModelConfig
from puna.parallel.formula import sent_bytes
from puna.progress import say
from puna.train.speed.bench import recipe_of, refuse_too_large

if TYPE_CHECKING:
    from puna.parallel.tracing import Collective, Operation, TracedGroup

FORMAT = 1
LIMIT = timedelta(seconds=120)  # for one collective, behind which its ranks give up


@dataclass(frozen=True, slots=True)
class Asked:
    """What is measured."""

    config: ModelConfig
    ranks: int = 2
    windows: int = 1
    mode: str = "hand"
    dtype: str = "float32"
    delay: float = 0.02
    """Seconds by which each collective is made longer."""
    rounds: int = 5
    layers: int = 0
    """Of the model whose steps are timed; 0: only a layer is."""


class Trace(NamedTuple):
    """One layer's forward and backward pass on one rank; times in seconds from the beginning of the first rank's."""

    began: float
    turned: float
    """The end of the forward pass."""
    ended: float
    collectives: list[Collective]
    operations: list[Operation]

    @property
    def forward(self) -> list[Collective]:
        return [each for each in self.collectives if each.begun < self.turned]

    @property
    def backward(self) -> list[Collective]:
        return [each for each in self.collectives if each.begun >= self.turned]


class Timed(NamedTuple):
    """Seconds of the slowest rank, round by round, and the collectives that one rank begins."""

    without: list[float]
    delayed: list[float]
    stood: list[float]
    """Of the delays' seconds, those in which it did nothing but wait."""
    collectives: int

    def share(self, delay: float) -> float:
        """The part of all delays in which a rank stood: the median over rounds. It counts what each delay held up, and
        so is little moved by what else the machine does."""
        return statistics.median(self.stood) / (self.collectives * delay)

    def growth(self, delay: float) -> float:
        """What the fastest round takes longer by, as a share of the sum of its delays. The fastest, since a round of
        several processes is as slow as what else the machine does to any of them."""
        return (min(self.delayed) - min(self.without)) / (self.collectives * delay)


@dataclass(frozen=True)
class Overlap:
    """What was found."""

    asked: Asked
    traces: list[Trace]
    """One a rank, of a layer without delays."""
    delayed: list[Trace]
    """The same with them."""
    layer: Timed
    step: Timed | None

    def timed(self) -> list[tuple[str, Timed]]:
        return [("layer", self.layer)] + ([("step", self.step)] if self.step else [])

    def sent(self) -> tuple[int, int]:
        """Bytes that a rank sent for a layer, forward and backward."""
        trace = self.traces[0]
        return sum(each.sent for each in trace.forward), sum(each.sent for each in trace.backward)

    def formula(self) -> tuple[int, int]:
        """The same by `sent_bytes`."""
        asked = self.asked
        tokens = asked.windows * asked.config.context
        return sent_bytes(asked.config.dim, tokens, asked.ranks, ITEMSIZE[asked.dtype], asked.mode)

    def as_json(self) -> dict[str, Any]:
        from puna.parallel.tracing import hidden

        def of(trace: Trace, each: Collective) -> dict[str, Any]:
            told = {"pass": "forward" if each.begun < trace.turned else "backward", "name": each.name}
            return told | {
                "sent_bytes": each.sent,
                "hidden": hidden(each, trace.operations),
                "begun_ms": (each.begun - trace.began) * 1e3,
                "ended_ms": (each.ended - trace.began) * 1e3,
                "asked_ms": (each.asked - trace.began) * 1e3,
                "exposed_ms": each.exposed * 1e3,
            }

        asked = {**asdict(self.asked), "config": self.asked.config.to_json()}
        timed = {
            name: {
                "seconds": found.without,
                "seconds_delayed": found.delayed,
                "collectives": found.collectives,
                "stood_share": found.share(self.asked.delay),
                "growth": found.growth(self.asked.delay),
            }
            for name, found in self.timed()
        }
        return {
            "format": FORMAT,
            "asked": asked,
            "sent_bytes": self.sent(),
            "formula_bytes": self.formula(),
            "collectives": [of(self.traces[0], each) for each in self.traces[0].collectives],
            "collectives_delayed": [of(self.delayed[0], each) for each in self.delayed[0].collectives],
            **timed,
        }

    def as_text(self) -> str:
        asked, told = self.asked, self.as_json()
        head = f"one {asked.mode} layer of dim {asked.config.dim} on {asked.ranks} ranks, {asked.dtype}, "
        lines = [f"{head}{asked.windows} x {asked.config.context} tokens; delay {asked.delay * 1e3:g} ms", ""]
        lines.append(f"{'':9} {'':7} {'MB sent':>8} {'begun':>8} {'ended':>8} {'asked':>8} {'stood ms':>9}  hidden")
        for each in told["collectives_delayed"]:
            times = " ".join(f"{each[name]:8.1f}" for name in ("begun_ms", "ended_ms", "asked_ms"))
            size = f"{each['sent_bytes'] / 1e6:8.2f}"
            mark = "by a matmul" if each["hidden"] else "no"
            lines.append(f"{each['pass']:9} {each['name']:7} {size} {times} {each['exposed_ms']:9.1f}  {mark}")
        lines.append("")
        for name, found in self.timed():
            fast, slow = (min(each) * 1e3 for each in (found.without, found.delayed))
            share, growth = found.share(asked.delay), found.growth(asked.delay)
            said = f"stood in {share:.0%} of the {found.collectives} delays; the fastest grew by {growth:.0%} of them"
            lines.append(f"{name:6} {fast:8.1f} ms, {slow:8.1f} ms with delays: {said}")
        forward, backward = self.sent()
        lines.append(f"sent by a rank: {forward:,} bytes forward, {backward:,} backward")
        lines.append("gloo shows the order, not the gain; not run on a GPU yet")
        return "\n".join(lines)


ITEMSIZE = {"float32": 4, "bfloat16": 2}


def asked_of(name: str, *, ranks: int, windows: int, mode: str, delay: float, rounds: int) -> Asked:
    """The recipe of that name or file, or that of the run in that folder. InputError where it cannot be cut so."""
    from puna.model.modes import FUNCTIONS
    from puna.parallel.tensor import refuse_uneven

    if mode not in FUNCTIONS:
        raise InputError(f"no mode is named {mode}", where="--layer", mend=f"choose one of {', '.join(FUNCTIONS)}")
    recipe = recipe_of(name)
    config = ModelConfig.from_recipe(recipe, recipe.tokenizer.pieces)
    refuse_uneven(config, ranks)
    if config.context % ranks:
        what = f"a window of {config.context} tokens does not divide by {ranks} ranks"
        raise InputError(what, where="--ranks", mend="choose a number that divides it")
    refuse_too_large(replace(config, layers=1), ranks * windows * config.context, name)
    return Asked(config, ranks, windows, mode, delay=delay, rounds=rounds)


def overlap(asked: Asked) -> Overlap:
    """Measure on `asked.ranks` processes of this machine. PunaError when one of them fails."""
    say(f"tracing a layer on {asked.ranks} processes, then {asked.rounds} rounds of steps")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        context = multiprocessing.get_context("spawn")
        ranks = [context.Process(target=_rank, args=(rank, asked, name)) for rank in range(asked.ranks)]
        for each in ranks:
            each.start()
        try:
            while any(each.is_alive() for each in ranks):
                ranks[0].join(0.05)
                failed = [number for number, each in enumerate(ranks) if each.exitcode]
                if failed:
                    raise PunaError(f"rank {failed[0]} ended with status {ranks[failed[0]].exitcode}")
        finally:
            for each in ranks:
                each.kill()
                each.join()
        found = [storage.read_json(folder / f"{rank}.json") for rank in range(asked.ranks)]
    plain, delayed = (traces([each[name] for each in found]) for name in ("trace", "trace_delayed"))
    step = _slowest([each["step"] for each in found]) if asked.layers else None
    return Overlap(asked, plain, delayed, _slowest([each["layer"] for each in found]), step)


def _slowest(found: list[dict[str, Any]]) -> Timed:
    """Of all ranks, round by round."""

    def slowest(key: str) -> list[float]:
        return [max(seconds) for seconds in zip(*(each[key] for each in found), strict=True)]

    return Timed(slowest("without"), slowest("delayed"), slowest("stood"), found[0]["collectives"])


def traces(found: list[dict[str, Any]]) -> list[Trace]:
    """Of all ranks, on one clock that starts with the first of them."""
    from puna.parallel.tracing import Collective, Operation

    zero = min(each["times"][0] for each in found)
    traces = []
    for each in found:
        collectives = [Collective(**told) for told in each["collectives"]]
        for one in collectives:
            for name in ("begun", "started", "moved", "ended", "asked", "got"):
                setattr(one, name, getattr(one, name) - zero)
        operations = [Operation(name, begun - zero, ended - zero) for name, begun, ended in each["operations"]]
        began, turned, ended = (at - zero for at in each["times"])
        traces.append(Trace(began, turned, ended, collectives, operations))
    return traces


def _rank(rank: int, asked: Asked, folder: str) -> None:
    """One process: measures, and leaves what it found in FOLDER/RANK.json."""
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import DeviceMesh

    from puna.model import modes
    from puna.model.llama import Llama
    from puna.model.rotary import rope_table
    from puna.model.weights import initialise
    from puna.parallel.tensor import cut, sum_gradients
    from puna.parallel.tracing import Operations, traced_group

    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=asked.ranks, timeout=LIMIT)
    group = traced_group()
    config, dtype = asked.config, getattr(torch, asked.dtype)
    model = Llama(replace(config, layers=max(1, asked.layers)))
    initialise(model, seed=1)
    cut(model.to(dtype), DeviceMesh.from_group(group, "cpu", mesh_dim_names=("tensor",)))
    modes.use(model, cast(modes.Mode, asked.mode), compiles=False)
    rope = rope_table(config.context, config.head_dim, config.rope_base)
    tokens_BL1 = torch.randint(config.vocabulary, (asked.windows, config.context + 1))
    x_BOD = torch.randn(asked.windows, config.context // asked.ranks, config.dim, dtype=dtype, requires_grad=True)

    def layer() -> list[float]:
        model.zero_grad()
        began = time.perf_counter()
        y_BOD = model.layers[0](x_BOD, rope, None, None)
        turned = time.perf_counter()
        y_BOD.backward(y_BOD.detach())
        return [began, turned, time.perf_counter()]

    def step() -> list[float]:
        model.zero_grad()
        began = time.perf_counter()
        model.loss(tokens_BL1).nats.backward()  # type: ignore[no-untyped-call]
        sum_gradients(model.parameters())
        return [began, time.perf_counter()]

    def traced(delay: float) -> dict[str, Any]:
        _settle(group, delay)
        with Operations() as noted:
            times = layer()
        operations = [(each.name, each.begun, each.ended) for each in noted.all]
        return {"times": times, "collectives": [asdict(each) for each in group.noted], "operations": operations}

    layer()  # meets fresh memory
    found = {
        "trace": traced(0.0),
        "trace_delayed": traced(asked.delay),
        "layer": _timed(layer, group, asked),
    }
    if asked.layers:
        step()
        found["step"] = _timed(step, group, asked)
    storage.write_json(Path(folder) / f"{rank}.json", found)
    dist.barrier()
    group.shutdown()


def _timed(work: Callable[[], list[float]], group: TracedGroup, asked: Asked) -> dict[str, Any]:
    from puna.parallel.tracing import stood

    found: dict[str, list[float]] = {"without": [], "delayed": [], "stood": []}
    for _ in range(asked.rounds):
        for name, delay in (("without", 0.0), ("delayed", asked.delay)):
            _settle(group, delay)
            times = work()
            found[name].append(times[-1] - times[0])
        found["stood"].append(stood(group.noted))
    return {**found, "collectives": len(group.noted)}


def _settle(group: TracedGroup, delay: float) -> None:
    """Begin together, with nothing noted."""
    group.delay = 0.0
    group.barrier().wait()
    group.noted.clear()
    group.delay = delay
