"""The picture and the table of results that README shows, from a finished run.

    python benchmarks/picture.py RUN [--out FOLDER] [--json FILE] [--quick]

Draws what stands in RUN/evaluations/heldout.json and RUN/metrics.jsonl as two SVG files, one for light pages and one
for dark ones, and prints the table of bits per byte as Markdown. Nothing is measured, so `--quick` changes nothing; the
same run gives the same bytes. A picture on a page cannot ask for the page's colours, hence two; text stays text, in the
reader's own font. `uniform` is left out: it would make every other bar short.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from form import bits_beside_peers
from puna.last_screen import NAMES
from puna.progress import size
from puna.report.figures import smoothed, span, thinned
from puna.run import read_recipe

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
BASELINES = ("model", "ngram", "xz", "xz_primed", "zstd", "zstd_primed")
TITLES = {"wikipedia": "Wikipedia", "github": "Python code"}

WIDTH, MARGIN, GAP = 800, 8, 40
BAR, PITCH = 15, 25  # height of a bar, and from one to the next
NAME, VALUE = 92, 52  # width of what stands before and behind a bar
CURVE = 120  # height of the curve


@dataclass(frozen=True)
class Colours:
    page: str  # behind everything; "none" shows the page itself
    ink: str
    muted: str
    rule: str
    accent: str
    faint: str


THEMES = {
    "light": Colours("#ffffff", "#1f2328", "#59636e", "#d1d9e0", "#0969da", "#b6c0ca"),
    "dark": Colours("none", "#f0f6fc", "#9198a1", "#3d444d", "#58a6ff", "#5a636d"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run")
    parser.add_argument("--out", type=Path, default=PICTURES, help="where RUN-light.svg and RUN-dark.svg go")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="accepted as by every script here; it is always quick")
    asked = parser.parse_args()
    heldout = json.loads((asked.run / "evaluations" / "heldout.json").read_text())
    lines = [json.loads(line) for line in (asked.run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line.get("loss") is not None]
    recipe = read_recipe(asked.run)
    model = f"{recipe.model.parameters(recipe.tokenizer.pieces) / 1e6:.1f}M parameters"
    asked.out.mkdir(parents=True, exist_ok=True)
    for theme, colours in THEMES.items():
        path = asked.out / f"{recipe.name}-{theme}.svg"
        path.write_text(draw(heldout, steps, model, colours), encoding="utf-8")
        print(path)
    print(*table(heldout), sep="\n")
    if asked.json:
        asked.json.write_text(json.dumps(figures(heldout), indent=1) + "\n")


def draw(heldout: Mapping[str, Any], steps: Sequence[Mapping[str, float]], model: str, colours: Colours) -> str:
    """The whole picture as SVG text: a panel of bars a source, two side by side, and the training loss below."""
    sources = _sources(heldout)
    wide = (WIDTH - 2 * MARGIN - GAP) / 2
    high = 46 + PITCH * len(BASELINES) + 14
    most = max(value for source in sources for value in _row(heldout, source).values())
    parts = [_text(MARGIN, 20, "Held-out text, bits per byte (shorter is better)", colours.ink, 15, weight=600)]
    for index, source in enumerate(sources):
        x, y = MARGIN + index % 2 * (wide + GAP), 46 + index // 2 * high
        parts += _bars(heldout, source, x, y, wide, most, colours)
    below = 46 + -(-len(sources) // 2) * high
    parts += _curve(steps, model, below, colours)
    height = below + 24 + CURVE + 30
    if colours.page != "none":
        parts.insert(0, f'<rect width="{WIDTH}" height="{height}" fill="{colours.page}"/>')
    said = "; ".join(
        " ".join(line.strip("| ").replace("*", "").replace(" |", ",").split()) for line in table(heldout)[2:]
    )
    label = escape(f"Held-out bits per byte ({', '.join(NAMES[name] for name in BASELINES)}): {said}", {'"': "&quot;"})
    font = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', 'DejaVu Sans', sans-serif"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return "\n".join([f'{head} role="img" aria-label="{label}" font-family="{font}">', *parts, "</svg>", ""])


def table(heldout: Mapping[str, Any]) -> list[str]:
    """The same numbers as a Markdown table, the best of each row in bold."""
    rows = ["| | " + " | ".join(NAMES[name] for name in BASELINES) + " |", "|---" * (len(BASELINES) + 1) + "|"]
    for source in _sources(heldout):
        row = _row(heldout, source)
        cells = (f"{row[name]:.3f}" if name in row else "" for name in BASELINES)
        best = f"{min(row.values()):.3f}"
        shown = " | ".join(f"**{cell}**" if cell == best else cell for cell in cells)
        rows.append(f"| {TITLES.get(source, source)} | {shown} |")
    return rows


def figures(heldout: Mapping[str, Any]) -> dict[str, Any]:
    """What is shown, in the form that every script of benchmarks/ writes."""
    return {f"heldout_{source}": bits_beside_peers(_row(heldout, source)) for source in _sources(heldout)}


def _sources(heldout: Mapping[str, Any]) -> list[str]:
    return sorted((name for name in heldout["bits_per_byte"] if name != "all"), reverse=True)


def _row(heldout: Mapping[str, Any], source: str) -> dict[str, float]:
    row = heldout["bits_per_byte"][source]
    return {name: row[name] for name in BASELINES if name in row}


def _bars(
    heldout: Mapping[str, Any], source: str, x: float, y: float, wide: float, most: float, colours: Colours
) -> list[str]:
    """One source: its bars from the best down, the model's in the colour that stands out."""
    held = f"{heldout['documents'][source]} documents, {size(heldout['bytes'][source])}"
    parts = [
        _text(x, y, TITLES.get(source, source), colours.ink, 14, weight=600),
        _text(x + wide, y, held, colours.muted, 13, anchor="end"),
    ]
    row = _row(heldout, source)
    for place, name in enumerate(sorted(row, key=lambda name: row[name])):
        top = y + 14 + PITCH * place
        ours = name == "model"
        ink, fill, weight = (colours.accent, colours.accent, 600) if ours else (colours.muted, colours.faint, 400)
        length = (wide - NAME - VALUE) * row[name] / most
        parts += [
            _text(x + NAME - 8, top + 12, NAMES[name], ink, 13, anchor="end", weight=weight),
            f'<rect x="{x + NAME:g}" y="{top:g}" width="{length:.1f}" height="{BAR}" rx="2" fill="{fill}"/>',
            _text(x + NAME + length + 7, top + 12, f"{row[name]:.3f}", ink, 13, weight=weight),
        ]
    return parts


def _curve(steps: Sequence[Mapping[str, float]], model: str, top: float, colours: Colours) -> list[str]:
    """Training loss over tokens: each step faint, the mean of its neighbours strong, its last value written out."""
    tokens, loss = (np.array([step[key] for step in steps], float) for key in ("tokens", "loss"))
    low = np.floor(loss.min())
    high = max(low + 1, np.ceil(loss.max()))
    left, right, last = MARGIN + 24.0, WIDTH - MARGIN - VALUE, top + 24.0 + CURVE
    x = left + tokens / tokens[-1] * (right - left)
    y = last - (loss - low) / (high - low) * CURVE
    mean = last - (smoothed(loss) - low) / (high - low) * CURVE
    title = f"Training loss, nats per token, mean of {span(len(loss))} steps"
    note = f"{model}, {tokens[-1] / 1e6:.2f}M tokens in {len(steps):,} steps"
    parts = [
        _text(MARGIN, top, title, colours.ink, 14, weight=600),
        _text(WIDTH - MARGIN, top, note, colours.muted, 13, anchor="end"),
    ]
    for tick in np.arange(low, high + 1, max(1, (high - low) // 3)):
        at = last - (tick - low) / (high - low) * CURVE
        line = f'<path d="M{left:.0f} {at:.1f}H{right:.0f}" stroke="{colours.rule}" stroke-width="1"/>'
        parts += [line, _text(left - 8, at + 4, f"{tick:.0f}", colours.muted, 12, anchor="end")]
    unit, word = (1e6, "million tokens") if tokens[-1] >= 1e6 else (1e3, "thousand tokens")
    whole = int(tokens[-1] // unit)
    for tick in range(0, whole + 1, max(1, whole // 5)):
        at = left + tick * unit / tokens[-1] * (right - left)
        label = f"{tick} {word}" if tick + max(1, whole // 5) > whole else str(tick)
        parts.append(_text(at, last + 18, label, colours.muted, 12, anchor="middle"))
    parts += [_line(x, y, colours.faint, 1.0), _line(x, mean, colours.accent, 2.0)]
    end = f"{smoothed(loss)[-1]:.2f}"
    parts.append(_text(right + 6, mean[-1] + 4, end, colours.accent, 13, weight=600))
    return parts


def _line(x: np.ndarray, y: np.ndarray, colour: str, width: float) -> str:
    kept = thinned(y)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x[kept], y[kept], strict=True))
    style = f'fill="none" stroke="{colour}" stroke-width="{width:g}" stroke-linejoin="round"'
    return f'<polyline points="{points}" {style}/>'


def _text(x: float, y: float, text: str, colour: str, points: int, *, anchor: str = "start", weight: int = 400) -> str:
    style = f'font-size="{points}" fill="{colour}"'
    style += f' text-anchor="{anchor}"' if anchor != "start" else ""
    style += f' font-weight="{weight}"' if weight != 400 else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


if __name__ == "__main__":
    main()
