"""`puna chat`: a conversation with a model in the terminal, its history and settings kept while it lasts."""

from __future__ import annotations

import dataclasses
import errno
import json
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from puna.cli.generating import (
    DType,
    MinP,
    ModelName,
    Penalty,
    Seed,
    Stop,
    Temperature,
    TopK,
    TopP,
    interruptible,
    refuse_error,
    shown,
    use_threads,
    valid_text,
)
from puna.cli.words import Threads, epilog, show
from puna.errors import InputError, PunaError, Terminated
from puna.progress import say

if TYPE_CHECKING:
    from puna.generate.chat import Template
    from puna.generate.engine import Engine
    from puna.generate.request import Request
    from puna.generate.sampling import Sampling
    from puna.tokenizer import Tokenizer

HELP = """/reset            forget the conversation (the system message stays)
/undo             forget the last question and its answer
/save FILE        write the conversation as JSON; /load FILE reads one
/settings         show the settings
/set NAME VALUE   change one, such as /set temperature 0.2
/exit             leave, as Ctrl-D does; Ctrl-C ends an answer
\"\"\"               begins and ends a message of several lines"""


def add_to(app: typer.Typer) -> None:
    end = epilog("puna chat runs/laptop", "puna chat runs/laptop --system 'Be brief.' --temperature 0.2")
    app.command("chat", short_help="Talk with a model in the terminal.", epilog=end)(chat)


def chat(
    model: ModelName,
    system: Annotated[str, typer.Option(help="A message that stands before all others.")] = "",
    tokens: Annotated[int, typer.Option(min=1, help="Most tokens of an answer.")] = 512,
    temperature: Temperature = 0.8,
    top_p: TopP = 0.95,
    top_k: TopK = 0,
    min_p: MinP = 0.0,
    repetition_penalty: Penalty = 1.0,
    seed: Seed = 1,
    stop: Stop = None,
    dtype: DType = "f32",
    threads: Threads = None,
) -> None:
    """Talk with a model; what was said before is part of every question.

    The conversation is written as the model's own chat template says. A base model, which has none, goes on from a
    transcript of questions and answers in plain words. /help lists what else can be typed. Writes what /save names.
    """
    from puna.generate import load
    from puna.generate.chat import find
    from puna.generate.sampling import Sampling

    sampling = Sampling(temperature, top_p, top_k, min_p, repetition_penalty, seed)
    if threads:
        use_threads(threads)
    loaded = load(model)
    template = find(loaded.folder, loaded.tokenizer)
    if template is None:
        say("a base model, without a chat template: it goes on from a plain transcript of questions and answers")
    engine = loaded.engine(slots=1, dtype=dtype)
    talk = Talk(engine, loaded.tokenizer, template, sampling, tokens, tuple(stop or ()), system)
    say("/help lists what can be typed beside messages; Ctrl-D leaves")
    with interruptible():
        while (line := _read()) is not None:
            try:
                if not line.startswith("/"):
                    talk.answer(line)
                elif not talk.command(line):
                    return
            except PunaError as error:
                say(f"error: {error}")
            except OSError as error:  # of a file that cannot be written or read, which must not cost the conversation
                if error.errno == errno.EIO:  # the terminal was closed
                    return
                say(f"error: {line.strip()}: {error.strerror}")


@dataclass
class Talk:
    """The conversation and its settings."""

    engine: Engine
    tokenizer: Tokenizer
    template: Template | None
    sampling: Sampling
    tokens: int
    stop: tuple[str, ...]
    system: str
    said: list[dict[str, str]] = field(default_factory=list)

    @property
    def messages(self) -> list[dict[str, str]]:
        first = [{"role": "system", "content": self.system}] if self.system else []
        return [*first, *self.said]

    def answer(self, text: str) -> None:
        """Print what the model says to `text`, and keep both; neither where template or model fail at it."""
        self.said.append({"role": "user", "content": valid_text(text, "the message")})
        try:
            request = self._request()
        except Terminated:
            raise
        except KeyboardInterrupt:  # a template may take seconds
            self.said.pop()
            say("the question was taken back")
            return
        except PunaError:
            self.said.pop()
            raise
        try:
            told = self._told(request)
        except PunaError:
            self.said.pop()
            raise
        self.said.append({"role": "assistant", "content": told})
        # So that the same question asked again gets another answer.
        self.sampling = dataclasses.replace(self.sampling, seed=self.sampling.seed + 1)

    def command(self, line: str) -> bool:
        """Do what a line with / asks for; False to leave."""
        name, _, rest = line[1:].strip().partition(" ")
        rest = rest.strip()
        if name in ("save", "load") and len(rest) > 2 and rest[0] == rest[-1] and rest[0] in "'\"":
            rest = rest[1:-1]  # as a shell would take a name with spaces
        if name in ("exit", "quit"):
            return False
        if name == "reset":
            self.said.clear()
        elif name == "undo":
            del self.said[-2:]
        elif name == "save":
            self._save(rest)
        elif name == "load":
            self._load(rest)
        elif name == "settings":
            for key, value in self._settings().items():
                say(f"{key:20} {value}")
        elif name == "set":
            self._set(*rest.partition(" ")[::2])
        else:
            say(HELP if name == "help" else f"/{name} is unknown\n{HELP}")
        return True

    def _request(self) -> Request:
        """The oldest questions are left out, with their answers, when all do not fit beside an answer."""
        from puna.generate.chat import transcript
        from puna.generate.request import Request

        messages = self.messages
        room = self.engine.context - min(self.tokens, self.engine.context // 2)
        while True:
            stop: tuple[str, ...] = ()
            if self.template is None:
                ids, stop = transcript(messages, self.tokenizer)
            else:
                ids = self.template.ids(messages, self.tokenizer)
            if len(ids) <= room:
                return Request(tuple(ids), self.tokens, self.sampling, stop=(*self.stop, *stop))
            first = 1 if self.system else 0
            if len(messages) <= first + 1:
                what = f"the message makes {len(ids)} tokens, but only {room} fit beside an answer"
                raise InputError(what, mend="shorten it, or /set tokens to fewer")
            del messages[first : min(first + 2, len(messages) - 1)]

    def _told(self, request: Request) -> str:
        """Print an answer as it comes; Ctrl-C ends it, and what was said stands."""
        from puna.generate.request import Prompt

        handle, told = self.engine.submit(request), ""
        try:
            while self.engine.busy:
                for event in self.engine.step():
                    if isinstance(event, Prompt):
                        continue
                    piece = event.text if told else event.text.lstrip()
                    told += piece
                    show(shown(piece), end="")
                    refuse_error(getattr(event, "error", ""))
        except Terminated:
            raise
        except KeyboardInterrupt:
            self.engine.cancel(handle)
        show("")
        return told.rstrip()

    def _settings(self) -> dict[str, Any]:
        return {
            **dataclasses.asdict(self.sampling),
            "tokens": self.tokens,
            "stop": list(self.stop),
            "system": self.system,
        }

    def _set(self, name: str, value: str) -> None:
        known = self._settings()
        if name not in known:
            raise InputError(f"there is no setting {name!r}", mend=f"the settings are {', '.join(known)}")
        if name == "system":
            self.system = value
            return
        if name == "stop":
            self.stop = (value,) if value else ()
            return
        kind = type(known[name])
        try:
            number = kind(value)
        except ValueError:
            raise InputError(f"{name} = {value!r} is no number") from None
        if name == "tokens":
            if number < 1:
                raise InputError(f"tokens = {number}, but it must be 1 or more")
            self.tokens = number
        else:
            self.sampling = dataclasses.replace(self.sampling, **{name: number})

    def _save(self, file: str) -> None:
        from puna import storage

        if not file:
            raise InputError("/save needs a file's name")
        storage.write(file, json.dumps(self.messages, ensure_ascii=False, indent=1).encode() + b"\n")
        say(f"saved in {file}")

    def _load(self, file: str) -> None:
        from puna import storage

        if not file:
            raise InputError("/load needs a file's name")
        found = storage.read_json(file)
        if not isinstance(found, list) or not all(_is_message(message) for message in found):
            raise InputError("is no conversation", where=file, mend="load what /save wrote")
        self.system = "".join(message["content"] for message in found if message["role"] == "system")
        self.said = [message for message in found if message["role"] != "system"]


def _is_message(value: Any) -> bool:
    roles = ("system", "user", "assistant")
    return isinstance(value, dict) and value.get("role") in roles and isinstance(value.get("content"), str)


def _read() -> str | None:
    """The next message; None at the end. Empty lines are none."""
    while True:
        try:
            line = _line("> ")
            if line.strip() == '"""':
                lines = []
                while (more := _line("  ")).strip() != '"""':
                    lines.append(more)
                line = "\n".join(lines)
        except EOFError:
            return None
        except OSError as error:
            if error.errno == errno.EIO:  # the terminal was closed
                return None
            raise
        if line.strip():
            return line


def _line(sign: str) -> str:
    """One line, with history and keys of the terminal where there is one."""
    if sys.stdin.isatty():
        import readline  # noqa: F401

        return input(sign)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")
