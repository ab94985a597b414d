"""The report's figures: loss, learning rate, throughput and bits per byte, as inline SVG.

matplotlib draws each figure twice, for a wide and for a narrow page, since text in a picture that is scaled down to a
telephone cannot be read; the style sheet shows one of them. Colours are names of the style sheet (so a figure follows
the page into the dark), text stays text, and nothing in the drawing depends on the day, the user's matplotlib settings
or a random id: the same run gives the same bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from puna.report.facts import Curve
from puna.report.markup import Html, element, fixed, join, plain, visible

# Colours that stand for the style sheet's variables until the drawing is done.
INK, MUTED, RULE, ACCENT, FAINT = "#010101", "#020202", "#030303", "#040404", "#050505"
SERIES = ("#060606", "#070707", "#080808", "#090909", "#0a0a0a", "#0b0b0b", "#0c0c0c", "#0d0d0d")  # lines told apart
_VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule", ACCENT: "--accent", FAINT: "--faint"}
_VARIABLES |= {color: f"--series-{place}" for place, color in enumerate(SERIES, start=1)}
_WIDTHS = {"wide": 720, "narrow": 340}  # units of the drawing, of the size of a CSS pixel
_STRETCHES = 500  # a long curve is drawn in so many: more cannot be seen
_SPACES: dict[str, Any] = {"hspace": 0.1, "wspace": 0.1}  # between panels, in shares of a panel
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "puna",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 12.5,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.linewidth": 1.0,
    "axes.labelcolor": MUTED,
    "axes.titlelocation": "left",
    "axes.titlesize": 12.5,
    "axes.titlecolor": INK,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid.axis": "y",
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.solid_capstyle": "round",
    "path.simplify": True,
}


@dataclass(frozen=True)
class Bars:
    """One panel of a bar chart: what it is about and a value for each row, None where there is none."""

    title: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class Shares:
    """One panel of shares: what it is about, and a share and its standard error for each row, None where none is."""

    title: str
    values: Sequence[tuple[float | None, float | None]]


def loss(curve: Curve) -> Html:
    """Training loss over tokens, raw and smoothed, above the learning rate."""
    scale, unit = scale_of(curve.tokens)
    x = curve.tokens / scale
    smooth = smoothed(curve.loss)
    top = ceiling(curve)

    def draw(figure: Figure, narrow: bool) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        _line(upper, x, np.where(curve.loss <= top, curve.loss, np.nan), FAINT, 0.8)
        _line(upper, x, np.where(smooth <= top, smooth, np.nan), ACCENT, 1.8)
        if np.isfinite(smooth[-1]):
            end, place = fixed(smooth[-1], 2), (x[-1], smooth[-1])
            upper.annotate(end, place, (4, 0), textcoords="offset points", va="center", color=ACCENT)
        upper.set_title("Training loss, nats per token")
        _line(lower, x, curve.learning_rate, ACCENT, 1.8)
        lower.set_title("Learning rate")
        lower.set_ylim(bottom=0)
        lower.set_xlabel(f"{unit} tokens trained on")
        lower.yaxis.set_major_locator(MaxNLocator(3))
        lower.yaxis.set_major_formatter(lambda value, position: f"{value:g}")

    label = f"Training loss from {fixed(curve.loss[0], 2)} to {fixed(smooth[-1], 2)} nats per token, and learning rate"
    return both(label, draw, wide=430, narrow=400)


def throughput(curve: Curve) -> Html:
    """Tokens per second over tokens, raw and smoothed."""
    scale, unit = scale_of(curve.tokens)
    rate = curve.rate
    smooth = smoothed(rate)
    per, thousands = (1000, "thousand tokens per second") if np.nanmax(smooth) >= 2000 else (1, "tokens per second")
    top = 1.25 * float(np.nanmax(smooth))

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots()
        _line(axes, curve.tokens / scale, np.where(rate <= top, rate, np.nan) / per, FAINT, 0.8)
        _line(axes, curve.tokens / scale, smooth / per, ACCENT, 1.8)
        axes.set_title(thousands[0].upper() + thousands[1:])
        axes.set_ylim(0, top / per)
        axes.set_xlabel(f"{unit} tokens trained on")

    return both(f"Throughput in {thousands}", draw, wide=200, narrow=200)


def bits(rows: Sequence[str], panels: Sequence[Bars]) -> Html:
    """Bits per byte, a panel a source; the first row is the model, and its value is drawn through the others."""

    def draw(figure: Figure, narrow: bool) -> None:
        columns = 1 if narrow else min(3, len(panels))
        lines = -(-len(panels) // columns)
        grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
        highest = max((value for panel in panels for value in panel.values if value is not None), default=1.0)
        for index, axes in enumerate(grid.flat):
            if index >= len(panels):
                axes.set_axis_off()
                continue
            _bars(axes, rows, panels[index], highest)

    high = 34 + 21 * len(rows)
    return both(
        "Held-out bits per byte of the model and the baselines: " + ", ".join(panel.title for panel in panels),
        draw,
        wide=high * -(-len(panels) // min(3, len(panels))),
        narrow=high * len(panels),
    )


def shares(rows: Sequence[str], panels: Sequence[Shares]) -> Html:
    """Shares from 0 to 100 %, a panel a source: a point and its standard error for each row, the first the model's."""

    def draw(figure: Figure, narrow: bool) -> None:
        columns = 1 if narrow else min(3, len(panels))
        grid = figure.subplots(-(-len(panels) // columns), columns, squeeze=False, sharex=True, sharey=True)
        for index, axes in enumerate(grid.flat):
            if index >= len(panels):
                axes.set_axis_off()
                continue
            _points(axes, rows, panels[index])

    high = 58 + 21 * len(rows)
    label = "Cloze items answered right by the model and the baselines: " + ", ".join(panel.title for panel in panels)
    return both(label, draw, wide=high * -(-len(panels) // min(3, len(panels))), narrow=high * len(panels))


def _points(axes: Axes, rows: Sequence[str], panel: Shares) -> None:
    for place, (mean, error) in enumerate(panel.values):
        if mean is None:
            continue
        color = ACCENT if place == 0 else MUTED
        reach = (100 * max(0.0, mean - (error or 0.0)), 100 * min(1.0, mean + (error or 0.0)))
        axes.plot(reach, [place] * 2, color=color, linewidth=1.8)
        axes.plot([100 * mean] * 2, [place - 0.2, place + 0.2], color=color, linewidth=1.8)
    axes.set_title(short(panel.title, 40))
    axes.set_yticks(range(len(rows)), [short(row, 20) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.set_xticks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100 %"])
    axes.grid(True, axis="x")


def _bars(axes: Axes, rows: Sequence[str], panel: Bars, highest: float) -> None:
    places = range(len(rows))
    lengths = [value or 0.0 for value in panel.values]
    axes.barh(places, lengths, height=0.46, color=[ACCENT, *[FAINT] * (len(rows) - 1)])
    right = 1.24 * highest
    for place, value in zip(places, panel.values, strict=True):
        axes.text(right, place, fixed(value, 2), ha="right", va="center", color=ACCENT if place == 0 else MUTED)
    if panel.values[0] is not None:
        axes.plot([panel.values[0]] * 2, [-0.26, len(rows) - 0.6], color=ACCENT, linewidth=0.9)
    axes.set_title(short(panel.title, 40))
    axes.set_yticks(list(places), [short(row, 20) for row in rows])
    axes.set_xlim(0, right)
    axes.set_ylim(len(rows) - 0.5, -0.6)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.spines["left"].set_visible(True)
    axes.grid(False)


def smoothed(values: np.ndarray) -> np.ndarray:
    """The mean over `span(len(values))` neighbouring steps, fewer at the ends; what is not a number is left out."""
    half = span(len(values)) // 2
    there = np.isfinite(values)
    sums = np.concatenate(([0.0], np.cumsum(np.where(there, values, 0.0))))
    seen = np.concatenate(([0], np.cumsum(there)))
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((sums[high] - sums[low]) / (seen[high] - seen[low]))


def span(steps: int) -> int:
    """Over how many neighbouring steps the curves are smoothed: 4 % of them, an odd number."""
    return 2 * round(steps * 0.02) + 1


def ceiling(curve: Curve) -> float:
    """The loss above which nothing is drawn: the first steps fall so fast that they would flatten all the rest."""
    finite = curve.loss[np.isfinite(curve.loss)]
    if len(finite) < 50:
        return float(finite.max(initial=0.0))
    later = finite[len(finite) // 50 :]
    return float(max(later.max(), finite.min() + 0.6 * (finite.max() - finite.min())))


def scale_of(tokens: np.ndarray) -> tuple[float, str]:
    """By what tokens are divided on an axis, and what that is called."""
    most = float(np.nanmax(tokens, initial=0.0))
    for scale, unit in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if most >= 2 * scale:
            return scale, unit
    return 1.0, ""


def thinned(values: np.ndarray) -> np.ndarray:
    """Which elements of a curve to draw: all of a short one, of a long one the lowest and highest of every stretch, so
    that no spike is lost."""
    if len(values) <= 2 * _STRETCHES:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), _STRETCHES + 1).astype(int)
    kept: set[int] = set()
    for first, last in pairwise(edges):
        part = values[first:last]
        if np.isfinite(part).any():
            kept |= {first + int(np.nanargmin(part)), first + int(np.nanargmax(part))}
    return np.array(sorted(kept), int)


def series(number: int) -> list[int]:
    """Which of SERIES so many lines have, spread over all of them; more lines than colours begin again."""
    last = len(SERIES) - 1
    return [round(place * last / max(1, number)) if number <= last else place % len(SERIES) for place in range(number)]


def short(text: str, most: int) -> str:
    """At most so many characters, as they are seen."""
    seen = visible(text)
    return seen if len(seen) <= most else f"{seen[: most - 1]}…"


def _line(axes: Axes, x: np.ndarray, y: np.ndarray, color: str, width: float) -> None:
    kept = thinned(y)
    axes.plot(x[kept], y[kept], color=color, linewidth=width)
    axes.grid(True, axis="y")
    axes.set_xlim(0, 1.02 * float(x[-1]))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))


def both(label: str, draw: Callable[[Figure, bool], None], *, wide: int, narrow: int) -> Html:
    heights = {"wide": wide, "narrow": narrow}
    return join(*(element("div", _svg(label, draw, name, heights[name]), class_=name) for name in _WIDTHS))


def alone(label: str, draw: Callable[[Figure, bool], None], height: int) -> str:
    """A wide drawing as a file of its own, with the colours of the page, light and dark."""
    style = resources.files("puna.report").joinpath("style.css").read_text("utf-8")
    light, dark = re.findall(r":root \{\s*((?:[^{}]*--paper[^{}]*))\}", style)[:2]
    css = f":root {{{light}}} @media (prefers-color-scheme: dark) {{ :root {{{dark}}} }}"
    css = f"{css} svg {{ background: var(--paper); padding: 16px; stroke-linejoin: round }}"
    drawn = _svg(label, draw, "wide", height)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTHS["wide"]}" height="{height}" '
    return drawn.replace("<svg ", head, 1).replace(">", f"><style>{css}</style>", 1) + "\n"


def _svg(label: str, draw: Callable[[Figure, bool], None], name: str, height: int) -> Html:
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        figure = Figure(figsize=(_WIDTHS[name] / 72, height / 72), layout=ConstrainedLayoutEngine(**_SPACES))
        figure.patch.set_visible(False)
        draw(figure, name == "narrow")
        for axes in figure.axes:
            axes.patch.set_visible(False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _inline(buffer.getvalue(), label)


def _inline(text: str, label: str) -> Html:
    """A drawing as part of a page: no prologue, metadata, styles or ids of its own; colours from the style sheet."""
    box = re.search(r'viewBox="[^"]*"', text)
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<defs>.*?</defs>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r' (?:id|clip-path)="[^"]*"', "", body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    body = body.replace("'DejaVu Sans'", "var(--sans)")
    body = re.sub(r"\s*\n\s*", "\n", body)
    return Html(f'<svg {box.group() if box else ""} role="img" aria-label="{plain(label)}">{body.strip()}')
