"""Steps of Puna and of peers, and the bare matmuls, in turn: a table of speeds, ratios and memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch

from puna.model import flop
from puna.model.config import ModelConfig
from puna.model.modes import Mode
from puna.progress import size
from puna.recipe import Train
from puna.train.speed import memory
from puna.train.speed.limit import Limit
from puna.train.speed.ours import Ours
from puna.train.speed.peers import PEERS
from puna.train.speed.turns import Spread, Turn, clocked, in_turn, ratio, spread

MATMULS = "its matmuls alone"
RATE = 1e-4  # of the steps that are measured; any would do


@dataclass(frozen=True)
class Row:
    """One way to train, on so many threads."""

    name: str
    threads: int
    rate: Spread
    """Tokens a second of processor time: of one core, whatever the number of threads."""
    wall: Spread
    """Tokens a second by the clock."""
    share: Spread
    """Of the speed that the model's matmuls alone have, in processor time."""
    faster: Spread | None
    """How many times as fast the first row is, round by round; None in the first one."""
    memory: int | None
    """Bytes that torch held at most during a step, beyond what it held before; None where it was not measured."""


@dataclass(frozen=True)
class Table:
    """What was measured of one model in one type."""

    config: ModelConfig
    dtype: str
    windows: int
    rows: tuple[Row, ...]
    flops: Mapping[int, Spread]
    """FLOP a second of processor time of the bare matmuls, by number of threads."""
    left_out: tuple[str, ...]
    """Peers that were not measured, with the reason."""

    def mfu(self, row: Row) -> float:
        """Model FLOP utilisation: FLOP of a token (`flop.FORMULA`) by tokens a second, over the FLOP a second of the
        bare matmuls of the same round."""
        return flop.token_flop(self.config, self.config.context) / flop.matmul_flop(self.config) * row.share.median

    def as_json(self) -> dict[str, Any]:
        rows = [{**_plain(vars(row)), "mfu": round(self.mfu(row), 4)} for row in self.rows]
        told = {"windows": self.windows, "context": self.config.context, "dtype": self.dtype, "rows": rows}
        told |= {"matmul_flops": {str(threads): found._asdict() for threads, found in self.flops.items()}}
        told |= {"token_flop": flop.token_flop(self.config, self.config.context), "token_flop_formula": flop.FORMULA}
        return told | {"left_out": list(self.left_out)}

    def as_text(self) -> str:
        lines = []
        for threads, found in self.flops.items():
            head = "1 thread" if threads == 1 else f"{threads} threads"
            lines.append(f"{head:26}  tokens/s/core  tokens/s  of matmuls  memory of a step")
            for row in (row for row in self.rows if row.threads == threads):
                held = "" if row.memory is None else size(row.memory)
                line = f"{row.name:26}  {row.rate.median:13,.0f}  {row.wall.median:8,.0f}  {row.share.median:10.2f}  "
                beside = row.faster and f"Puna is {row.faster.median:.2f} times as fast" + (
                    f" ({row.faster.least:.2f} to {row.faster.most:.2f})"
                )
                lines.append(f"{line}{held:>16}  {beside or ''}".rstrip())
            bare = found.median / flop.matmul_flop(self.config)
            lines.append(f"{MATMULS:26}  {bare:13,.0f}  {'':8}  {1:10.2f}  {found.median / 1e9:12.0f} GFLOP/s")
            first = next(row for row in self.rows if row.threads == threads)
            each, matmul = flop.token_flop(self.config, self.config.context), flop.matmul_flop(self.config)
            lines.append(
                f"MFU of {first.name}: {self.mfu(first):.2f} = {each / 1e6:,.1f} MFLOP a token, of which"
                f" {matmul / 1e6:,.1f} in matmuls with weights, at {first.share.median:.2f} of the speed of these alone"
            )
            lines.append("")
        lines.append(f"FLOP of a token: {flop.FORMULA}. Seconds are those of the processor, of all threads.")
        return "\n".join([*lines, *(f"left out: {reason}" for reason in self.left_out)])


def table(
    config: ModelConfig,
    train: Train,
    dtype: str,
    modes: Sequence[Mode],
    *,
    windows: int,
    peers: Sequence[str] = (),
    threads: Sequence[int] = (1,),
    rounds: int = 3,
    compiles: bool = False,
    with_memory: bool = False,
) -> Table:
    """Measure steps of `windows` windows of random tokens: Puna in `modes`, the first of which the others are beside,
    and `peers` of the same type, by the names of PEERS."""
    chance = torch.Generator().manual_seed(1)
    tokens_BL1 = torch.randint(config.vocabulary, (windows, config.context + 1), generator=chance)
    steps: dict[str, Callable[[], object]] = {}
    left_out = []
    for mode in modes:
        ours = Ours(config, train, getattr(torch, dtype), mode, compiles=compiles)
        steps[f"puna {mode}"] = partial(ours, tokens_BL1, RATE)
    for name in peers:
        peer = PEERS[name]
        reason = _why_left_out(name, dtype, compiles=compiles)
        if reason:
            left_out.append(reason)
        else:
            steps[name] = partial(peer.step(config, train), tokens_BL1, RATE)
    limit = Limit(config, windows * config.context, getattr(torch, dtype))
    runs = {name: partial(clocked, step) for name, step in steps.items()} | {MATMULS: limit}
    held = {name: memory.peak(step) for name, step in steps.items()} if with_memory else {}
    found = in_turn(runs, rounds, threads)
    count = windows * config.context
    rows = [_row(name, number, turns, count, held.get(name)) for number, turns in found.items() for name in steps]
    work = flop.matmul_flop(config) * count
    flops = {number: spread([work / turn.processor for turn in turns[MATMULS]]) for number, turns in found.items()}
    return Table(config, dtype, windows, tuple(rows), flops, tuple(left_out))


def _row(name: str, threads: int, turns: Mapping[str, Sequence[Turn]], tokens: int, held: int | None) -> Row:
    own, first = turns[name], next(iter(turns))
    shares = [bare.processor / turn.processor for bare, turn in zip(turns[MATMULS], own, strict=True)]
    return Row(
        name,
        threads,
        spread([tokens / turn.processor for turn in own]),
        spread([tokens / turn.wall for turn in own]),
        spread(shares),
        None if name == first else ratio(turns[first], own),
        held,
    )


def _why_left_out(name: str, dtype: str, *, compiles: bool) -> str:
    """Why a peer is not measured; "" when it is."""
    peer = PEERS[name]
    if peer.dtype != dtype:
        return f"{name}: this table is of {dtype}"
    if peer.compiles and not compiles:
        return f"{name}: nothing is compiled here"
    if find_spec(peer.project) is None:
        return f"{name}: {peer.project} is not installed"
    return ""


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value._asdict() if isinstance(value, Spread) else value for name, value in row.items()}
