"""The pictures of a comparison: training loss and held-out text by tokens and by FLOP, and the scaling law.

The first panel of the first is the paper's Figure 1: training loss over tokens, a line for each size. All lines of a
group have its colour; seeds of a group are thinner lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from puna.report import figures
from puna.report.compare.law import Law
from puna.report.compare.runs import Compared, Group
from puna.report.figures import FAINT, INK, MUTED, SERIES
from puna.report.markup import Html, amount

SHOWN_FROM = 0.01  # of the largest compute: what lies before is no learning yet, and would take half of a log axis
ROOM = 0.55  # what is drawn of a curve reaches so far down from its first loss to its last


@dataclass(frozen=True)
class Line:
    """A curve of one run."""

    group: int
    tokens: np.ndarray
    compute: np.ndarray
    """FLOP up to these tokens."""
    values: np.ndarray
    thin: bool
    """One of several seeds."""


def training(several: Sequence[Group], in_bits: bool) -> Html:
    """Training loss, smoothed as in each run's own report. in_bits: as bits per byte of text, for which tokens of
    different tokenizers can be compared; else nats per token."""

    def values(run: Compared) -> tuple[np.ndarray, np.ndarray]:
        curve = run.facts.curve
        if curve is None or (in_bits and run.bytes_per_token is None):
            return np.array([]), np.array([])
        scale = 1 / (np.log(2) * (run.bytes_per_token or 1.0)) if in_bits else 1.0
        return curve.tokens, figures.smoothed(curve.loss) * scale

    return _curves("Training loss", "bits per byte" if in_bits else "nats per token", several, values)


def heldout(several: Sequence[Group]) -> Html:
    """Held-out bits per byte as training went on."""
    return _curves("Held-out text", "bits per byte", several, Compared.heldout_curve)


def scaling(several: Sequence[Group], points: Sequence[tuple[float, Sequence[float]]], law: Law | None) -> Html:
    """Held-out bits per byte over size, both in logarithms: a dot a run, the law and its band of 95 %."""
    sizes = np.array([size for size, _ in points], float)
    colors = [SERIES[place] for place in figures.series(len(several))]
    by_size = {float(group.weights): color for group, color in zip(several, colors, strict=True)}

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots()
        low, high = min(min(seeds) for _, seeds in points), max(max(seeds) for _, seeds in points)
        if law is not None:
            x = np.geomspace(sizes.min() / 1.25, sizes.max() * 1.25, 60)
            below, above = law.band(x)
            # A band of few sizes can be wider than the page; it is cut where the picture ends.
            reach = 0.6 * (high - low)
            below, above = np.maximum(below, low - reach), np.minimum(above, high + reach)
            axes.fill(np.concatenate([x, x[::-1]]), np.concatenate([below, above[::-1]]), color=FAINT, alpha=0.4, lw=0)
            axes.plot(x, np.clip(law.at(x), low - reach, high + reach), color=INK, linewidth=1.4)
            low, high = min(low, float(below.min())), max(high, float(above.max()))
        for size, seeds in points:
            for value in seeds:
                # A line without length and with round ends: a marker would be a reference within the file.
                axes.plot([size, size], [value, value], color=by_size.get(size, INK), linewidth=8)
        axes.set_xscale("log")
        axes.set_yscale("log")
        room = 0.06 * (high - low) or 0.05 * high
        axes.set_ylim(low - room, high + room)
        axes.minorticks_off()
        axes.set_xticks(sizes, [amount(size) for size in sizes])
        ticks = [tick for tick in MaxNLocator(5).tick_values(low, high) if low - room <= tick <= high + room]
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_title("Held-out text, bits per byte (logarithmic)")
        axes.set_xlabel("weights beside the input embedding (logarithmic)")
        axes.grid(True, axis="y")

    return figures.both("Held-out bits per byte over the number of weights", draw, wide=330, narrow=300)


def _curves(
    what: str, unit: str, several: Sequence[Group], of: Callable[[Compared], tuple[np.ndarray, np.ndarray]]
) -> Html:
    lines = []
    for place, group in enumerate(several):
        for run in group.runs:
            tokens, values = of(run)
            if len(tokens):
                lines.append(Line(place, tokens, tokens * run.token_flop, values, len(group.runs) > 1))
    if not lines:
        return Html("")
    top = _top(lines)

    def draw(figure: Figure, narrow: bool) -> None:
        panels = figure.subplots(2, 1, sharey=True) if narrow else figure.subplots(1, 2, sharey=True)
        scale, name = figures.scale_of(np.concatenate([line.tokens for line in lines]))
        least = SHOWN_FROM * max(float(line.compute[-1]) for line in lines)
        for line in lines:
            _draw(panels[0], line, line.tokens / scale, len(several), top, 0.0)
            _draw(panels[1], line, line.compute, len(several), top, least)
        panels[0].set_title(f"{what}, {unit}")
        panels[0].set_xlim(0, 1.02 * max(float(line.tokens[-1]) for line in lines) / scale)
        panels[0].set_xlabel(f"{name} tokens trained on".strip())
        panels[1].set_title("The same, by computation" if not narrow else f"{what}, {unit}, by computation")
        panels[1].set_xscale("log")
        panels[1].minorticks_off()
        _powers(panels[1], least, max(float(line.compute[-1]) for line in lines))
        panels[1].set_xlabel("FLOP spent on training (logarithmic)")
        for axes in panels:
            axes.grid(True, axis="y")
            axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
            axes.yaxis.set_major_formatter(lambda value, position: f"{value:g}")
        _legend(figure, several, narrow)

    rows = -(-len(several) // 2)
    ends = ", ".join(f"{several[line.group].label} {line.values[-1]:.3f}" for line in lines)
    label = f"{what} in {unit} over tokens and over FLOP, at the end: {ends}"
    return figures.both(label, draw, wide=310 + 20 * -(-len(several) // 4), narrow=560 + 20 * rows)


def _draw(axes: Axes, line: Line, x: np.ndarray, groups: int, top: float, least: float) -> None:
    place = figures.series(groups)[line.group]
    seen = np.where((line.values <= top) & (x >= least), line.values, np.nan)
    kept = figures.thinned(seen)
    dashed = (0, (4, 2)) if line.group >= len(SERIES) else "-"
    wide = 1.0 if line.thin else 1.9
    axes.plot(x[kept], seen[kept], color=SERIES[place], linewidth=wide, linestyle=dashed)
    if len(kept) <= 12:
        for across, up in zip(x[kept], seen[kept], strict=True):
            axes.plot([across, across], [up, up], color=SERIES[place], linewidth=4.5)


def _powers(axes: Axes, low: float, high: float) -> None:
    """Ticks of a logarithmic axis at the powers of ten, and where these are few, between."""
    powers = range(int(np.floor(np.log10(max(low, 1.0)))), int(np.ceil(np.log10(max(high, 10.0)))) + 1)
    few = np.log10(high / max(low, 1.0)) < 3
    ticks = [(lead, power) for power in powers for lead in ((1, 3) if few else (1,))]
    shown = [(lead * 10.0**power, _power(lead, power)) for lead, power in ticks if low <= lead * 10.0**power <= high]
    axes.set_xticks([tick for tick, _ in shown], [text for _, text in shown])
    axes.set_xlim(0.85 * low, 1.15 * high)


def _power(lead: int, power: int) -> str:
    raised = str(power).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{raised}" if lead == 1 else f"{lead}·10{raised}"


def _top(lines: Sequence[Line]) -> float:
    """The value above which nothing is drawn: the first steps fall so fast that they would flatten all the rest."""
    finite = [line.values[np.isfinite(line.values)] for line in lines]
    there = [values for values in finite if len(values)]
    if not there:
        return np.inf
    lowest = min(float(values.min()) for values in there)
    return max(lowest + ROOM * (float(values.max()) - lowest) if len(values) > 50 else values.max() for values in there)


def _legend(figure: Figure, several: Sequence[Group], narrow: bool) -> None:
    colors = [SERIES[place] for place in figures.series(len(several))]
    handles = [Line2D([], [], color=color, linewidth=2.5) for color in colors]
    named = [figures.short(group.label, 24) + _seeds(group) for group in several]
    figure.legend(
        handles, named, loc="outside upper left", ncols=2 if narrow else 4, frameon=False, labelcolor=MUTED,
        handlelength=1.2, columnspacing=1.4, borderaxespad=0.0, fontsize=11.5,
    )  # fmt: skip


def _seeds(group: Group) -> str:
    number = len(group.seeds)
    return f" ({number} seeds)" if number > 1 else ""
