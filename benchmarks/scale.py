"""The plans of the paper's four sizes on 8 to 16,384 GPUs, by the parallelism that they may use: docs/scale.md.

    python benchmarks/scale.py [--out FOLDER] [--json FILE] [--quick]

Prints the tables of that page and draws its two pictures, each for light pages and for dark ones. Computed from shapes
and from efficiency.toml; nothing is measured. `--quick` leaves out every second number of GPUs, and draws nothing.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from form import metric
from picture import PICTURES, THEMES, Colours
from puna import recipe as recipes
from puna.model.config import ModelConfig
from puna.parallel.layout import Layout
from puna.plan.gpus import Gpu, gpu
from puna.plan.memory import RESERVE, rank_memory
from puna.plan.roofline import step
from puna.plan.search import FREE, Choice, layouts

SIZES = ("llama-7b", "llama-13b", "llama-33b", "llama-65b")
RANKS = tuple(2**power for power in range(3, 15))
# What a layout may use, each with all of the ones before; a name, and whether a layout has no more than it.
ALLOWED: Mapping[str, Callable[[Layout], bool]] = {
    "shard": lambda layout: layout.replicate == layout.tensor == layout.pipeline == 1,
    "+ replicate": lambda layout: layout.tensor == layout.pipeline == 1,
    "+ tensor": lambda layout: layout.pipeline == 1,
    "+ pipeline": lambda layout: True,
}
WIDTH, PANEL, HIGH, MARGIN, GAP = 800, 334, 150, 52, 66


@dataclass(frozen=True)
class Study:
    """The fastest layout of each kind for each number of GPUs; None where none fits or can be shared so."""

    config: ModelConfig
    best: Mapping[tuple[str, int], Choice | None]


def study(name: str, kind: Gpu, ranks: tuple[int, ...], factor: int = 1) -> Study:
    """factor: how many of the paper's batches are a step."""
    recipe = recipes.load(name)
    config = ModelConfig.from_recipe(recipe, recipe.tokenizer.pieces)
    windows = factor * recipes.batch_windows(recipe)
    found: dict[tuple[str, int], Choice | None] = {}
    for number in ranks:
        every = []
        for layout in layouts(config, windows, number, kind, FREE):
            memory = rank_memory(config, layout, windows)
            if memory.total <= kind.memory - RESERVE:
                every.append(Choice(layout, step(config, layout, windows, kind), memory))
        for allowed, may in ALLOWED.items():
            fitting = (choice for choice in every if may(choice.layout))
            found[allowed, number] = min(fitting, key=lambda choice: choice.step.seconds, default=None)
    return Study(config, found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PICTURES, help="where the pictures go")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="every second number of GPUs, no pictures")
    asked = parser.parse_args()
    ranks, kind = RANKS[::2] if asked.quick else RANKS, gpu("A100-80GB")
    studies = {name: study(name, kind, ranks) for name in SIZES}
    for name, found in studies.items():
        print(f"\n{name}, 4M tokens a step, {kind.name}\n\n{rates(found, ranks)}")
    larger = study("llama-65b", kind, ranks, 4)
    print(f"\nllama-65b, 16M tokens a step, {kind.name}\n\n{rates(larger, ranks)}")
    print(f"\nWhere the time of the fastest layout of llama-65b goes\n\n{shares(studies['llama-65b'], ranks)}")
    if not asked.quick:
        for theme, colours in THEMES.items():
            (asked.out / f"scale-{theme}.svg").write_text(drawn(studies, ranks, colours), "utf-8")
            (asked.out / f"scale-time-{theme}.svg").write_text(stacked(studies, ranks, colours), "utf-8")
    if asked.json:
        told = {
            f"{name}_{number}": metric(choice.step.tokens_per_second_per_gpu, "tokens a second and GPU")
            for name, found in studies.items()
            for number in ranks
            if (choice := found.best["+ pipeline", number])
        }
        asked.json.write_text(json.dumps(told, indent=1) + "\n", "utf-8")


def rates(found: Study, ranks: tuple[int, ...]) -> str:
    """Tokens a second and GPU by what is allowed, and the fastest layout."""
    lines = [
        "| GPUs | " + " | ".join(ALLOWED) + " | the fastest | days of 1T tokens |",
        "|---" * (len(ALLOWED) + 3) + "|",
    ]
    for number in ranks:
        cells = [_rate(found.best[allowed, number]) for allowed in ALLOWED]
        choice = found.best["+ pipeline", number]
        end = ("does not fit", "") if choice is None else (_named(choice.layout), _days(choice, number))
        lines.append(f"| {number:,} | {' | '.join(cells)} | {end[0]} | {end[1]} |")
    return "\n".join(lines)


def shares(found: Study, ranks: tuple[int, ...]) -> str:
    """Of the fastest layout, what of a step goes where."""
    names = ("matmul", "attention", "elementwise", "shard", "tensor", "replicate", "bubble", "optimizer")
    lines = ["| GPUs | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for number in ranks:
        choice = found.best["+ pipeline", number]
        if choice:
            parts = choice.step.parts()
            lines.append(
                f"| {number:,} | " + " | ".join(f"{parts[name] / choice.step.seconds:.0%}" for name in names) + " |"
            )
    return "\n".join(lines)


def drawn(studies: Mapping[str, Study], ranks: tuple[int, ...], colours: Colours) -> str:
    """A panel a size: tokens a second and GPU over the number of GPUs, a line for what is allowed."""
    inks = dict(zip(ALLOWED, (colours.faint, colours.muted, colours.accent, colours.ink), strict=True))
    parts = [
        _text(MARGIN - 44, 20, "Tokens a second and GPU, as planned, by what a mesh may use", colours.ink, 15, 600)
    ]
    for place, (allowed, ink) in enumerate(inks.items()):
        x = MARGIN - 44 + 130 * place
        parts.append(f'<line x1="{x}" y1="38" x2="{x + 22}" y2="38" stroke="{ink}" stroke-width="{_weight(allowed)}"/>')
        parts.append(_text(x + 28, 42, allowed, colours.muted, 12))
    for place, (name, found) in enumerate(studies.items()):
        left, top = MARGIN + place % 2 * (PANEL + GAP), 78 + place // 2 * (HIGH + 66)
        most = max(_number(choice) for choice in found.best.values())
        ceiling = _round(most)
        parts.append(_text(left, top - 10, name, colours.ink, 13, 600))
        parts += _axes(left, top, ranks, ceiling, colours)
        for allowed, ink in inks.items():
            points = [
                (_x(left, number, ranks), top + HIGH * (1 - _number(choice) / ceiling))
                for number in ranks
                if (choice := found.best[allowed, number])
            ]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            width = _weight(allowed)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{ink}" stroke-width="{width}"/>')
    label = "Tokens a second and GPU of the paper's four sizes over 8 to 16,384 GPUs: docs/scale.md has the numbers."
    return _whole(parts, 78 + 2 * (HIGH + 66) - 20, label, colours)


def stacked(studies: Mapping[str, Study], ranks: tuple[int, ...], colours: Colours) -> str:
    """A panel a size: of the fastest layout's step, the share that computes, and what the rest waits for."""
    kinds = {
        "computing": (("matmul", "attention", "elementwise", "optimizer"), colours.faint),
        "weights and gradients": (("shard", "replicate"), colours.accent),
        "tensor group": (("tensor",), colours.muted),
        "pipeline": (("bubble",), colours.ink),
    }
    parts = [_text(MARGIN - 44, 20, "What a step of the fastest mesh goes into, as planned", colours.ink, 15, 600)]
    for place, (kind, (_, ink)) in enumerate(kinds.items()):
        x = MARGIN - 44 + 175 * place
        parts.append(f'<rect x="{x}" y="32" width="12" height="12" fill="{ink}"/>')
        parts.append(_text(x + 18, 42, kind, colours.muted, 12))
    for place, (name, found) in enumerate(studies.items()):
        left, top = MARGIN + place % 2 * (PANEL + GAP), 78 + place // 2 * (HIGH + 66)
        parts.append(_text(left, top - 10, name, colours.ink, 13, 600))
        parts += _axes(left, top, ranks, 100, colours, "%")
        for number in ranks:
            choice = found.best["+ pipeline", number]
            if choice is None:
                continue
            below, x = float(top + HIGH), _x(left, number, ranks) - 9
            for names, ink in kinds.values():
                share = sum(choice.step.parts()[part] for part in names) / choice.step.seconds
                below -= HIGH * share
                parts.append(f'<rect x="{x:.1f}" y="{below:.1f}" width="18" height="{HIGH * share:.1f}" fill="{ink}"/>')
    label = "Shares of a step of the fastest mesh, over 8 to 16,384 GPUs: docs/scale.md has the numbers."
    return _whole(parts, 78 + 2 * (HIGH + 66) - 20, label, colours)


def _axes(
    left: float, top: float, ranks: tuple[int, ...], ceiling: float, colours: Colours, unit: str = ""
) -> list[str]:
    parts = []
    for share in (0, 0.5, 1):
        y = top + HIGH * (1 - share)
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + PANEL}" y2="{y:.1f}" stroke="{colours.rule}"/>')
        parts.append(_text(left - 6, y + 4, f"{ceiling * share:,.0f}{unit}", colours.muted, 11, anchor="end"))
    shown = ranks[::2] if len(ranks) > 6 else ranks
    below = top + HIGH + 17
    parts += [_text(_x(left, each, ranks), below, f"{each:,}", colours.muted, 11, anchor="middle") for each in shown]
    parts.append(_text(left + PANEL, top + HIGH + 33, "GPUs", colours.muted, 11, anchor="end"))
    return parts


def _whole(parts: list[str], height: int, label: str, colours: Colours) -> str:
    if colours.page != "none":
        parts.insert(0, f'<rect width="{WIDTH}" height="{height}" fill="{colours.page}"/>')
    font = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', 'DejaVu Sans', sans-serif"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    said = escape(label, {'"': "&quot;"})
    return "\n".join([f'{head} role="img" aria-label="{said}" font-family="{font}">', *parts, "</svg>", ""])


def _text(x: float, y: float, text: str, fill: str, font: int, weight: int = 400, anchor: str = "start") -> str:
    where = f'x="{x:.1f}" y="{y:.1f}" fill="{fill}" font-size="{font}" font-weight="{weight}" text-anchor="{anchor}"'
    return f"<text {where}>{escape(text)}</text>"


def _x(left: float, number: int, ranks: tuple[int, ...]) -> float:
    first, last = math.log2(ranks[0]), math.log2(ranks[-1])
    return left + 14 + (PANEL - 28) * (math.log2(number) - first) / (last - first)


def _weight(allowed: str) -> float:
    return {"shard": 6, "+ replicate": 4.5, "+ tensor": 3, "+ pipeline": 1.25}[allowed]


def _round(most: float) -> float:
    """A round number not below `most`."""
    unit = 10 ** math.floor(math.log10(most))
    return math.ceil(most / unit * 2) / 2 * unit


def _number(choice: Choice | None) -> float:
    return choice.step.tokens_per_second_per_gpu if choice else 0.0


def _rate(choice: Choice | None) -> str:
    return f"{choice.step.tokens_per_second_per_gpu:,.0f}" if choice else "-"


def _named(layout: Layout) -> str:
    mesh = " x ".join(f"{name} {number}" for name, number in layout.mesh().items() if number > 1)
    return f"{mesh}; {layout.mode}, {layout.micro_batch}"


def _days(choice: Choice, number: int) -> str:
    return f"{1e12 / choice.step.tokens_per_second_per_gpu / number / 86_400:,.1f}"


if __name__ == "__main__":
    main()
