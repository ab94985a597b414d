"""A paper's macros written out where they are called, its files put in place (section 2.1: "we inline-expand
definitions and macros written by users").

Text is read as TeX reads it: forward, definitions as they are met, what a call becomes is read again before what
follows it, arguments are groups or single tokens, blanks behind a command are part of it. Frames stand for the text of
files and of calls: reading goes on in the last one, and what is read through is taken off. A macro that calls itself,
directly or by way of others, stays as it is. The limits of one paper: DEPTH calls within each other; characters read
again, GROWTH times those of its files (but FREE at least); a paper that passes one raises EndlessError.

Not as in TeX: a definition holds until the paper's end, whatever group it stands in, and both branches of a conditional
are read. `plain.expand` is the twin that reads character by character.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection

from puna.data.latex import words
from puna.data.latex.arguments import TOKEN, Frame, Written, joined, read_arguments
from puna.data.latex.commands import (
    ANY_CONTROL,
    CALLED,
    CONTROL,
    DEFINED_NAME,
    IN_PREAMBLE,
    LINE_END,
    NAMED,
    PREFIXED,
    named_file,
    named_packages,
)
from puna.data.latex.comments import LETTERS, behind, behind_command, ends_in_word, is_letter
from puna.data.latex.definitions import (
    OF_STRUCTURE,
    PROGRAM,
    SPACES,
    Macro,
    group_end,
    option_end,
    read_definition,
)
from puna.data.latex.packages import Package, read_package

DEPTH = 200
GROWTH = 10
FREE = 1_000_000
FAILED = 500  # what a call without its arguments, or a definition that is none, costs of it
ENDLESS, PLAIN, NESTED = "endless", "plain", "nested"
PACKAGE = (".cls", ".sty")

Load = Callable[[str, str], "tuple[str, str] | None"]


class EndlessError(Exception):
    """A paper whose macros or files never come to an end."""


Action = Callable[[Frame, str, int], None]


class Expander:
    """Reads one paper. `load(command, argument)` gives (path, text without comments) of a file of the paper."""

    def __init__(self, load: Load, size: int, verbatim: Collection[str] = words.VERBATIM) -> None:
        self.macros: dict[str, Macro] = {}
        self.left: dict[str, str] = {}
        self.missing: list[str] = []
        self.title = ""
        self._load, self._verbatim = load, verbatim
        self._budget = max(FREE, GROWTH * size)
        self._frames: list[Frame] = []
        self._out: list[str] = []
        self._body = self._marks = False
        self._control = IN_PREAMBLE
        self._loaded: set[str] = set()
        self._kinds: dict[str, str] = {}
        self._written: dict[str, Written] = {}
        self._programs: set[str] = set()
        self._waiting: dict[str, tuple[Package, str, int]] = {}  # what is not read yet, and where it stands
        shared: dict[str, Action] = dict.fromkeys(words.DEFINING, self._define)
        shared |= dict.fromkeys(words.INPUTS, self._input) | {"endinput": self._endinput, "title": self._title}
        self._preamble_actions = shared | dict.fromkeys(words.PACKAGES, self._package) | {"begin": self._document}
        self._body_actions = shared | dict.fromkeys(words.VERBATIM_COMMANDS, self._skip)
        self._body_actions |= dict.fromkeys(words.PREFIXES, self._prefix)
        self._body_actions |= {"begin": self._spaced, "end": self._spaced, "end{document}": self._finish}
        self._body_actions |= {f"begin{{{name}}}": self._raw for name in verbatim}

    def read(self, path: str, text: str, *, preamble: bool) -> str:
        """The text of a paper whose main file is given, from \\begin{document} on; without a `preamble`, all of it."""
        self._body = not preamble
        self._control = IN_PREAMBLE if preamble else ANY_CONTROL if self._marks else CONTROL
        self._push(Frame(text, 0, 0, path))
        while self._frames:
            if self._body:
                self._step()
            else:
                self._step_in_preamble()
        text = "".join(self._out)
        if self._programs:
            used = self._programs.intersection(CALLED.findall(text))
            self.left |= {name: self.macros[name].left for name in used}
        return text

    @property
    def begun(self) -> bool:
        return self._body

    def _step(self) -> None:
        """Read on to the next command that has an action, or to the end of the frame. What is called without arguments
        and becomes text with no such command is written on the way."""
        frame = self._frames[-1]
        text, pos = frame.text, frame.pos
        action_of, written_of = self._body_actions.get, (self._written if frame.depth < DEPTH else {}).get
        for match in self._control.finditer(text, pos):
            if (action := action_of(name := match[1])) is None:
                continue
            start = match.start()
            if pos < start:
                self._emit(text[pos:start])
            written = written_of(name)
            if written is None:
                frame.pos = match.end()
                action(frame, name, start)
                return
            pos = match.end()
            if written.spaces:
                pos = SPACES.match(text, pos).end()  # type: ignore[union-attr]
            self._spend(written.cost)
            self._emit(written.text)
        self._emit(text[pos:])
        self._frames.pop()

    def _step_in_preamble(self) -> None:
        frame = self._frames[-1]
        for match in self._control.finditer(frame.text, frame.pos):
            if match[1] is not None:
                frame.pos = match.end()
                self._preamble_actions[match[1]](frame, match[1], match.start())
                return
        self._frames.pop()

    def _emit(self, piece: str) -> None:
        if not piece or not self._body:
            return
        out = self._out
        if piece[0] in LETTERS and out and out[-1][-1] in LETTERS and ends_in_word(out[-1]):
            out.append(" ")
        out.append(piece)

    def _as_it_is(self, frame: Frame, start: int) -> None:
        self._emit(frame.text[start : frame.pos])

    def _push(self, frame: Frame) -> None:
        while self._frames and self._frames[-1].file is None and self._frames[-1].pos == len(self._frames[-1].text):
            self._frames.pop()
        if frame.depth > DEPTH:
            raise EndlessError(f"macros or files lie more than {DEPTH} deep in each other")
        self._spend(len(frame.text))
        self._frames.append(frame)

    def _spend(self, characters: int) -> None:
        self._budget -= 1 + characters
        if self._budget < 0:
            raise EndlessError("macros or files are read again and again")

    def _forget(self) -> None:
        """What calls become depends on what all names mean."""
        self._kinds.clear()
        self._written.clear()

    # Definitions

    def _define(self, frame: Frame, command: str, start: int) -> None:
        definition = read_definition(frame.text, command, frame.pos)
        if definition is None:
            self._spend(FAILED)
            target = TOKEN.match(frame.text, SPACES.match(frame.text, frame.pos).end())  # type: ignore[union-attr]
            frame.pos = target.end() if target else frame.pos
            self._as_it_is(frame, start)
            return
        kept = ""
        for name, meaning in definition.macros.items():
            if definition.provided and self._meaning(name):
                continue
            meant = self._meaning(definition.alias) or meaning if definition.alias else meaning
            self._learn(name, meant)
            kept = kept or meant.left
        if kept and self._body:
            target = DEFINED_NAME.match(frame.text, frame.pos)
            frame.pos = target.end() if target else frame.pos
            self._as_it_is(frame, start)
            return
        frame.pos = definition.end
        self._end_line(frame)

    def _learn(self, name: str, meaning: Macro, *, own: bool = True) -> None:
        """Take the meaning of a name; `own`: not one of a class or package, whose programs are nobody's business."""
        if meaning is OF_STRUCTURE or (meaning is PROGRAM and "@" in name):
            return
        self._forget()
        self._waiting.pop(name, None)
        self.macros[name] = meaning
        self._programs.discard(name)
        if not meaning.left:
            self._body_actions[name] = self._call
            if not self._marks and not is_letter(name[0]):
                self._marks = True
                self._control = ANY_CONTROL if self._body else IN_PREAMBLE
            return
        self._body_actions.pop(name, None)
        if own:
            self._programs.add(name)

    def _meaning(self, name: str) -> Macro | None:
        """What a name means. What packages define is read when it is first asked for: most of it never is."""
        if name in self._waiting:
            package, command, at = self._waiting.pop(name)
            definition = package.definition(command, at)
            self._spend(100)
            for each, meaning in (definition.macros if definition else {}).items():
                alias = definition.alias if definition else ""
                # Of a \\let in a package the name is as good as what it stood for when the package was read.
                self._learn(each, self.macros.get(alias, meaning) if alias else meaning, own=False)
        return self.macros.get(name)

    def _prefix(self, frame: Frame, command: str, start: int) -> None:
        match = PREFIXED.match(frame.text, frame.pos)
        if not match:
            self._as_it_is(frame, start)
            return
        frame.pos = match.end()
        again = self._prefix if match[1] in words.PREFIXES else self._define
        again(frame, match[1], start)

    def _end_line(self, frame: Frame) -> None:
        """Where something was taken out that filled a line, its line end goes too: it was no empty line."""
        if not self._out or self._out[-1].rstrip(" \t").endswith("\n"):
            line = LINE_END.match(frame.text, frame.pos)
            frame.pos = line.end() if line else frame.pos

    # Calls

    def _call(self, frame: Frame, name: str, start: int) -> None:
        meaning, end = self._meaning(name), frame.pos
        if meaning is None or meaning.left:
            self._body_actions.pop(name, None)
            self._as_it_is(frame, start)
            return
        kind = self._kinds.get(name) or self._kind(name)
        if kind == ENDLESS:
            self.left[name] = "calls itself"
            self._as_it_is(frame, start)
            return
        if is_letter(name[-1]):
            frame.pos = SPACES.match(frame.text, end).end()  # type: ignore[union-attr]
        arguments = read_arguments(self._frames, meaning) if meaning.marks or meaning.lead else []
        if arguments is None:
            self._spend(FAILED)
            frame.pos = end
            self.left[name] = "without its arguments"
            self._as_it_is(frame, start)
            return
        text = joined([piece if isinstance(piece, str) else arguments[piece] for piece in meaning.pieces])
        spaces = is_letter(name[-1])
        if not meaning.marks and text.endswith("\\xspace"):
            text, frame.pos, spaces = text.removesuffix("\\xspace"), end, False
        plain = kind == PLAIN and "\\" not in "".join(arguments)
        cost = len(text) if plain else 1 + len(text) + sum(map(len, arguments))
        if not plain and (frame.depth >= DEPTH or self._acts(text)):
            self._spend(cost - 1 - len(text))
            self._push(Frame(text, 0, frame.depth + 1))
            return
        if not meaning.marks and not meaning.lead:
            self._written[name] = Written(text, cost, spaces)
        self._spend(cost)
        self._emit(text)

    def _acts(self, text: str) -> bool:
        """Whether a command stands in it that has an action."""
        return any(match[1] in self._body_actions for match in self._control.finditer(text))

    def _kind(self, name: str) -> str:
        """What a macro's body holds: itself (ENDLESS), nothing that is acted on (PLAIN), or other macros (NESTED)."""
        calls = self.macros[name].calls
        kind = PLAIN if calls.isdisjoint(self._body_actions) else NESTED
        seen: set[str] = set()
        waiting = [*calls] if kind == NESTED else []
        while waiting and name not in seen:
            called = waiting.pop()
            meaning = None if called in seen else self._meaning(called)
            if meaning:
                seen.add(called)
                waiting += meaning.calls
        self._spend(len(seen))
        self._kinds[name] = ENDLESS if name in seen else kind
        return self._kinds[name]

    # What stands in braces behind \begin and \end, verbatim text, files

    def _raw(self, frame: Frame, command: str, start: int) -> None:
        frame.pos = behind(frame.text, command[6:-1], frame.pos, frame.unclosed) or frame.pos
        self._as_it_is(frame, start)

    def _spaced(self, frame: Frame, command: str, start: int) -> None:
        """\\begin {name}, with a space or line end in it."""
        named = NAMED.match(frame.text, frame.pos)
        name = f"{command}{{{named[1]}}}" if named else ""
        if not named or name not in self._body_actions:
            self._as_it_is(frame, start)
            return
        frame.pos = named.end()
        self._body_actions[name](frame, name, start)

    def _finish(self, frame: Frame, command: str, start: int) -> None:
        self._frames.clear()

    def _skip(self, frame: Frame, command: str, start: int) -> None:
        frame.pos = behind_command(frame.text, command, frame.pos)
        self._as_it_is(frame, start)

    def _document(self, frame: Frame, command: str, start: int) -> None:
        named = NAMED.match(frame.text, frame.pos)
        if named and named[1] == "document":
            frame.pos = named.end()
            self._body = True
            self._control = ANY_CONTROL if self._marks else CONTROL

    def _title(self, frame: Frame, command: str, start: int) -> None:
        begin = SPACES.match(frame.text, frame.pos).end()  # type: ignore[union-attr]
        begin = max(begin, option_end(frame.text, begin))
        end = group_end(frame.text, begin)
        if end > 0 and not self.title and not (frame.file or "").endswith(PACKAGE):
            self.title = frame.text[begin + 1 : end - 1]
        self._as_it_is(frame, start)

    def _endinput(self, frame: Frame, command: str, start: int) -> None:
        while self._frames and self._frames.pop().file is None:
            pass

    def _package(self, frame: Frame, command: str, start: int) -> None:
        names, frame.pos = named_packages(frame.text, frame.pos)
        waiting = deque((command, name) for name in names)
        while waiting:
            command, name = waiting.popleft()
            found = self._load(command, name.strip())
            if found and found[0] not in self._loaded:
                self._loaded.add(found[0])
                package = read_package(found[1])
                self._spend(len(package.text))
                if package.provides:
                    self._note_in_order(package)
                else:
                    self._note(package)
                waiting += package.loads

    def _note(self, package: Package) -> None:
        """Take the names that a class or package defines; their meanings are read when they are called for."""
        self._forget()
        for name in self.macros.keys() & package.last.keys():
            del self.macros[name]
        self._waiting |= package.last
        self._body_actions |= dict.fromkeys(package.last, self._call)
        self._marks = self._marks or package.marks

    def _note_in_order(self, package: Package) -> None:
        """The same, where a \\providecommand asks what is known before it."""
        for name, command, at in package.notes:
            if command == "providecommand" and self._meaning(name):
                continue
            self.macros.pop(name, None)
            self._forget()
            self._waiting[name] = package, command, at
            self._body_actions[name] = self._call
            self._marks = self._marks or not is_letter(name[0])

    def _input(self, frame: Frame, command: str, start: int) -> None:
        named = named_file(frame.text, command, frame.pos)
        if not named:
            self._as_it_is(frame, start)
            return
        name, frame.pos = named
        found = self._load(command, name)
        if not found:
            self.missing.append(name)
            return
        path, text = found
        if any(each.file == path for each in self._frames):
            self.missing.append(f"{name} (within itself)")
            return
        self._push(Frame(text, 0, frame.depth + 1, path))


def expand(text: str, macros: dict[str, Macro] | None = None) -> str:
    """`text`, a paper's body without comments, with its own macros and those of `macros` written out."""
    expander = Expander(lambda command, name: None, len(text))
    for name, meaning in (macros or {}).items():
        expander._learn(name, meaning)
    return expander.read("", text, preamble=False)
