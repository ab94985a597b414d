"""What a call of a macro is replaced by: its arguments, read across the frames of text that stand for files and calls,
and its body with them in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from puna.data.latex.comments import LETTERS, ends_in_word
from puna.data.latex.definitions import REACH, SPACES, Macro, group_end, option_end

# A group with no more than one level of groups in it, as most arguments are.
GROUP = re.compile(SPACES.pattern + r"\{((?:[^{}\\]++|\\.|\{(?:[^{}\\]++|\\.)*+\})*+)\}", re.DOTALL)
TOKEN = re.compile(r"\\(?:[A-Za-z]+|.)|.", re.DOTALL)


@dataclass(slots=True)
class Frame:
    text: str
    pos: int
    depth: int
    """How many calls it stands within."""
    file: str | None = None
    """Path of the file that it is; None for what a call became."""
    unclosed: set[str] = field(default_factory=set)
    """Verbatim environments of which no more end in it."""


class Written(NamedTuple):
    """What each call of a macro without arguments becomes: text in which nothing is acted on."""

    text: str
    cost: int
    """Of a call, in characters read again."""
    spaces: bool
    """Whether blanks behind it are part of it."""


def read_arguments(frames: list[Frame], meaning: Macro) -> list[str] | None:
    """The arguments of a call, from the last frame on; None, and nothing read, when they are not there."""
    index = len(frames) - 1
    pos = frames[index].pos
    found: list[str] = []
    if not meaning.lead and meaning.default is None and not any(meaning.marks):
        for _ in meaning.marks:
            group = GROUP.match(frames[index].text, pos)
            if not group:
                break
            found.append(group[1])
            pos = group.end()
        else:
            frames[index].pos = pos
            return found
        pos = frames[index].pos
        found.clear()
    if meaning.lead:
        if not frames[index].text.startswith(meaning.lead, pos):
            return None
        pos += len(meaning.lead)
    for number, mark in enumerate(meaning.marks):
        index, pos = _next(frames, index, pos)
        text = frames[index].text
        if number == 0 and meaning.default is not None:
            end = option_end(text, pos)
            found.append(meaning.default if end < 0 else text[pos + 1 : end - 1])
            pos = max(pos, end)
            continue
        end = _delimited(text, pos, mark) if mark else _token(text, pos)
        if end < 0:
            return None
        argument = text[pos : end - len(mark)]
        whole = argument.startswith("{") and (not mark or group_end(argument, 0) == len(argument))
        found.append(argument[1:-1] if whole else argument)
        pos = end
    if meaning.marks:
        del frames[index + 1 :]
    frames[index].pos = pos
    return found


def _next(frames: list[Frame], index: int, pos: int) -> tuple[int, int]:
    """Where the next argument begins: behind blanks, in an outer frame when the inner ones are read through."""
    while True:
        frame = frames[index]
        pos = SPACES.match(frame.text, pos).end()  # type: ignore[union-attr]
        if pos < len(frame.text) or frame.file is not None or index == 0:
            return index, pos
        index -= 1
        pos = frames[index].pos


def joined(pieces: list[str]) -> str:
    """Pieces of a body and arguments as one text, in which no letter joins the name of a command before it."""
    if len(pieces) < 2:
        return "".join(pieces)
    out: list[str] = []
    for piece in pieces:
        if piece:
            if piece[0] in LETTERS and out and out[-1][-1] in LETTERS and ends_in_word(out[-1]):
                out.append(" ")
            out.append(piece)
    return "".join(out)


def _token(text: str, pos: int) -> int:
    """Behind a group or a single token; -1 when neither follows."""
    if text.startswith("{", pos):
        return group_end(text, pos)
    match = TOKEN.match(text, pos)
    return match.end() if match and match[0] not in ("}", "\n") and match[0] != "\\" else -1


def _delimited(text: str, pos: int, mark: str) -> int:
    """Behind the next `mark` that no braces hide; -1 when there is none within the group and REACH."""
    last = text.find(mark, pos, pos + REACH)
    while last >= 0 and pos < len(text):
        if text.startswith(mark, pos):
            return pos + len(mark)
        if text[pos] == "}":
            return -1
        end = group_end(text, pos) if text[pos] == "{" else TOKEN.match(text, pos).end()  # type: ignore[union-attr]
        if end < 0:
            return -1
        pos = end
    return -1
