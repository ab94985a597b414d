"""The rules that a file of code passes, in order, and the document that is made of it."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Callable, Iterator

from puna import storage
from puna.data.code.archive import BROKEN
from puna.data.code.header import is_closed, spdx_line, without_header
from puna.data.code.languages import ending_of, language_of
from puna.data.code.licence import of_expression
from puna.data.code.licence_text import copyright_lines
from puna.data.code.projects import Project
from puna.data.code.quality import measured
from puna.data.document import Document, Origin, document_id
from puna.data.sources.records import EXAMPLE, Aside, Dropped, Record, SetAside
from puna.recipe import GitHub

GENERATED = re.compile(
    r"@generated|\bdo not (edit|modify)\b|auto-?generated|(automatically|machine)[- ]generated|"
    r"generated (automatically|by|from|with|using)\b",
    re.IGNORECASE,
)
GENERATED_LINES = 20  # of a file's beginning, in comments, where generators say so
COMMENT = re.compile(r"\s*(#|//|/?\*|--|;|%|<!--)")
NOTICES = 10_000  # copyright lines of one project that are remembered, so that each is told once


class Judge:
    """Judges the files of one project; `seen` are the copyright lines that were told of it."""

    def __init__(self, project: Project, rules: GitHub) -> None:
        self.project, self.rules = project, rules
        self.endings = tuple(rules.extensions)
        self.drop = [re.compile(pattern) for pattern in rules.drop_paths]
        self.told = False
        self.seen: set[str] = set()

    def file(
        self, path: str, size: int, read: Callable[[], bytes], file: str, lost: int | None = None
    ) -> Iterator[Record | Aside]:
        """What becomes of one file, and what is told of its licence beside it. lost: stored bytes that go with it when
        it cannot be read; None for its own."""
        verdict = self.project.verdict_of(path)
        if rule := self._unwanted(path, size):
            if verdict.refused:
                yield self._dropped("licence", path, size, f"{verdict.licence}: {verdict.refused}")
            else:
                yield self._dropped(rule, path, size, f"{size} bytes" if rule == "size" else "")
            return
        ending = ending_of(path)
        try:
            text = decoded(read(), ending)
        except (SyntaxError, LookupError, *BROKEN) as error:
            reason = " ".join(str(error).split())[:EXAMPLE] or type(error).__name__
            yield SetAside(f"cannot be read as text: {reason}", file, path, size if lost is None else lost)
            return
        own = spdx_line(text)
        whose = "its own " if own else ""
        verdict = of_expression(own, self.rules.licences) if own else verdict
        if verdict.refused:
            yield self._dropped("licence", path, size, f"{whose}{verdict.licence}: {verdict.refused}")
        elif not own and is_closed(text):
            yield self._dropped("licence", path, size, text)
        elif is_generated(text):
            yield self._dropped("generated", path, size, text)
        else:
            clean = without_header(text, ending)
            if rule := quality(clean, self.rules):
                yield self._dropped(rule, path, size, clean)
            else:
                yield self._document(path, clean, verdict.licence)
                yield from self._notices(text, clean)

    def _unwanted(self, path: str, size: int) -> str:
        """The rule by which a file is left out before it is read, or ""."""
        if not path.endswith(self.endings):
            return "extension"
        if self.drop and any(pattern.search(path) for pattern in self.drop):
            return "path"
        return "size" if size > self.rules.max_bytes else ""

    def _dropped(self, rule: str, path: str, size: int, example: str) -> Dropped:
        return Dropped(rule, f"{self.project.dump}: {path}", size, example[:EXAMPLE])

    def _document(self, path: str, text: str, licence: str) -> Document:
        dump = self.project.dump
        origin = Origin(dump, path, path, 0, self.project.url, path, "", licence)
        return Document(document_id("github", dump, path), "github", self.project.name, language_of(path), text, origin)

    def _notices(self, text: str, clean: str) -> Iterator[Aside]:
        """Once the project and its licence files, then every copyright line that a header had."""
        project = self.project
        about = {"dump": project.dump, "repository": project.name}
        if not self.told:
            self.told = True
            texts = [(storage.digest_bytes(each.encode("utf-8", "replace")), each) for each in project.texts]
            digests = [digest for digest, _ in texts]
            said = {
                "licence": project.verdict.licence,
                "texts": digests,
                "url": project.url,
                "version": project.version,
            }
            yield Aside("licences", about | said)
            for digest, each in texts:
                yield Aside("licences", {"digest": digest, "text": each})
                for line in copyright_lines(each):
                    yield from self._copyright(line)
        if len(clean) < len(text):
            gone = text[: len(text) - len(clean) + 4_000]
            for line in copyright_lines(gone):
                yield from self._copyright(line)

    def _copyright(self, line: str) -> Iterator[Aside]:
        if line not in self.seen and len(self.seen) < NOTICES:
            self.seen.add(line)
            project = self.project
            yield Aside("licences", {"dump": project.dump, "repository": project.name, "copyright": line})


def quality(text: str, rules: GitHub) -> str:
    """The first of the recipe's numbers that the text does not meet, by the name of its rule, or ""."""
    found = measured(text)
    if found.longest > rules.max_line_length:
        return "longest line"
    if found.characters > rules.mean_line_length * found.lines:
        return "mean line"
    if found.alphanumeric < rules.min_alphanumeric * len(text):
        return "alphanumeric"
    if found.letters < rules.min_letters_per_token * found.tokens:
        return "letters per token"
    return "short" if len(text.strip()) < max(1, rules.min_characters) else ""


def decoded(data: bytes, ending: str = ".py") -> str:
    """A file's text: UTF-8, else for Python the encoding that it declares. ValueError, LookupError or SyntaxError for
    what is neither, or holds NUL characters."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        if ending not in (".py", ".pyi"):
            raise
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding)
    if "\0" in text:
        raise ValueError("it holds NUL characters")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def is_generated(text: str) -> bool:
    """Whether the comments at a file's top say that a program wrote it."""
    head = text[:4000].split("\n")[:GENERATED_LINES]
    return any(GENERATED.search(line) for line in head if COMMENT.match(line))
