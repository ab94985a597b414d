"""The paper's Figure 2 of this run: each benchmark, the training loss and held-out bits per byte over the tokens.

All numbers are those of evaluations/benchmarks/curve.json, which `puna evaluate --watch` writes. A panel is a task; its
band is one standard error to each side, the broken line is what guessing gives. What LLaMA ended with is a level line
where it lies within the panel, and told below in any case. The paper's figure holds 1.0 and 1.4 trillion tokens, and
its values are published as a picture alone, so none of its points is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from puna import storage
from puna.evaluate.tables import published_for
from puna.evaluate.watching import CURVE, title_of
from puna.report import figures
from puna.report.facts import Facts, at, items, number
from puna.report.figures import ACCENT, FAINT, MUTED, RULE
from puna.report.markup import Html, count, element, fixed, join, note, table
from puna.storage import Place

FILE = f"evaluations/benchmarks/{CURVE}.json"
PAPERS = ("triviaqa", "hellaswag", "naturalquestions", "siqa", "winogrande", "piqa")
"""The panels of the paper, in its order; others follow."""
CHANCE = {"hellaswag": 1 / 4, "siqa": 1 / 3, "winogrande": 1 / 2, "piqa": 1 / 2, "boolq": 1 / 2, "openbookqa": 1 / 4}
CHANCE |= dict.fromkeys(("arc_easy", "arc_challenge", "race_middle", "race_high", "mmlu"), 1 / 4)
MODELS = ("LLaMA 7B", "LLaMA 65B")
MOST = 12  # panels
PANEL = {"wide": 148, "narrow": 142}  # units high
COLUMNS = 3
NOTE = "In percent. Band: one standard error. Broken: guessing. r: correlation with held-out bits per byte."
DOTS = 40  # checkpoints that are marked; more would touch each other


@dataclass(frozen=True)
class Panel:
    """What one panel draws: a value for each checkpoint that has one."""

    name: str
    """Its key in a row of the file."""
    title: str
    tokens: np.ndarray
    values: np.ndarray
    """Of a task in percent."""
    errors: np.ndarray
    """Standard errors, NaN where none is told."""
    chance: float | None = None
    goes_with: float | None = None
    """Its correlation with bits per byte, where it is told."""
    ends: tuple[tuple[str, float], ...] = ()
    """(LLaMA's model, what it ended with), where that was read in the paper."""


def section(facts: Facts) -> Html:
    """The part of the report."""
    found = panels(facts.benchmarks)
    if not found:
        return note("No benchmark was asked of its checkpoints. puna evaluate RUN --watch does, and writes ", FILE, ".")
    high = {name: _height(found, 1 if name == "narrow" else COLUMNS, name) for name in PANEL}
    drawn = figures.both(_label(found), lambda figure, narrow: _draw(figure, found, narrow), **high)
    parts = [element("figure", drawn, element("figcaption", caption(facts.benchmarks, found)))]
    return join(*parts, _correlations(facts.benchmarks, found))


def write(run: Place) -> Place | None:
    """Draw curve.svg beside curve.json; None where there is nothing to draw."""
    folder = run / "evaluations" / "benchmarks"
    found = panels(storage.read_json(folder / f"{CURVE}.json"))
    if not found:
        return None
    height = _height(found, COLUMNS, "wide")

    def draw(figure: Figure, narrow: bool) -> None:
        _draw(figure, found, narrow)
        figure.supxlabel(NOTE, x=0.01, ha="left", fontsize=10.5, color=MUTED)

    text = figures.alone(_label(found), draw, height + 24)
    storage.write(folder / f"{CURVE}.svg", text.encode())
    return folder / f"{CURVE}.svg"


def panels(curve: Any) -> list[Panel]:
    """What is drawn of curve.json: tasks in the paper's order, then others, then loss and bits per byte."""
    rows = [row for row in at(curve, "rows") or [] if number(row, "tokens") is not None]
    rows.sort(key=lambda row: number(row, "tokens") or 0.0)
    names = dict.fromkeys(name for row in rows for name, value in items(row) if isinstance(value, dict))
    place = {task: index for index, task in enumerate(PAPERS)}
    order = sorted(names, key=lambda name: place.get(name.rpartition("-")[0], len(place)))
    told = at(curve, "correlations", "bits per byte")
    found = [_panel(name, title_of(name), rows, ("mean",), 100.0, number(told, name)) for name in order[: MOST - 2]]
    found.append(_panel("loss", "Training loss, nats per token", rows, (), 1.0))
    found.append(_panel("bits_per_byte", "Held-out bits per byte", rows, (), 1.0))
    return [each for each in found if len(each.values)] if names else []


def caption(curve: Any, found: Sequence[Panel]) -> str:
    """What the picture shows, and LLaMA's last values."""
    checkpoints = count(len(at(curve, "rows") or []), "checkpoints")
    told = f"Of {checkpoints}, in percent; the band is one standard error to each side. "
    if any(each.chance is not None for each in found):
        told += "Broken line: what guessing gives. "
    if any(each.goes_with is not None for each in found):
        told += "r: correlation (Pearson) with held-out bits per byte over the checkpoints. "
    ended = [
        f"{each.title} {' and '.join(fixed(value, 1) for _, value in each.ends)}"
        for each in found
        if len(each.ends) == len(MODELS)
    ]
    if ended:
        told += f"The paper's {MODELS[0]} and {MODELS[1]} ended with: {'; '.join(ended)}."
    return told.strip()


def _correlations(curve: Any, found: Sequence[Panel]) -> Html:
    """How each task goes with loss and bits per byte."""
    rows: list[list[object]] = []
    for each in found:
        pair = [number(curve, "correlations", which, each.name) for which in ("loss", "bits per byte")]
        if any(value is not None for value in pair):
            rows.append([each.title, *(fixed(value, 2).replace("-", "\N{MINUS SIGN}") for value in pair)])
    if not rows:
        return note("How they go together is told from three checkpoints on.")
    return table(["correlation (Pearson) over checkpoints", "with training loss", "with held-out bits per byte"], rows)


def _panel(
    name: str, title: str, rows: Sequence[Any], keys: tuple[str, ...], scale: float, goes_with: float | None = None
) -> Panel:
    told = [(number(row, "tokens"), number(row, name, *keys), number(row, name, "error")) for row in rows]
    there = [(tokens, value, error) for tokens, value, error in told if tokens is not None and value is not None]
    task, _, shots = name.rpartition("-")
    chance = CHANCE.get(task)
    rows_of = published_for(task, int(shots)) if shots.isdigit() else {}
    return Panel(
        name,
        title,
        np.array([tokens for tokens, _, _ in there], float),
        np.array([scale * value for _, value, _ in there], float),
        np.array([np.nan if error is None else scale * error for _, _, error in there], float),
        None if chance is None else scale * chance,
        goes_with,
        tuple((model, rows_of[model]) for model in MODELS if model in rows_of),
    )


def _height(found: Sequence[Panel], columns: int, name: str) -> int:
    return PANEL[name] * -(-len(found) // columns) + 24


def _label(found: Sequence[Panel]) -> str:
    ends = (f"{each.title} from {fixed(each.values[0], 2)} to {fixed(each.values[-1], 2)}" for each in found)
    return "Benchmarks over the tokens trained on: " + ", ".join(ends)


def _draw(figure: Figure, found: Sequence[Panel], narrow: bool) -> None:
    columns = 1 if narrow else COLUMNS
    lines = -(-len(found) // columns)
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True)
    scale, unit = figures.scale_of(np.concatenate([each.tokens for each in found]))
    last = max(float(each.tokens[-1]) for each in found) / scale
    for index, axes in enumerate(grid.flat):
        if index >= len(found):
            axes.set_axis_off()
            continue
        _draw_panel(axes, found[index], scale)
        axes.set_xlim(0, 1.04 * last or 1.0)
        if index + columns >= len(found):
            axes.tick_params(labelbottom=True)
            axes.set_xlabel(f"{unit} tokens".strip())


def _draw_panel(axes: Axes, panel: Panel, scale: float) -> None:
    x, y = panel.tokens / scale, panel.values
    spread = np.nan_to_num(panel.errors)
    around = np.concatenate([y - spread, (y + spread)[::-1]])
    axes.fill(np.concatenate([x, x[::-1]]), around, color=FAINT, alpha=0.45, linewidth=0)
    axes.plot(x, y, color=ACCENT, linewidth=1.8)
    if len(x) <= DOTS:  # each a line without length and with round ends: a marker would be a reference within the file
        for each, value in zip(x, y, strict=True):
            axes.plot([each, each], [value, value], color=ACCENT, linewidth=4.5)
    low, high = float(np.min(y - spread)), float(np.max(y + spread))
    if panel.chance is not None:
        axes.axhline(panel.chance, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
        low, high = min(low, panel.chance), max(high, panel.chance)
    room = 0.08 * (high - low) or 0.5
    for model, value in panel.ends:
        if low - room <= value <= high + room:
            axes.axhline(value, color=RULE, linewidth=1.2)
            axes.annotate(model, (0, value), (2, 2), textcoords="offset points", color=MUTED, fontsize=10)
    axes.set_ylim(low - room, high + room)
    axes.set_title(figures.short(panel.title, 34), fontsize=11.5)
    if panel.goes_with is not None:
        told = f"r {panel.goes_with:.2f}".replace("-", "\N{MINUS SIGN}")
        axes.set_title(told, loc="right", color=MUTED, fontsize=10)
    axes.grid(True, axis="y")
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(lambda value, position: f"{value:g}")
    axes.xaxis.set_major_locator(MaxNLocator(4))
