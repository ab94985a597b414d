"""Code: the files of installed packages, one document a file (section 2.1: only Apache, BSD and MIT projects; files
filtered by line length and share of alphanumeric characters; boilerplate such as headers removed).

Rules, in order: `licence` (of the package; a file's own SPDX line wins over it, and a head that names a copyleft
licence drops the file), `extension`, `path`, `size`, `generated`, `longest line`, `mean line`, `alphanumeric`, `letters
per token`, `short`. The numbers are those of RedPajama, the known reproduction, as recipe values. It counted the tokens
of its own tokenizer; here a token is a run of word characters or a run of other visible ones, which needs none. Files
that are no text are set aside: neither UTF-8 nor, for Python, what their encoding line (PEP 263) says.

Line ends become \\n; else nothing but the licence header is taken from a file.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path, PurePosixPath
from typing import cast

from puna.data.code.header import is_closed, spdx_line, without_header
from puna.data.code.licence import Verdict, of_expression, of_metadata
from puna.data.document import Document, Origin, document_id
from puna.data.sources.inputs import PYTHON, normal, package
from puna.data.sources.records import EXAMPLE, Dropped, Input, Part, Record, SetAside, Task, group_parts
from puna.recipe import GitHub, Source

GENERATED = re.compile(
    r"@generated|\bdo not (edit|modify)\b|auto-?generated|(automatically|machine)[- ]generated|"
    r"generated (automatically|by|from|with|using)\b",
    re.IGNORECASE,
)
GENERATED_LINES = 20  # of a file's beginning, in comments, where generators say so
COMMENT = re.compile(r"\s*(#|//|/?\*|--|;|%|<!--)")
TOKEN = re.compile(r"\w+|[^\w\s]+")
LANGUAGES = {
    ".py": "python",
    ".pyi": "python",
    ".pyx": "cython",
    ".h": "c",
    ".cc": "cpp",
    ".hpp": "cpp",
    ".js": "javascript",
}
LANGUAGES |= {".ts": "typescript", ".rs": "rust", ".rb": "ruby", ".sh": "shell", ".md": "markdown"}
HOME_PAGES = ("source", "source code", "repository", "code", "github", "homepage", "home")


def split(inputs: Sequence[Input], recipe: Source, task_size: int) -> list[Task]:
    """Groups of consecutive files of at least `task_size` bytes."""
    sizes = {(entry.declared, member): size for entry in inputs for member, size in entry.members}
    parts = [Part(entry.declared, members=(member,)) for entry in inputs for member, _ in entry.members]
    tasks = group_parts("github", parts, lambda part: sizes[part.declared, part.members[0]], task_size)
    return [Task(task.name, task.source, _joined(task.parts)) for task in tasks]


def read(task: Task, inputs: Sequence[Input], recipe: Source) -> Iterator[Record]:
    """The records of a task's files, in the order of packages and paths."""
    known = {entry.declared: entry for entry in inputs}
    for part in task.parts:
        reader = _reader(known[part.declared], cast(GitHub, recipe))
        for member in part.members:
            yield reader.read(member)


def licence_of(entry: Input, rules: GitHub) -> Verdict:
    """The verdict on a package's licence. The standard library is Python's own (PSF-2.0), and none of the three."""
    name = _name(entry)
    if name == PYTHON:
        return of_expression("PSF-2.0", rules.licences)
    declared = {normal(known): licence for known, licence in rules.declared.items()}
    return of_metadata(_metadata(name), rules.licences, declared, name)


@dataclass(frozen=True)
class _Reader:
    """Reads the files of one package."""

    entry: Input
    rules: GitHub
    verdict: Verdict
    url: str
    sizes: Mapping[str, int]

    def read(self, member: str) -> Record:
        size, extension = self.sizes[member], PurePosixPath(member).suffix
        if rule := self._unwanted(member, size):
            if self.verdict.refused:
                return self._dropped("licence", member, f"{self.verdict.licence}: {self.verdict.refused}")
            return self._dropped(rule, member, f"{size} bytes" if rule == "size" else "")
        try:
            text = decoded((Path(self.entry.location) / member).read_bytes(), extension)
        except (OSError, SyntaxError, ValueError, LookupError) as error:
            return SetAside(f"cannot be read as text: {_one_line(error)}", self.entry.declared, member, size)
        own = spdx_line(text)
        verdict = of_expression(own, self.rules.licences) if own else self.verdict
        if verdict.refused:
            whose = "its own " if own else ""
            return self._dropped("licence", member, f"{whose}{verdict.licence}: {verdict.refused}")
        if not own and is_closed(text):
            return self._dropped("licence", member, text)
        if _is_generated(text):
            return self._dropped("generated", member, text)
        text = without_header(text, extension)
        if rule := quality(text, self.rules):
            return self._dropped(rule, member, text)
        return self._document(member, extension, text, verdict.licence)

    def _unwanted(self, member: str, size: int) -> str:
        """The rule by which a file is left out before it is read, or ""."""
        if not member.endswith(tuple(self.rules.extensions)):
            return "extension"
        if any(re.search(pattern, member) for pattern in self.rules.drop_paths):
            return "path"
        return "size" if size > self.rules.max_bytes else ""

    def _dropped(self, rule: str, member: str, example: str) -> Dropped:
        return Dropped(rule, f"{self.entry.dump}: {member}", self.sizes[member], example[:EXAMPLE])

    def _document(self, member: str, extension: str, text: str, licence: str) -> Document:
        dump = self.entry.dump
        origin = Origin(dump, member, member, 0, self.url, member, "", licence)
        language = LANGUAGES.get(extension, extension.removeprefix(".") or "text")
        return Document(document_id("github", dump, member), "github", _name(self.entry), language, text, origin)


def quality(text: str, rules: GitHub) -> str:
    """The first of the recipe's numbers that the text does not meet, by the name of its rule, or ""."""
    lines = text.rstrip("\n").split("\n")
    if max(map(len, lines)) > rules.max_line_length:
        return "longest line"
    if sum(map(len, lines)) > rules.mean_line_length * len(lines):
        return "mean line"
    if sum(map(str.isalnum, text)) < rules.min_alphanumeric * len(text):
        return "alphanumeric"
    if sum(map(str.isalpha, text)) < rules.min_letters_per_token * len(TOKEN.findall(text)):
        return "letters per token"
    return "short" if len(text.strip()) < max(1, rules.min_characters) else ""


def decoded(data: bytes, extension: str = ".py") -> str:
    """A file's text: UTF-8, else for Python the encoding that it declares. ValueError, LookupError or SyntaxError for
    what is neither, or holds NUL characters."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        if extension not in (".py", ".pyi"):
            raise
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding)
    if "\0" in text:
        raise ValueError("it holds NUL characters")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _reader(entry: Input, rules: GitHub) -> _Reader:
    name = _name(entry)
    url = "" if name == PYTHON else _home_page(_metadata(name))
    return _Reader(entry, rules, licence_of(entry, rules), url, dict(entry.members))


def _name(entry: Input) -> str:
    """The package: what stands before the version in the name of the dump."""
    return entry.dump.rpartition(" ")[0]


def _metadata(name: str) -> Message:
    return cast(Message, package(name).metadata)


def _home_page(metadata: Message) -> str:
    """Where the package says that its sources are, or its home page."""
    pages = [str(value).partition(",")[::2] for value in metadata.get_all("Project-URL") or []]
    named = {label.strip().lower(): address.strip() for label, address in pages}
    return next((named[label] for label in HOME_PAGES if label in named), str(metadata.get("Home-page") or ""))


def _is_generated(text: str) -> bool:
    head = text[:4000].split("\n")[:GENERATED_LINES]
    return any(GENERATED.search(line) for line in head if COMMENT.match(line))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:EXAMPLE]


def _joined(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Neighbouring parts of one package as one."""
    joined: list[tuple[str, list[str]]] = []
    for part in parts:
        if not joined or joined[-1][0] != part.declared:
            joined.append((part.declared, []))
        joined[-1][1].extend(part.members)
    return tuple(Part(declared, members=tuple(members)) for declared, members in joined)
