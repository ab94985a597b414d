"""What a person sees while work goes on: lines, progress bars, and the run's log.

A terminal gets bars (rich); anything else gets a plain line every few seconds. Standard output is left to results, so
that `--json` and pipes stay clean: everything here goes to standard error. The log holds every line with its time.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

PLAIN_LINE_EVERY = 5.0  # seconds between two plain lines of one bar
LOG_LINE_EVERY = 30.0  # seconds between two log lines of one bar


class Log(Protocol):
    def line(self, text: str) -> None: ...


@dataclass
class _Screen:
    quiet: bool = False
    log: Log | None = None
    live: Any = None  # rich's Progress while a bar is on the terminal


_screen = _Screen()


def configure(*, quiet: bool | None = None, log: Log | None = None) -> None:
    """Set what the lines of this process do: `quiet` silences the screen, never the log."""
    if quiet is not None:
        _screen.quiet = quiet
    _screen.log = log


def say(line: str, *, style: str = "") -> None:
    """Print one line to standard error and write it to the run's log. `style` is a rich style, shown on terminals."""
    _record(line)
    if _screen.quiet:
        return
    if _screen.live is not None:
        _screen.live.console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)
    elif style and _on_terminal():
        from rich.console import Console

        Console(stderr=True).print(line, style=style, markup=False, highlight=False, soft_wrap=True)
    else:
        print(line, file=sys.stderr, flush=True)


@dataclass
class Bar:
    """One piece of long work: how far it is, how fast, and how long it will still take."""

    label: str
    total: float
    unit: str
    done: float = 0.0
    note: str = ""
    started: float = field(default_factory=time.monotonic)
    first: float = 0.0  # what was already done at the start, so that a resumed bar tells its own speed
    _task: Any = None
    _printed: float = field(default_factory=time.monotonic)
    _logged: float = field(default_factory=time.monotonic)

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Move on by `amount` units; `note` stands behind the bar until the next one."""
        self.done += amount
        self.note = note or self.note
        now = time.monotonic()
        if self._task is not None:
            _screen.live.update(self._task, completed=self.done, note=self.note)
        elif not _screen.quiet and now - self._printed >= PLAIN_LINE_EVERY:
            self._printed = now
            print(self.line(), file=sys.stderr, flush=True)
        if now - self._logged >= LOG_LINE_EVERY:
            self._logged = now
            _record(self.line())

    def seconds_left(self) -> float | None:
        """Seconds still to go at the speed so far; None before there is one."""
        worked = self.done - self.first
        if worked <= 0 or self.total <= 0:
            return None
        return (time.monotonic() - self.started) / worked * max(0.0, self.total - self.done)

    def line(self) -> str:
        share = f"{100 * self.done / self.total:3.0f} %" if self.total > 0 else f"{self.done:g}"
        left = self.seconds_left()
        parts = [f"{self.label}: {share}", self.note, f"{seconds(left)} left" if left is not None else ""]
        return ", ".join(part for part in parts if part)


@contextmanager
def progress(label: str, total: float, unit: str = "", *, done: float = 0.0) -> Iterator[Bar]:
    """A bar for work of `total` units, `done` of which were finished before."""
    bar = Bar(label, total, unit, done=done, first=done)
    if _screen.quiet or not _on_terminal() or _screen.live is not None:
        yield bar
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        TaskProgressColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    with Progress(*columns, transient=True, redirect_stdout=False, redirect_stderr=False, console=_console()) as live:
        _screen.live = live
        bar._task = live.add_task(label, total=total or None, completed=int(done), note="")
        try:
            yield bar
        finally:
            _screen.live = None


def seconds(value: float) -> str:
    """A length of time as people say it: 8 s, 3 min 20 s, 2 h 05 min, 3 d 4 h."""
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def size(value: float) -> str:
    """Bytes in decimal units: 512 B, 3.4 MB, 1.2 TB."""
    if value < 1000:
        return f"{value:.0f} B"
    units = ["kB", "MB", "GB", "TB"]
    value /= 1000
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.1f} {units[0]}" if value < 99.5 else f"{value:.0f} {units[0]}"


def _console() -> Any:
    from rich.console import Console

    return Console(stderr=True)


def _on_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _record(line: str) -> None:
    if _screen.log is not None:
        _screen.log.line(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}")
