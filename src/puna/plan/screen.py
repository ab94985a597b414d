"""A plan as a terminal shows it: lines of at most 80 columns, one subject each, or several plans beside each other."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence

from puna.plan import shapes
from puna.plan.energy import PUE, TONNES_PER_MWH
from puna.plan.memory import RESERVE
from puna.plan.planned import Plan, Saving
from puna.plan.serving import Serving
from puna.progress import WIDTH, size

NAME = 10  # columns of what a line is about
REACHED = "published runs of weeks reached 0.84 to 1.00 of such a rate: docs/plan.md"
PARTS = {"shard": "gathering weights", "tensor": "waiting for the tensor group", "replicate": "summing gradients"}


def as_text(plan: Plan) -> str:
    """Every subject of one plan."""
    layout, step, memory = plan.choice
    flops, used = plan.flop_per_token(), plan.utilisation()
    windows = f"{layout.micro_batch} window{'s' if layout.micro_batch > 1 else ''}"
    times = layout.micro_batches(plan.windows)
    mesh = " x ".join(f"{name} {number}" for name, number in layout.mesh().items() if number > 1) or "one GPU"
    room = plan.gpu.memory - RESERVE
    kept = "" if layout.reshard or layout.shard == 1 else ", weights stay gathered"
    lines = [
        f"{plan.name} on {plan.gpus:,} x {plan.gpu.name}",
        "",
        *_said("Model", f"{shapes.parameters(plan.config):,} weights, context {plan.config.context:,}"),
        *_rows("FLOP", [(f"{each / 1e9:,.4g} G", f"{used[name]:.1%}", name) for name, each in flops.items()]),
        *_said("", "of a token; share of the GPU's peak; formula (N weights, L layers, D dim, S context)"),
        *_said("Mesh", f"{mesh}; {layout.mode} layer; a data rank reads {times} x {windows} a step{kept}"),
        *_said("Memory", f"{size(memory.total)} of {size(room)} a GPU, at its peak ({memory.peak})"),
        *_rows("", [(size(each), name) for name, each in _by_size(memory.tensors)]),
        *_said("Saving", _saving(plan.saving)),
        *_said("Step", f"{step.tokens:,} tokens in {_seconds(step.seconds)}: {_shares(step.parts(), step.seconds)}"),
        *_said("Speed", f"{plan.rate:,.0f} tokens a second and GPU, {_count(plan.rate * plan.gpus)} in all"),
        *_said("Run", f"{_count(plan.tokens)} tokens in {plan.steps:,} steps: {_days(plan)}{_hours(plan)}"),
        *_said("Energy", _energy(plan)),
        *_said("Money", _money(plan)),
        "",
        *textwrap.wrap(f"Steps alone; {REACHED}.", WIDTH),
    ]
    return "\n".join(lines)


def table(plans: Sequence[Plan | str], names: Sequence[str], head: str) -> str:
    """Plans in columns; a text in the place of one says why there is none."""
    rows = [("", list(names))]
    rows += [
        (label, ["-" if isinstance(plan, str) else tell(plan) for plan in plans]) for label, tell in COLUMN.items()
    ]
    first = max(len(label) for label, _ in rows) + 2
    widths = [max(len(row[column]) for _, row in rows) + 2 for column in range(len(names))]
    lines = [
        f"{label:{first}}" + "".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
        for label, row in rows
    ]
    lost = [f"{name}: {plan}" for name, plan in zip(names, plans, strict=True) if isinstance(plan, str)]
    notes = ["mesh: replicate x shard x tensor x pipeline; windows: of a micro-batch.", f"Steps alone; {REACHED}."]
    priced = [plan for plan in plans if not isinstance(plan, str) and plan.priced]
    notes += [f"{_price(plan)} a GPU hour: {plan.priced}." for plan in priced[:1]]
    ends = [line for note in (*lost, *notes) for line in textwrap.wrap(note, WIDTH, break_on_hyphens=False)]
    return "\n".join([head, "", *lines, "", *ends])


def serving_table(rows: Sequence[Serving], head: str, context: int) -> str:
    """How the model writes text, by the form of its weights."""
    cells = [("weights", "a GPU", "cache", "fits", "tokens/s", "sequences", "together", "prefill/s")]
    for row in rows:
        told = (f"{row.alone:,.0f}", f"{row.sequences:,}", f"{row.together:,.0f}", f"{row.prefill:,.0f}")
        fits = ("yes", *told) if row.fits else ("no", "", "", "", "")
        cells.append((row.form, size(row.weights), size(row.cache), *fits))
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [
        f"{row[0]:{widths[0]}}" + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in cells
    ]
    notes = f"cache: of one sequence of {context:,} tokens, on one GPU; {size(rows[0].room)} of it are planned with. "
    notes += "tokens/s: of one sequence; together: of as many as fit. Rates are what reading weights and cache takes."
    return "\n".join([head, "", *(line.rstrip() for line in lines), "", *textwrap.wrap(notes, WIDTH)])


def _said(name: str, text: str) -> list[str]:
    rows = textwrap.wrap(text, WIDTH - NAME, break_on_hyphens=False)
    return [f"{name if number == 0 else '':{NAME}}{row}" for number, row in enumerate(rows)]


def _rows(name: str, rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines whose columns but the last are right-aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return [
        f"{name if number == 0 else '':{NAME}}"
        + "".join(f"{cell:>{width}}  " for cell, width in zip(row, widths, strict=False))
        + row[-1]
        for number, row in enumerate(rows)
    ]


def _by_size(tensors: Mapping[str, int]) -> Iterable[tuple[str, int]]:
    return sorted(tensors.items(), key=lambda item: -item[1])


def _shares(parts: Mapping[str, float], seconds: float) -> str:
    named = {PARTS.get(name, name): part / seconds for name, part in parts.items()}
    return ", ".join(f"{name} {share:.0%}" for name, share in named.items() if share >= 0.005)


def _saving(saving: Saving) -> str:
    gathering = f", {size(saving.gathering)} more to gather" if saving.gathering else ""
    told = (
        f"a checkpoint has {size(saving.checkpoint)}, which rank 0 writes; memory of machines: {size(saving.copy)} a "
    )
    return f"{told}GPU for the copy{gathering}, {size(saving.whole)} to measure held-out text"


def _energy(plan: Plan) -> str:
    used = plan.energy
    how = f"{plan.gpu.watts:.0f} W x PUE {PUE}, {TONNES_PER_MWH} t a MWh: the paper's section 6"
    if used.mwh < 1:
        return f"{1000 * used.mwh:,.3g} kWh, {1000 * used.tco2eq:,.3g} kg CO2eq ({how})"
    return f"{used.mwh:,.1f} MWh, {used.tco2eq:,.1f} tCO2eq ({how})"


def _money(plan: Plan) -> str:
    if plan.dollars is None:
        return "no price given: --price DOLLARS a GPU hour"
    dollars = f"${_count(plan.dollars)}" if plan.dollars >= 0.01 else "under a cent"
    return f"{dollars} at {_price(plan)} a GPU hour ({plan.priced})"


def _hours(plan: Plan) -> str:
    return f", {plan.gpu_hours:,.0f} GPU hours" if plan.gpu_hours >= 1 else ""


def _price(plan: Plan) -> str:
    return f"${plan.price:.2f}"


def _days(plan: Plan) -> str:
    if plan.days >= 2:
        return f"{plan.days:,.1f} days"
    if plan.seconds >= 7200:
        return f"{plan.seconds / 3600:,.1f} hours"
    return f"{plan.seconds / 60:,.0f} minutes" if plan.seconds >= 120 else f"{plan.seconds:,.0f} seconds"


def _seconds(seconds: float) -> str:
    return f"{seconds:,.2f} s" if seconds >= 1 else f"{1000 * seconds:,.3g} ms"


def _count(number: float) -> str:
    """1.40T, 65.3B, 4.2M, 3.1K, 12."""
    for least, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= least:
            return f"{number / least:.3g}{unit}" if number / least < 999.5 else f"{number / least:.0f}{unit}"
    return f"{number:.3g}"


COLUMN: Mapping[str, Callable[[Plan], str]] = {
    "weights": lambda plan: _count(shapes.parameters(plan.config)),
    "tokens": lambda plan: _count(plan.tokens),
    "GFLOP a token": lambda plan: f"{plan.flop_per_token()['6 N without the input embedding'] / 1e9:.1f}",
    "mesh": lambda plan: "x".join(str(number) for number in plan.choice.layout.mesh().values()),
    "layer, windows": lambda plan: f"{plan.choice.layout.mode}, {plan.choice.layout.micro_batch}",
    "memory a GPU": lambda plan: size(plan.choice.memory.total),
    "tokens/s a GPU": lambda plan: f"{plan.rate:,.0f}",
    "days": lambda plan: f"{plan.days:,.1f}",
    "GPU hours": lambda plan: f"{plan.gpu_hours:,.0f}",
    "MWh": lambda plan: f"{plan.energy.mwh:,.1f}",
    "tCO2eq": lambda plan: f"{plan.energy.tco2eq:,.1f}",
    "dollars": lambda plan: "no price" if plan.dollars is None else _count(plan.dollars),
}
