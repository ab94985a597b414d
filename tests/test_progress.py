"""What a person sees while work goes on: enough lines and not too many, bars that fit, and work that outlives both."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna import progress as shown
from puna.bars import layout
from puna.progress import configure, progress, say

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
STYLE = re.compile(r"\x1b\[[0-9;]*m")
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9]")
LONG_WORK = """
from puna.progress import progress, say
with progress("training", 672, "steps") as bar:
    for step in range(10):
        bar.advance(67, f"step {67 * step} of 672, loss 4.439, 14,380 tokens/s")
        say(f"line {step}")
say("at the end")
print("result")
"""


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    named = SimpleNamespace(monotonic=clock.monotonic, time=time.time, strftime=time.strftime)
    monkeypatch.setattr(shown, "time", named)
    return clock


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    configure(quiet=False)


def _train(clock: Clock, steps: int, seconds: float) -> None:
    with progress("training", steps, "steps") as bar:
        for step in range(1, steps + 1):
            clock.now += seconds
            bar.advance(1, f"step {step} of {steps}")


def test_a_long_bar_says_plain_lines_at_growing_intervals_and_how_long_it_took(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    _train(clock, steps=672, seconds=0.625)
    lines = capsys.readouterr().err.splitlines()
    steps = [int(line.split("step ")[1].split()[0]) for line in lines]
    assert steps == [8, 24, 56, 120, 216, 312, 408, 504, 600, 672]  # 5, 15, 35, 75, 135 s, and every minute
    assert lines[0] == "training:   1 %, step 8 of 672, 6 min 55 s left"
    assert lines[-1] == "training: 100 %, step 672 of 672, took 7 min 00 s"


def test_a_bar_that_does_not_move_is_told_of_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = threading.Event()
    monkeypatch.setattr(shown, "PLAIN_LINES", (0.01, 60.0))
    configure(log=SimpleNamespace(line=lambda text: None), state=lambda state: None)
    monkeypatch.setattr(shown, "_show", lambda line: (print(line), told.set()))
    with progress("reading", 10):
        assert told.wait(60)
    first, last = capsys.readouterr().out.splitlines()
    assert first == "reading:   0 %"
    assert last.startswith("reading:   0 %, took ")


def test_a_bar_that_is_over_at_once_says_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    log = Log()
    configure(log=log)
    _train(clock, steps=4, seconds=1)
    assert capsys.readouterr().err == ""
    assert log.lines == []


def test_the_log_gets_a_line_every_half_minute_and_the_last_one(clock: Clock) -> None:
    log = Log()
    configure(quiet=True, log=log)
    _train(clock, steps=100, seconds=1)
    told = [line.split(", ")[1] for line in log.lines]
    assert told == [f"step {step} of 100" for step in (5, 35, 65, 95, 100)]


def test_a_bar_that_was_broken_off_says_how_far_it_came(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), progress("reading", 10) as bar:
        clock.now += 6
        bar.advance(3)
        raise KeyboardInterrupt
    assert capsys.readouterr().err.splitlines()[-1] == "reading:  30 %, stopped after 6 s"


def test_quiet_silences_the_screen_and_never_the_log(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    log = Log()
    configure(quiet=True, log=log)
    say("a line")
    _train(clock, steps=10, seconds=1)
    assert capsys.readouterr().err == ""
    assert len(log.lines) == 3
    assert log.lines[0].endswith(" a line")


def test_the_state_is_told_at_both_ends_and_at_most_every_two_seconds(clock: Clock) -> None:
    told: list[Mapping[str, Any]] = []
    configure(quiet=True, state=told.append)
    _train(clock, steps=10, seconds=0.5)
    assert [state["done"] for state in told] == [0, 4, 8, 10]
    assert told[1].keys() == {"label", "done", "total", "unit", "note", "seconds_left", "time"}
    assert told[0]["seconds_left"] is None
    assert told[1]["seconds_left"] == 3.0
    configure()
    _train(clock, steps=1, seconds=5)
    assert len(told) == 4


def test_a_resumed_bar_tells_its_own_speed(clock: Clock) -> None:
    with progress("training", 100, done=90) as bar:
        clock.now += 10
        bar.advance(5)
        assert bar.seconds_left() == 10.0


@given(
    width=st.integers(34, 200),
    label=st.sampled_from(["training", "documents.wikipedia", "comparing with held-out text"]),
    total=st.sampled_from([0.0, 10.0]),
    done=st.integers(0, 12),
    left=st.sampled_from(["", "8 s left", "12 min 20 s left", "312 d 14 h left"]),
    note=st.sampled_from(["", "step 304 of 672, loss 4.439, 14,380 tokens/s", "one part that is rather long"]),
)
def test_a_bar_fits_its_line_and_keeps_what_matters(
    width: int, label: str, total: float, done: int, left: str, note: str
) -> None:
    bar = SimpleNamespace(label=label, total=total, done=done, note=note, share=lambda: "  7 %", left=lambda: left)
    line = layout(bar, width)
    words = [line.label, "x" * line.drawn, line.facts, f" {line.note}" if line.note else ""]
    assert len(" ".join(word for word in words if word)) <= width
    assert line.facts == f"  7 %  {left}".rstrip()
    assert line.label[:8] == label[:8]
    assert 0 <= line.full <= line.drawn
    assert note.startswith(line.note)


def _on_terminal(columns: int, code: str = LONG_WORK, **environment: str) -> str:
    """What a program writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**kept, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **environment},
    )
    os.close(theirs)
    parts = []
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says so that the other side is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(ours)
    assert child.stdout
    assert child.stdout.read() == b"result\n"
    child.stdout.close()
    assert child.wait() == 0
    return b"".join(parts).decode()


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_a_drawn_bar_never_wraps(columns: int) -> None:
    text = ESCAPE.sub("\r", STYLE.sub("", _on_terminal(columns)))
    drawn = [line for line in re.split(r"[\r\n]+", text) if line.startswith("training")]
    assert max(map(len, drawn)) < columns
    assert all("%" in line for line in drawn)
    assert "━" in drawn[-1]
    assert ("loss" in drawn[-1]) == (columns >= 80)
    assert ("tokens/s" in drawn[-1]) == (columns >= 120)
    assert [line for line in re.split(r"[\r\n]+", text) if line.startswith("line")] == [f"line {n}" for n in range(10)]


def test_no_color_takes_every_colour_away() -> None:
    assert COLOUR.search(_on_terminal(80))
    plain = _on_terminal(80, NO_COLOR="1")
    assert "━" in plain
    assert not COLOUR.search(plain)


def test_a_terminal_without_the_characters_gets_others() -> None:
    text = _on_terminal(80, PYTHONIOENCODING="ascii:backslashreplace")
    assert "===" in text
    assert "\\u" not in text


@pytest.mark.parametrize("terminal", ["dumb", ""])
def test_a_terminal_that_cannot_draw_gets_lines(terminal: str) -> None:
    text = _on_terminal(80, TERM=terminal)
    assert text.splitlines() == [*(f"line {n}" for n in range(10)), "at the end"]


def test_a_bar_within_a_bar_is_drawn_below_it() -> None:
    code = """
from puna.progress import progress, say
with progress("outer", 2) as outer:
    with progress("inner", 2) as inner:
        inner.advance()
        say("both")
    say("one")
print("result")
"""
    text = ESCAPE.sub("", _on_terminal(80, code))
    assert re.search(r"outer [^\n]*\r?\ninner ", text)


@pytest.mark.parametrize("full", [False, True], ids=["nobody reads", "full disk"])
def test_work_goes_on_when_its_lines_cannot_be_written(full: bool) -> None:
    if full and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    if full:
        errors = os.open("/dev/full", os.O_WRONLY)
    else:
        reading, errors = os.pipe()
        os.close(reading)
    done = subprocess.run([sys.executable, "-c", LONG_WORK], stdout=subprocess.PIPE, stderr=errors, check=False)
    os.close(errors)
    assert done.stdout == b"result\n"


def test_work_goes_on_when_its_terminal_is_closed_under_a_bar() -> None:
    code = """
import signal, sys
from puna.progress import progress, say
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with progress("training", 2) as bar:
    print("drawn", flush=True)
    sys.stdin.readline()
    bar.advance()
    say("to nobody")
say("at the end")
print("result", flush=True)
"""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm"},
    )
    assert child.stdout
    assert child.stdout.readline() == b"drawn\n"
    os.close(theirs)
    os.close(ours)
    out, _ = child.communicate(b"\n")
    assert out == b"result\n"
