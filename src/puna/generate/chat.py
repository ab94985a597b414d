"""A conversation as the ids that a model was trained to read it as: by the template that came with the model.

The template is text of the model's maker with control pieces in it (`<s>`, `<|im_start|>`); what people wrote is put
into it, and never becomes a control piece, whatever it says. A model without a template is a base model: it goes on
from a transcript in plain words.
"""

from __future__ import annotations

import json
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from puna import storage
from puna.errors import InputError
from puna.storage import Place
from puna.tokenizer import Tokenizer
from puna.tokenizer.tokenizer_json import default_template, written

SECONDS = 5.0  # of a processor for one rendering
WAITED = 60.0  # seconds for an answer, the start of the process with it, however busy the machine is
MOST = 1_000_000  # characters of a template, and of what it gives
# Noncharacters of Unicode, which no text is to hold: one is put where what people wrote spells a control piece.
APART = [chr(number) for number in range(0xFDD0, 0xFDF0)]

Message = Mapping[str, Any]


@dataclass(frozen=True)
class Template:
    """A model's chat template."""

    source: str
    where: str
    """The file it came from, for errors."""
    controls: Mapping[str, int]
    """Control pieces, as they are written in it, and their ids."""
    values: Mapping[str, str]
    """What else it may name: bos_token, eos_token."""

    def ids(
        self,
        messages: Sequence[Message],
        tokenizer: Tokenizer,
        *,
        arguments: Mapping[str, Any] | None = None,
        go_on: bool = True,
    ) -> list[int]:
        """The ids of a conversation, up to where the answer begins.

        messages: objects with `role` and `content`. arguments: what else the template is given, under names that it
        does not have yet. go_on: whether the answer is to be begun. InputError, naming the template, when it fails,
        loops, gives too much or does what is not allowed.
        """
        arguments = arguments or {}
        if taken := sorted({*self.values, "messages", "add_generation_prompt"} & arguments.keys()):
            raise InputError(f"{taken[0]} is set already, and no further argument", where=self.where)
        try:
            text = json.dumps([list(messages), arguments], ensure_ascii=False)
            apart = next((mark for mark in APART if mark not in text), None)
            if apart is None:
                raise InputError("a message holds all of Unicode's noncharacters", mend="send text")
            values = {
                **self.values,
                **_apart(arguments, self.controls, apart),
                "messages": [_apart(message, self.controls, apart) for message in messages],
                "add_generation_prompt": go_on,
            }
            rendered = self._rendered(values)
        except RecursionError:
            raise InputError("a message or an argument is nested too deeply", mend="send it flatter") from None
        pieces = re.split(f"({'|'.join(sorted(map(re.escape, self.controls), key=len, reverse=True))})", rendered)
        found: list[int] = []
        for piece in pieces if self.controls else [rendered]:
            if piece in self.controls:
                found.append(self.controls[piece])
            elif piece:
                found += tokenizer.encode(piece.replace(apart, ""))
        return found

    def _rendered(self, values: Mapping[str, Any]) -> str:
        try:
            answer = _renderer.ask({"template": self.source, "values": values, "most": MOST, "seconds": SECONDS})
        except TimeoutError:
            what = f"the chat template takes more than {SECONDS:.0f} s of a processor"
            raise InputError(what, where=self.where) from None
        if "error" in answer:
            raise InputError(f"the chat template fails ({answer['error']})", where=self.where)
        return str(answer["text"])


def find(folder: Place, tokenizer: Tokenizer, file: Place | None = None) -> Template | None:
    """The template of the model in `folder`: chat_template.jinja, or `chat_template` of tokenizer_config.json. None for
    a base model. file: a template that is taken instead. InputError when any is damaged."""
    settings, where = {}, folder / "tokenizer_config.json"
    if storage.is_file(where):
        settings = storage.read_json(where)
        if not isinstance(settings, dict):
            raise InputError("is no JSON object", where=str(where))
    source = default_template(settings.get("chat_template"))
    if file or storage.is_file(folder / "chat_template.jinja"):
        where = file or folder / "chat_template.jinja"
        source = storage.read(where).decode(errors="replace")
    if source is None:
        return None
    if not isinstance(source, str) or len(source) > MOST:
        raise InputError(f"its chat_template is no text of at most {MOST} characters", where=str(where))
    spelt = {name: written(settings.get(f"{name}_token")) for name in ("bos", "eos")}
    return template(source, str(where), tokenizer, spelt)


def template(source: str, where: str, tokenizer: Tokenizer, spelt: Mapping[str, str]) -> Template:
    """The template `source` over a tokenizer. spelt: how `bos` and `eos` are written; "" for one that is not."""
    own = {"bos": tokenizer.bos, "eos": tokenizer.eos}
    controls = {text: own[name] for name, text in spelt.items() if text} | dict(tokenizer.controls)
    return Template(source, where, controls, {f"{name}_token": text for name, text in spelt.items()})


def transcript(messages: Sequence[Message], tokenizer: Tokenizer) -> tuple[list[int], tuple[str, ...]]:
    """For a base model: a conversation as plain text, up to where the answer begins, and the strings that end it."""
    names = {"user": "Q", "assistant": "A"}
    lines = [f"{names[m['role']]}: {m['content']}" if m["role"] in names else str(m["content"]) for m in messages]
    return tokenizer.begin("\n\n".join([*lines, "A:"])), ("\nQ:", "\n\nQ:")


def _apart(value: Any, controls: Mapping[str, int], mark: str) -> Any:
    """`value` with `mark` behind the first character of everything in its texts that is written as a control piece."""
    if isinstance(value, str):
        for written in controls:
            value = value.replace(written, written[0] + mark + written[1:])
        return value
    if isinstance(value, Mapping):
        return {key: _apart(each, controls, mark) for key, each in value.items()}
    return [_apart(each, controls, mark) for each in value] if isinstance(value, list) else value


class _Renderer:
    """The process of rendering.py: begun when it is needed, ended when it takes too long, and then begun anew."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """The answer; TimeoutError when none comes in time."""
        with self._lock:
            process = self._process
            if process is None or process.poll() is not None:
                command = [sys.executable, "-I", str(Path(__file__).with_name("rendering.py"))]
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the one who asks
                )
                self._process = process
            assert process.stdin
            assert process.stdout
            try:
                process.stdin.write(json.dumps(question).encode() + b"\n")
                process.stdin.flush()
                if not select.select([process.stdout], [], [], WAITED)[0]:
                    raise TimeoutError
                if line := process.stdout.readline():
                    return dict(json.loads(line))
                if process.wait() in (-signal.SIGPROF, -signal.SIGALRM):  # its own limits of time
                    raise TimeoutError
                return {"error": "its process was ended: it needs too much memory"}
            except BrokenPipeError:
                self._end()
                return {"error": "its process was ended"}
            except BaseException:  # an interrupt too: what is answered late would be taken for the next answer
                self._end()
                raise

    def _end(self) -> None:
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None


_renderer = _Renderer()
