"""Progress bars as a terminal shows them: one line each, drawn over several times a second, of the width there is now.

A line that wraps cannot be drawn over, so what does not fit is left out: first the drawn bar gets shorter, then the
note loses its last parts, then the bar goes. Label, share and time left stay to the last. Colours are rich's affair
(NO_COLOR, and what the terminal can); nothing is told by colour alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

WIDEST, NARROWEST = 28, 10  # columns of the drawn bar
A_SECOND = 4  # redraws
DRAWN = {False: ("━", "─"), True: ("=", "-")}  # done and to do; for terminals with ASCII alone


class Bar(Protocol):
    """What is shown of a bar."""

    label: str
    done: float
    total: float
    note: str

    def share(self) -> str: ...
    def left(self) -> str: ...


class Terminal:
    """The bars on standard error, as long as there is one."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._bars: list[Bar] = []
        self._console = Console(file=_Patient(), force_terminal=True)  # type: ignore[arg-type]
        self._live = Live(
            self,
            console=self._console,
            transient=True,
            refresh_per_second=A_SECOND,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def add(self, bar: Bar) -> None:
        self._bars.append(bar)
        if len(self._bars) == 1:
            self._live.start(refresh=True)

    def remove(self, bar: Bar) -> bool:
        """Take a bar away; False when it was the last."""
        self._bars.remove(bar)
        if not self._bars:
            self._live.stop()
        return bool(self._bars)

    def line(self, line: str) -> None:
        """Print a line above the bars."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        from rich.text import Text

        lines = [_text(layout(bar, options.max_width - 1), *DRAWN[options.ascii_only]) for bar in self._bars]
        yield Text("\n", no_wrap=True, overflow="crop", end="").join(lines)


class Layout(NamedTuple):
    """What stands in the line of a bar, from left to right."""

    label: str
    drawn: int  # columns of the drawn bar; 0: none
    full: int  # of them full
    facts: str
    note: str


def layout(bar: Bar, width: int) -> Layout:
    """What of a bar fits into `width` columns."""
    facts = f"{bar.share()}  {bar.left()}".rstrip()
    label = bar.label
    if len(label) + 1 + len(facts) > width:
        label = label[: max(0, width - len(facts) - 2)] + "…"
    room = width - len(label) - 1 - len(facts)
    drawn = NARROWEST if room > NARROWEST and bar.total > 0 else 0
    room -= drawn + bool(drawn)
    note = ""
    for part in bar.note.split(", "):
        longer = f"{note}, {part}" if note else part
        if 2 + len(longer) > room:
            break
        note = longer
    room -= 2 + len(note) if note else 0
    drawn = min(WIDEST, drawn + room) if drawn else 0
    return Layout(label, drawn, int(drawn * min(1.0, bar.done / bar.total)) if drawn else 0, facts, note)


def _text(shown: Layout, done: str, left: str) -> Text:
    from rich.text import Text

    text = Text(f"{shown.label} ")
    if shown.drawn:
        text.append(done * shown.full, style="green").append(left * (shown.drawn - shown.full)).append(" ")
    text.append(shown.facts)
    if shown.note:
        text.append(f"  {shown.note}", style="dim")
    return text


class _Patient:
    """Standard error for rich. A terminal that was closed takes nothing any more, and work goes on without it."""

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)
