"""What lies around a command: the characters that can be written, and the terminal."""

from __future__ import annotations

import codecs
import locale
import os
import shutil
import sys

from puna.doctor.finding import Finding


def text() -> list[Finding]:
    """Whether names of files, and what is printed, can hold every character."""
    encodings = {"names of files": sys.getfilesystemencoding(), "text files": locale.getpreferredencoding(False)}
    printed = {"standard output": sys.stdout, "standard error": sys.stderr}
    streams = {name: getattr(stream, "encoding", None) for name, stream in printed.items()}
    mend = "export LC_ALL=C.UTF-8, or PYTHONUTF8=1 where there is no such locale"
    narrow = [f"{name} {encoding}" for name, encoding in encodings.items() if not _utf8(encoding)]
    if narrow:
        what = f"{', '.join(narrow)}: names with other characters cannot be opened"
        return [Finding("text", "warning", what, mend)]
    narrow = [f"{name} {encoding}" for name, encoding in streams.items() if encoding and not _utf8(encoding)]
    if narrow:
        return [Finding("text", "note", f"{', '.join(narrow)}: other characters are shown as numbers", mend)]
    return [Finding("text", "ok", "UTF-8")]


def terminal() -> list[Finding]:
    """What long work looks like here."""
    kind = os.environ.get("TERM", "")
    if sys.stderr is None or not sys.stderr.isatty() or kind == "dumb":
        return [Finding("terminal", "ok", "none: long work prints plain lines")]
    colour = ", without colour (NO_COLOR)" if os.environ.get("NO_COLOR") else ""
    return [Finding("terminal", "ok", f"{kind or 'unnamed'}, {shutil.get_terminal_size().columns} columns{colour}")]


def _utf8(encoding: str) -> bool:
    try:
        return codecs.lookup(encoding).name == "utf-8"
    except LookupError:
        return False
