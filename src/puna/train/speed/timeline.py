"""The timeline of `puna bench overlap`: a picture, and a trace for Chrome's and Perfetto's viewers.

The picture has two lanes a rank: what it computes, and its collectives as they run, each with a thin line from when it
was begun to when it was first waited for: as long as that line is the time in which it may run unseen. Where the
program stood and waited, the lane above is red.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from puna import storage
from puna.errors import InputError
from puna.parallel.tracing import Collective, hidden
from puna.storage import Place
from puna.train.speed.overlap import Overlap, Trace

WIDTH, LEFT, RIGHT = 1600, 90, 20
LANE, GAP = 26, 6  # height of a lane, and between lanes
LINES = 4  # below each other, so that those of collectives under way together are told apart
RANK = 2 * LANE + 2 * GAP + 3 * LINES + 8  # height of what a rank has
COLOURS = {
    "matmul": "#2f6fb5",
    "attention": "#7b52ab",
    "other": "#b9c3cd",
    "gather": "#2a8a57",
    "reduce": "#c77a1e",
    "waits": "#d23c3c",
}
NAMES = {
    "matmul": "matmul",
    "attention": "attention",
    "other": "norms, SwiGLU, rotations, copies",
    "gather": "all-gather",
    "reduce": "reduce-scatter",
    "waits": "stands and waits",
}
TEXT = 'font-family="system-ui, sans-serif" font-size="12"'


def picture(found: Overlap) -> str:
    """An SVG of the layer without delays, and below it with them."""
    asked = found.asked
    what = f"One {asked.mode} layer, dim {asked.config.dim}, {asked.windows} x {asked.config.context} tokens"
    title = f"{what} over {asked.ranks} ranks: gloo on one machine"
    panels = [("collectives as fast as they are", found.traces)]
    panels.append((f"each collective {asked.delay * 1e3:g} ms longer", found.delayed))
    parts, y = [_text(LEFT, 24, title, size=16), *_legend(44)], 84.0
    for name, traces in panels:
        drawn, y = _panel(name, traces, y)
        parts += drawn
    said = "Gloo shows the order and not the gain: its copies take the cores that compute. Not run on a GPU yet."
    parts.append(_text(LEFT, y + 6, said, colour="#59636e"))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 24:.0f}" '
    head += f'viewBox="0 0 {WIDTH} {y + 24:.0f}" role="img" aria-label="{escape(title)}">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{y + 24:.0f}" fill="#ffffff"/>', *parts, "</svg>", ""])


def chrome_trace(found: Overlap, *, delayed: bool = False) -> dict[str, Any]:
    """The layer in the Trace Event Format: a process a rank, with a thread that computes and one of collectives."""
    events: list[dict[str, Any]] = []
    for rank, trace in enumerate(found.delayed if delayed else found.traces):
        events.append(_named("process_name", rank, 0, f"rank {rank}"))
        events += [_named("thread_name", rank, *each) for each in ((0, "computes"), (1, "collectives"))]
        for name, begin, end in (
            ("forward", trace.began, trace.turned),
            ("backward", trace.turned, trace.ended),
        ):
            events.append(_event(name, "pass", rank, 0, begin, end))
        for operation in trace.operations:
            events.append(_event(operation.name, operation.kind, rank, 0, operation.begun, operation.ended))
        for each in trace.collectives:
            told = {"sent_bytes": each.sent, "hidden": hidden(each, trace.operations)}
            events.append(_event(each.name, "collective", rank, 1, each.started, each.ended, told))
            events.append(_event(f"waits for {each.name}", "wait", rank, 0, each.asked, each.got))
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def folder_of(out: str) -> Place:
    """The folder `out`, made where it is missing. InputError: a file stands there."""
    folder = storage.place(out)
    if storage.is_file(folder):
        raise InputError("a file, not a folder", where=f"--out {out}", mend="give another one")
    storage.make_folder(folder)
    return folder


def write(found: Overlap, out: str) -> list[str]:
    """Write both into the folder `out`, and return the names of the files."""
    folder = folder_of(out)
    files = {
        "overlap.svg": picture(found).encode(),
        "overlap.json": json.dumps(chrome_trace(found)).encode(),
        "overlap-delayed.json": json.dumps(chrome_trace(found, delayed=True)).encode(),
    }
    for name, data in files.items():
        storage.write(folder / name, data)
    return [str(folder / name) for name in files]


def _panel(name: str, traces: list[Trace], top: float) -> tuple[list[str], float]:
    """One run of all ranks, and where what is below it begins."""
    last = max(trace.ended for trace in traces)
    scale = (WIDTH - LEFT - RIGHT) / last
    parts, y = [_text(LEFT, top, name, size=13)], top + 12
    bottom = y + len(traces) * RANK
    turned = max(trace.turned for trace in traces)
    for seconds in _ticks(last):
        x = LEFT + seconds * scale
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{bottom:.1f}" stroke="#e4e8ec"/>')
        parts.append(_text(x, bottom + 14, f"{seconds * 1e3:.0f} ms", anchor="middle", colour="#59636e"))
    for rank, trace in enumerate(traces):
        parts.append(_text(8, y + LANE / 2 + 4, f"rank {rank}"))
        parts += _bars(trace, y, scale)
        y += RANK
    x = LEFT + turned * scale
    at = f'x1="{x:.1f}" x2="{x:.1f}" y1="{top + 4:.1f}" y2="{bottom:.1f}"'
    parts.append(f'<line {at} stroke="#1f2328" stroke-dasharray="4 3"/>')
    parts.append(_text(x - 6, top, "forward", anchor="end"))
    parts.append(_text(x + 6, top, "backward"))
    return parts, bottom + 44


def _bars(trace: Trace, y: float, scale: float) -> Iterator[str]:
    for kind in ("other", "attention", "matmul"):  # what counts most lies on top
        for operation in trace.operations:
            if operation.kind == kind:
                yield _bar(operation.begun, operation.ended, y, LANE, kind, scale, operation.name)
    below = y + LANE + GAP
    for number, each in enumerate(trace.collectives):
        yield _bar(each.asked, each.got, y, LANE, "waits", scale, f"waits for {each.name}")
        line = below + LANE + 3 + 3 * (number % LINES)
        ends = LEFT + each.begun * scale, LEFT + max(each.asked, each.begun) * scale
        yield f'<line x1="{ends[0]:.1f}" x2="{ends[1]:.1f}" y1="{line:.1f}" y2="{line:.1f}" stroke="#8b949e"/>'
        kind = each.name if each.name in COLOURS else "other"
        yield _bar(each.started, each.ended, below, LANE, kind, scale, _told(each))


def _told(each: Collective) -> str:
    return f"{each.name}: {each.sent:,} bytes sent, {(each.ended - each.started) * 1e3:.1f} ms"


def _bar(begin: float, end: float, y: float, height: float, kind: str, scale: float, told: str) -> str:
    x, width = LEFT + begin * scale, (end - begin) * scale
    if width < 0.2:
        return ""
    at = f'x="{x:.2f}" y="{y:.1f}" width="{width:.2f}" height="{height}"'
    return f'<rect {at} fill="{COLOURS[kind]}" stroke="#ffffff" stroke-width="0.5"><title>{escape(told)}</title></rect>'


def _legend(y: float) -> Iterator[str]:
    x = float(LEFT)
    for kind, name in NAMES.items():
        yield f'<rect x="{x:.1f}" y="{y - 10:.1f}" width="14" height="12" fill="{COLOURS[kind]}"/>'
        yield _text(x + 20, y, name)
        x += 44 + 7 * len(name)
    yield f'<line x1="{x:.1f}" x2="{x + 14:.1f}" y1="{y - 4:.1f}" y2="{y - 4:.1f}" stroke="#8b949e"/>'
    yield _text(x + 20, y, "from its begin to the first wait for it")


def _ticks(last: float) -> Iterator[float]:
    """Round times, in seconds, five to twelve of them."""
    step = 10.0 ** len(str(int(last * 1e3))) / 1e5
    step *= next(each for each in (0.5, 1, 2, 5, 10, 20, 50, 100) if last / (step * each) <= 12)
    at = 0.0
    while at < last:
        yield at
        at += step


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", colour: str = "#1f2328") -> str:
    style = TEXT.replace("12", str(size))
    return f'<text x="{x:.1f}" y="{y:.1f}" {style} text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'


def _named(what: str, rank: int, thread: int, name: str) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": rank, "tid": thread, "args": {"name": name}}


def _event(
    name: str, kind: str, rank: int, thread: int, begin: float, end: float, told: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Times in microseconds, as the format has them."""
    at = {"ts": begin * 1e6, "dur": (end - begin) * 1e6}
    return {"name": name, "cat": kind, "ph": "X", "pid": rank, "tid": thread, **at, "args": told or {}}
