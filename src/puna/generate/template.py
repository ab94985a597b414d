"""A conversation becomes a prompt by the model's own chat template, which is code from outside.

It is Jinja, rendered in its sandbox, and that in a child process of its own (template_child.py): the sandbox keeps a
template from the machine, and only a process can be ended when one loops for ever or fills the memory.

What is a control piece is decided by the template alone: `bos_token`, `eos_token` and their names where they stand in
the template become the ids, while the same letters in a message are only letters.
"""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from puna import storage
from puna.errors import InputError
from puna.tokenizer import Tokenizer

CHARACTERS = 1 << 20  # of a prompt that a template may write
SOURCE = 1 << 18  # bytes of a template
SECONDS = 5.0  # that one rendering may take
STARTING = 60.0  # seconds that the child may take to start
_CHILD = Path(__file__).with_name("template_child.py")


class ChatTemplate:
    """A template, and the process that renders it. `ids` may be called from any thread; one call renders at a time."""

    def __init__(self, source: str, tokenizer: Tokenizer, *, where: str = "chat template") -> None:
        self.source = source
        self._where, self._tokenizer = where, tokenizer
        self._controls = {tokenizer.pieces[id]: id for id in (tokenizer.bos, tokenizer.eos)}
        # What stands for a control piece while it is text: nobody who writes a message can know it.
        self._mark = f"\ue000{secrets.token_hex(12)}"
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._ask({"source": self._marked(source)})  # so that what is no template is told at once

    @classmethod
    def read(cls, location: storage.Location, tokenizer: Tokenizer) -> ChatTemplate:
        """The template in a file; InputError when it is none, or too large."""
        raw = storage.read(location)
        if len(raw) > SOURCE:
            raise InputError(f"is larger than {SOURCE} bytes", where=str(location), mend="give a chat template")
        try:
            return cls(raw.decode(), tokenizer, where=str(location))
        except UnicodeDecodeError:
            raise InputError("is not UTF-8", where=str(location), mend="give a chat template") from None

    def ids(
        self, messages: Sequence[Mapping[str, str]], go_on: bool, values: Mapping[str, Any] | None = None
    ) -> list[int]:
        """The prompt that `messages` make, each with `role` and `content`.

        go_on: whether it ends where the answer begins. values: further names for the template. InputError when the
        template fails, says that these messages are not for it, takes too long or writes too much.
        """
        bos, eos = (self._marked(self._tokenizer.pieces[id]) for id in (self._tokenizer.bos, self._tokenizer.eos))
        known = {"messages": messages, "add_generation_prompt": go_on, "bos_token": bos, "eos_token": eos}
        if taken := sorted(known.keys() & (values or {}).keys()):
            raise InputError(f"{taken[0]} is set already, and no further value", where=self._where)
        text = self._ask({"source": self._marked(self.source), "values": {**(values or {}), **known}})
        ids: list[int] = []
        for number, part in enumerate(re.split(f"{self._mark}(\\d+);", text)):
            ids += [int(part)] if number % 2 else self._tokenizer.encode(part)
        return ids

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._end()

    def _marked(self, text: str) -> str:
        for name, id in self._controls.items():
            text = text.replace(name, f"{self._mark}{id};")
        return text

    def _ask(self, request: Mapping[str, Any]) -> str:
        """What the child answers; it is started where there is none, and ended when it does not answer in time."""
        with self._lock:
            child = self._child = self._child if self._child and self._child.poll() is None else self._started()
            assert child.stdin is not None
            assert child.stdout is not None
            late = threading.Timer(SECONDS, child.kill)
            late.start()
            try:
                child.stdin.write(json.dumps({**request, "characters": CHARACTERS}).encode() + b"\n")
                child.stdin.flush()
                line = child.stdout.readline()
            except BrokenPipeError:
                line = b""
            finally:
                late.cancel()
            if not line.endswith(b"\n"):
                self._end()
                raise InputError(f"takes more than {SECONDS:g} seconds or too much memory", where=self._where)
        answer = json.loads(line)
        if "error" in answer:
            raise InputError(str(answer["error"])[:300], where=self._where)
        return str(answer["text"])

    def _started(self) -> subprocess.Popen[bytes]:
        """A child that is ready. By its path and in isolated mode: it imports Jinja, and nothing of this package."""
        command = [sys.executable, "-I", str(_CHILD)]
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
        assert child.stdout is not None
        late = threading.Timer(STARTING, child.kill)
        late.start()
        ready = child.stdout.readline()
        late.cancel()
        if ready != b"ready\n":
            child.kill()
            child.wait()
            raise InputError("chat templates need jinja2", where=self._where, mend="pip install 'puna[serve]'")
        return child

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            for pipe in (self._child.stdin, self._child.stdout):
                with suppress(OSError):
                    if pipe:
                        pipe.close()
            self._child.wait()
            self._child = None

    def __del__(self) -> None:
        with suppress(AttributeError):
            self._end()
