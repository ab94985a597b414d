"""Instruction data as people publish it: files of one of the common forms, each record a conversation.

A record's form is told by its keys, so that a file may mix them:

    messages                      OpenAI's chat: a list of {role, content}
    conversations                 ShareGPT: a list of {from, value}
    instruction, instances        Self-Instruct's seeds: each instance is a conversation of its own
    instruction, output           Alpaca, with or without `input`
    instruction, response         Dolly, with or without `context`
    inputs, targets               FLAN
    prompt, completion            pairs, as T0's prompts are often stored

Files are JSON lines, one JSON list, or Parquet; JSON may be packed with gzip. A record that cannot be used is set aside
with its reason, place and count; a file of which none can be used is an error.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from puna import storage
from puna.errors import InputError
from puna.storage import Place
from puna.testsets import records
from puna.testsets.records import Record, beginning, json_lines, json_list

ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "assistant": "assistant",
    "gpt": "assistant",
}  # fmt: skip
END = "<|endoftext|>"  # GPT-2's end of a text, which files of pairs write behind an answer
LONGEST = 1_000_000  # characters of a conversation
SUFFIXES = (".json", ".jsonl", ".ndjson", ".gz", ".parquet")
MEND = "a file is JSON objects, one a line, or one JSON list of them, or Parquet"


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    """system, user or assistant."""
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation that ends with an answer."""

    messages: tuple[Message, ...]
    where: str
    """File and record, for people."""

    @property
    def text(self) -> str:
        """All that it says: by this, equal examples are told, and benchmarks found in it."""
        return "\n".join(message.content for message in self.messages)

    def as_json(self) -> list[dict[str, str]]:
        return [{"role": message.role, "content": message.content} for message in self.messages]


@dataclass(frozen=True, slots=True)
class SetAside:
    """A record that cannot be used."""

    reason: str
    where: str


def read(file: Place) -> Iterator[Example | SetAside]:
    """The examples of one file, in its order. InputError when the file cannot be read on."""
    try:
        for record in _records(file):
            yield from _examples(record)
    except InputError as error:
        mend = MEND if error.mend == records.MEND else error.mend
        raise InputError(error.what, where=error.where, mend=mend) from None


def files(location: Place) -> list[Place]:
    """The file, or those of a folder whose names end as instruction data does; in order of name. InputError if none."""
    if not storage.is_folder(location):
        if not storage.is_file(location):
            raise InputError("there is no such file or folder", where=str(location))
        return [location]
    found = [path for path in storage.listing(location, "**/*") if path.name.lower().endswith(SUFFIXES)]
    if not found:
        raise InputError(f"holds no file that ends with {', '.join(SUFFIXES)}", where=str(location))
    return sorted(found, key=str)


def _records(file: Place) -> Iterator[Record]:
    start = beginning(file, 4096)
    if start[:4] == b"PAR1":
        yield from _parquet(file)
    elif start.removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"[":
        yield from json_list(file)
    else:
        yield from json_lines(file)


def _parquet(file: Place) -> Iterator[Record]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with storage.open_read(file) as raw, pyarrow.parquet.ParquetFile(raw) as table:
            for batch in table.iter_batches(batch_size=256):
                for values in batch.to_pylist():
                    number += 1
                    yield Record({key: value for key, value in values.items() if value is not None}, f"{file}:{number}")
    except pyarrow.ArrowException as error:
        what = f"cannot be read as Parquet behind row {number} ({' '.join(str(error).split())[:200]})"
        raise InputError(what, where=str(file), mend=MEND) from None


def _examples(record: Record) -> Iterator[Example | SetAside]:
    form = next((each for keys, each in FORMS if keys <= record.values.keys()), None)
    if form is None:
        keys = ", ".join(sorted(map(str, record.values))[:8]) or "none"
        yield SetAside(f"is of no known form (its keys: {keys})", record.where)
        return
    try:
        for number, messages in enumerate(form(record)):
            yield _judged(messages, record.where if not number else f"{record.where}, instance {number + 1}")
    except InputError as error:
        yield SetAside(error.what, error.where)


def _judged(messages: Sequence[Message], where: str) -> Example | SetAside:
    roles = [message.role for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if not turns or turns[-1] != "assistant":
        return SetAside("does not end with an answer", where)
    if any(role != ("user", "assistant")[number % 2] for number, role in enumerate(turns)):
        return SetAside("user and assistant do not take turns", where)
    if not messages[-1].content.strip():
        return SetAside("its answer is empty", where)
    if sum(len(message.content) for message in messages) > LONGEST:
        return SetAside(f"has more than {LONGEST:,} characters", where)
    return Example(tuple(messages), where)


def _chat(record: Record) -> Iterator[list[Message]]:
    yield [Message(_role(part, "role"), _content(part, "content")) for part in record.parts("messages")]


def _sharegpt(record: Record) -> Iterator[list[Message]]:
    yield [Message(_role(part, "from"), part.text("value", empty=True)) for part in record.parts("conversations")]


def _seeds(record: Record) -> Iterator[list[Message]]:
    for part in record.parts("instances"):
        yield _pair(_asked(record.text("instruction"), part.text("input", empty=True)), part.text("output", empty=True))


def _alpaca(record: Record) -> Iterator[list[Message]]:
    yield _pair(_asked(record.text("instruction"), _optional(record, "input")), record.text("output", empty=True))


def _dolly(record: Record) -> Iterator[list[Message]]:
    yield _pair(_asked(record.text("instruction"), _optional(record, "context")), record.text("response", empty=True))


def _flan(record: Record) -> Iterator[list[Message]]:
    yield _pair(record.text("inputs"), record.text("targets", empty=True))


def _prompted(record: Record) -> Iterator[list[Message]]:
    """The line break before an answer, and what ends a text, are how such files are stored, and no part of either."""
    yield _pair(record.text("prompt").strip("\n"), record.text("completion", empty=True).removesuffix(END).strip())


FORMS: tuple[tuple[set[str], Callable[[Record], Iterator[list[Message]]]], ...] = (
    ({"messages"}, _chat),
    ({"conversations"}, _sharegpt),
    ({"instruction", "instances"}, _seeds),
    ({"instruction", "output"}, _alpaca),
    ({"instruction", "response"}, _dolly),
    ({"inputs", "targets"}, _flan),
    ({"prompt", "completion"}, _prompted),
)


def _pair(question: str, answer: str) -> list[Message]:
    return [Message("user", question), Message("assistant", answer)]


def _asked(instruction: str, more: str) -> str:
    return f"{instruction}\n\n{more}" if more.strip() else instruction


def _optional(record: Record, key: str) -> str:
    return record.text(key, empty=True) if record.values.get(key) is not None else ""


def _role(part: Record, key: str) -> str:
    named = tuple(ROLES)
    return ROLES[named[part.one_of(key, named)]]


def _content(part: Record, key: str) -> str:
    """A text, or OpenAI's list of parts that are all texts."""
    if isinstance(part.values.get(key), list):
        return "".join(each.text("text", empty=True) for each in part.parts(key))
    return part.text(key, empty=True)


def dumps(example: Example) -> str:
    """One line of JSON, in OpenAI's form."""
    values: Mapping[str, Any] = {"messages": example.as_json(), "where": example.where}
    return json.dumps(values, ensure_ascii=False)
