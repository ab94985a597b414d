"""The readable twins: comments and macros, character by character, slow and without a limit.

`remove_comments` and `expand` give the same text as those of `comments` and `expand`, which jump from one place that
matters to the next. Tests compare them on drawn text and on real papers.
"""

from __future__ import annotations

from collections.abc import Collection

from puna.data.latex import words
from puna.data.latex.comments import behind_command, ends_in_word, is_letter
from puna.data.latex.definitions import Macro, option_end, read_definition

BORDER = ""  # between the text of a call and what stands around it


def remove_comments(
    text: str,
    verbatim: Collection[str] = words.VERBATIM,
    excluded: Collection[str] = words.COMMENT,
    conditionals: Collection[str] = words.CONDITIONALS,
) -> str:
    """`text` without comments: `comments.remove_comments` says what they are."""
    out = ""
    opened: list[bool] = []
    at = 0
    cut = unclosed = False

    def put(piece: str) -> None:
        nonlocal out, cut
        if cut and is_letter(piece[0]) and ends_in_word(out):
            out += " "
        out, cut = out + piece, False

    def begins_line() -> bool:
        return out.rstrip(" \t")[-1:] in ("", "\n")

    while at < len(text):
        if text[at] == "%":
            line = text.find("\n", at)
            if line < 0:
                break
            following = line + 1
            while text[following : following + 1] in (" ", "\t"):
                following += 1
            if begins_line():
                out, at = out.rstrip(" \t"), line + 1
            elif text[following : following + 1] == "\n":
                at = line
            else:
                at = following
            cut = True
            continue
        if text[at] != "\\":
            put(text[at])
            at += 1
            continue
        name = _name(text, at)
        end = at + 1 + len(name)
        environment = _environment(text, end) if name == "begin" else ""
        closing = f"\\end{{{environment}}}"
        stop = text.find(closing, end)
        if environment and environment in verbatim and stop >= 0:
            put(text[at : stop + len(closing)])
            at = stop + len(closing)
        elif environment and environment in excluded:
            at, cut = (stop + len(closing) if stop >= 0 else len(text)), True
            if begins_line():
                while text[at : at + 1] in (" ", "\t"):
                    at += 1
                at += text[at : at + 1] == "\n"
            else:
                at = _behind_space(text, at)
        elif name in words.VERBATIM_COMMANDS:
            after = behind_command(text, name, end)
            put(text[at:after])
            at = after
        elif name == "fi" and opened and opened.pop():
            at, cut = _behind_space(text, end), True
        elif _never(text, name, end) and not unclosed:
            close = _skipped(text, end, conditionals)
            if not close:
                unclosed = True
                opened += [False] if name in conditionals else []
                put(text[at:end])
                at = end
                continue
            opened += [True] if close[0] == "else" else []
            at, cut = _behind_space(text, close[1]), True
        else:
            opened += [False] if name in conditionals else []
            put(text[at:end])
            at = end
    return out


def expand(text: str, macros: dict[str, Macro] | None = None) -> str:
    """`text`, a paper's body without comments, with its own macros and those of `macros` written out."""
    known = dict(macros or {})
    rest = [*reversed(text)]  # what is still to be read; its end is next
    out = ""
    cut = False
    while rest:
        if rest[-1] == BORDER:
            rest.pop()
            cut = True
            continue
        here = _until_border(rest)
        if here[0] != "\\":
            out, cut = _put(out, here[0], cut), False
            rest.pop()
            continue
        name = _name(here, 0)
        end = 1 + len(name)
        environment = _environment(here, end) if name in ("begin", "end") else ""
        if name == "end" and environment == "document":
            break
        if environment:
            named = f"{name}{{{environment}}}"
            end = here.index("}", end) + 1
            if name == "begin" and environment in words.VERBATIM:
                closing = f"\\end{{{environment}}}"
                stop = here.find(closing, end)
                end = stop + len(closing) if stop >= 0 else end
            name = named
        elif name in words.VERBATIM_COMMANDS:
            end = behind_command(here, name, end)
        definition = read_definition(here, name, end) if name in words.DEFINING else None
        if name in words.DEFINING and not definition and (after := here[_behind_space(here, end) :]):
            # What follows a definition that cannot be read is no call: it would have been the name.
            end = len(here) - len(after) + 1 + (len(_name(after, 0)) if after[0] == "\\" else 0)
        meaning = known.get(name)
        if definition and not any(each.left for each in definition.macros.values()):
            for each, meant in definition.macros.items():
                if not (definition.provided and each in known):
                    known[each] = known.get(definition.alias, meant) if definition.alias else meant
            _take(rest, definition.end)
            cut = True
            if out.rstrip(" \t")[-1:] in ("", "\n"):
                blank = len(here) - len(here[definition.end :].lstrip(" \t"))
                if here[blank : blank + 1] == "\n":
                    _take(rest, blank + 1 - definition.end)
            continue
        if meaning is None or meaning.left or _calls_itself(name, known):
            out, cut = _put(out, here[:end], cut), False
            _take(rest, end)
            continue
        before = [*rest]
        _take(rest, end)
        if is_letter(name[-1]):
            _take(rest, _behind_space(here, end) - end)
        arguments = _arguments(rest, meaning)
        if arguments is None:
            rest = before
            out, cut = _put(out, here[:end], cut), False
            _take(rest, end)
            continue
        body = ""
        for piece in meaning.pieces:
            value = piece if isinstance(piece, str) else arguments[piece]
            body = _put(body, value, True) if value else body
        rest += [BORDER, *reversed(body), BORDER]
    return out


def _put(out: str, piece: str, cut: bool) -> str:
    """`piece` behind `out`; where something was cut, no letter may join the name of a command."""
    return out + (" " if cut and is_letter(piece[0]) and ends_in_word(out) else "") + piece


def _until_border(rest: list[str]) -> str:
    found = []
    for character in reversed(rest):
        if character == BORDER:
            break
        found.append(character)
    return "".join(found)


def _take(rest: list[str], count: int) -> None:
    if count:
        del rest[-count:]


def _arguments(rest: list[str], meaning: Macro) -> list[str] | None:
    found: list[str] = []
    if meaning.lead:
        if not _until_border(rest).startswith(meaning.lead):
            return None
        _take(rest, len(meaning.lead))
    for number, mark in enumerate(meaning.marks):
        while rest and (not (here := _until_border(rest)) or _behind_space(here, 0)):
            _take(rest, _behind_space(here, 0) or 1)
        here = _until_border(rest)
        if number == 0 and meaning.default is not None:
            end = option_end(here, 0)
            found.append(meaning.default if end < 0 else here[1 : end - 1])
            _take(rest, max(0, end))
            continue
        end = _argument_end(here, mark)
        if end < 0:
            return None
        argument = here[:end]
        if argument.startswith("{") and _argument_end(argument, "") == len(argument):
            argument = argument[1:-1]
        found.append(argument)
        _take(rest, end + len(mark))
    return found


def _argument_end(text: str, mark: str) -> int:
    """Where an argument ends: behind one group or token, or before `mark`."""
    at = depth = 0
    while at < len(text):
        if mark and depth == 0 and text.startswith(mark, at):
            return at
        if text[at] == "}" and depth == 0:
            return -1
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        at += 1 + (len(_name(text, at)) if text[at] == "\\" else 0)
        if not mark and depth == 0:
            return -1 if text[:at] in ("\n", "\\") else at
    return -1


def _calls_itself(name: str, known: dict[str, Macro]) -> bool:
    seen: set[str] = set()
    waiting = set(known[name].calls)
    while waiting:
        called = waiting.pop()
        if called in known and called not in seen:
            seen.add(called)
            waiting |= known[called].calls
    return name in seen


def _name(text: str, at: int) -> str:
    """The name of the command whose backslash stands at `at`."""
    end = at + 1
    while end < len(text) and is_letter(text[end]):
        end += 1
    return text[at + 1 : end] or text[at + 1 : at + 2]


def _environment(text: str, at: int) -> str:
    """The name in braces that follows; "" when there is none."""
    begin = len(text) - len(text[at:].lstrip())
    name = text[begin + 1 :].partition("}")[0]
    sound = text.startswith("{", begin) and "}" in text[begin:] and not set(name) & set("{\\\n")
    return name if sound else ""


def _behind_space(text: str, at: int) -> int:
    """Behind blanks and one line end, unless an empty line follows."""
    end = at
    while text[end : end + 1] in (" ", "\t"):
        end += 1
    if text[end : end + 1] != "\n":
        return end
    line = end + 1
    while text[line : line + 1] in (" ", "\t"):
        line += 1
    return end if text[line : line + 1] == "\n" else line


def _never(text: str, name: str, end: int) -> bool:
    after = text[end + 1 :].lstrip(" \t\n")
    blank = text[end + 1 : end + 2] in (" ", "\t", "\n")
    zero = name == "if" and text[end : end + 1] == "0" and after != "" and (blank or after[0] != "0")
    return name == "iffalse" or zero


def _skipped(text: str, at: int, conditionals: Collection[str]) -> tuple[str, int] | None:
    depth = 0
    while at < len(text):
        if text[at] == "%":
            at = text.find("\n", at)
            if at < 0:
                return None
        if text[at] != "\\":
            at += 1
            continue
        name = _name(text, at)
        at += 1 + len(name)
        if depth == 0 and name in ("fi", "else"):
            return name, at
        depth += (name in conditionals) - (name == "fi")
    return None
