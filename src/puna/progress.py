"""What a person sees while work goes on: lines, progress bars, and the run's log.

A terminal gets bars (drawn in bars.py); anything else gets plain lines, at growing intervals so that a long training
fills no screen. Standard output is left to results, so that `--json` and pipes stay clean: everything else goes to
standard error. A standard error that nobody reads any more ends no work: the log holds every line with its time.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from puna.errors import PunaError

WIDTH = 80  # columns that a screen has, for what is laid out as tables

# Seconds: from the beginning of a bar to its first line, then from line to line; the last one stays.
PLAIN_LINES = (5.0, 10.0, 20.0, 40.0, 60.0)
LOG_LINES = (5.0, 30.0)
STATES = (2.0,)

State = Callable[[Mapping[str, Any]], None]


class Log(Protocol):
    def line(self, text: str) -> None: ...


@dataclass
class _Screen:
    quiet: bool = False
    log: Log | None = None
    state: State | None = None
    terminal: Any = None  # bars.Terminal while a bar is on it


_screen = _Screen()


def configure(*, quiet: bool | None = None, log: Log | None = None, state: State | None = None) -> None:
    """Set where the lines of this process go. `quiet` silences the screen, never the log, and stays when not given.

    `state` is called when a bar begins and ends, and between at most every 2 s, with its `label`, `done`, `total`,
    `unit`, `note`, `seconds_left` (None while unknown) and `time` (seconds since 1970).
    """
    if quiet is not None:
        _screen.quiet = quiet
    _screen.log = log
    _screen.state = state


def say(line: str) -> None:
    """Print one line to standard error and write it to the run's log."""
    _record(line)
    if not _screen.quiet:
        _show(line)


def tell(line: str) -> None:
    """Print one line to standard error, quiet or not, and leave the log as it is: errors."""
    _show(line)


def result(text: str, end: str = "\n") -> bool:
    """Print to standard output what a command was asked for. False when nobody reads it any more (`| head`); PunaError
    when it cannot be written."""
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        return False
    except OSError as error:
        raise PunaError(error.strerror or str(error), where="standard output") from None
    return True


def failed(error: BaseException, log: object) -> None:
    """Write to the run's log with what its work ended, and note on the error that it lies at `log`.

    What is no PunaError and no interrupt gets its traceback there.
    """
    if isinstance(error, PunaError):
        _record(str(error))
    elif isinstance(error, Exception):
        for line in "".join(traceback.format_exception(error)).splitlines():
            _record(line)
    else:
        _record("interrupted")
    error.add_note(f"the log is {log}")


class _Pace:
    """Tells what is due: `intervals` are the seconds to the first time and from then on; the last one stays."""

    def __init__(self, intervals: tuple[float, ...]) -> None:
        self.count = 0
        self._intervals = intervals
        self._last = time.monotonic()

    def due(self) -> bool:
        now = time.monotonic()
        if now - self._last < self._intervals[min(self.count, len(self._intervals) - 1)]:
            return False
        self._last = now
        self.count += 1
        return True


@dataclass
class Bar:
    """One piece of long work: how far it is, how fast, and how long it will still take."""

    label: str
    total: float
    unit: str
    done: float = 0.0
    note: str = ""
    started: float = field(default_factory=lambda: time.monotonic())
    first: float = 0.0  # what was already done at the start, so that a resumed bar tells its own speed
    plain: bool = True  # printed as lines, not drawn
    _begun: float = field(default_factory=lambda: time.monotonic())
    _lines: _Pace = field(default_factory=lambda: _Pace(PLAIN_LINES))
    _logged: _Pace = field(default_factory=lambda: _Pace(LOG_LINES))
    _states: _Pace = field(default_factory=lambda: _Pace(STATES))
    _telling: threading.Lock = field(default_factory=threading.Lock)

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Move on by `amount` units; `note` stands behind the bar until the next one."""
        self.done += amount
        self.note = note or self.note
        self.tell()

    def tell(self) -> None:
        """Say where it is, wherever that is due."""
        if not self._telling.acquire(blocking=False):
            return
        try:
            if self.plain and self._lines.due():
                _show(self.line())
            if self._logged.due():
                _record(self.line())
            if self._states.due():
                self.state()
        finally:
            self._telling.release()

    def end(self, how: str) -> None:
        """The last line of a bar that has others: how far it came, and how long that took."""
        line = self.line(f"{how} {seconds(time.monotonic() - self._begun)}")
        if self._lines.count:
            _show(line)
        if self._logged.count:
            _record(line)
        self.state()

    def state(self) -> None:
        if _screen.state is not None:
            names = ("label", "done", "total", "unit", "note")
            now = {"seconds_left": self.seconds_left(), "time": time.time()}
            _screen.state({name: getattr(self, name) for name in names} | now)

    def seconds_left(self) -> float | None:
        """Seconds still to go at the speed so far; None before there is one."""
        worked = self.done - self.first
        if worked <= 0 or self.total <= 0:
            return None
        return (time.monotonic() - self.started) / worked * max(0.0, self.total - self.done)

    def share(self) -> str:
        """How far it is: in percent, or where no total is known, in units."""
        if self.total > 0:
            return f"{100 * min(1.0, self.done / self.total):3.0f} %"
        return f"{self.done:,.0f} {self.unit}".strip()

    def left(self) -> str:
        left = self.seconds_left()
        return "" if left is None else f"{seconds(left)} left"

    def line(self, end: str = "") -> str:
        """The bar in words; `end` in place of the time left."""
        parts = [f"{self.label}: {self.share()}", self.note, end or self.left()]
        return ", ".join(part for part in parts if part)


@contextmanager
def progress(label: str, total: float, unit: str = "", *, done: float = 0.0) -> Iterator[Bar]:
    """A bar for work of `total` units (0: unknown), `done` of which were finished before."""
    drawn = not _screen.quiet and on_terminal()
    bar = Bar(label, total, unit, done=done, first=done, plain=not (drawn or _screen.quiet))
    with ExitStack() as shown:
        if drawn:
            shown.enter_context(_drawn(bar))
        bar.state()
        # Work may last long before it moves on for the first time, and what it is should be seen by then.
        first = threading.Timer(PLAIN_LINES[0], bar.tell)
        first.daemon = True
        first.start()
        shown.callback(first.cancel)
        try:
            yield bar
        except BaseException:
            bar.end("stopped after")
            raise
        bar.end("took")


def on_terminal() -> bool:
    """Whether standard error is a terminal that can draw over its last line."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")


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


@contextmanager
def _drawn(bar: Bar) -> Iterator[None]:
    """The bar on the terminal, under those that are there."""
    from puna.bars import Terminal

    if _screen.terminal is None:
        _screen.terminal = Terminal()
    _screen.terminal.add(bar)
    try:
        yield
    finally:
        if not _screen.terminal.remove(bar):
            _screen.terminal = None


def _show(line: str) -> None:
    if _screen.terminal is not None:
        _screen.terminal.line(line)
        return
    with suppress(OSError, ValueError):  # closed, or a file on a full disk: the log has it
        print(line, file=sys.stderr, flush=True)


def _record(line: str) -> None:
    if _screen.log is not None:
        _screen.log.line(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}")
