"""What a project says of itself, gathered file by file in one pass: name, version, licence, address, licence texts.

At its top a project has metadata (PKG-INFO, METADATA, package.json, Cargo.toml, pyproject.toml, setup.cfg) and licence
files. PKG-INFO and METADATA are what a package was published with and are asked first; of the others, each that names a
licence must allow reading. A licence file in a folder below governs that folder: others' code, carried along.

Memory: at most MAX_FILES such files of at most MAX_BYTES each, so 64 MB; a project with more is refused.
"""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from email.parser import HeaderParser
from typing import Any

from puna.data.code.licence import UNKNOWN, Verdict, named_in, named_loosely, of_project, of_text
from puna.data.code.licence_text import NAMED_FILE
from puna.data.sources.inputs import normal

MAX_BYTES = 256_000  # of one file of metadata or licence that is looked at
MAX_FILES = 250
HOME_PAGES = ("source", "source code", "repository", "code", "github", "homepage", "home")
PUBLISHED = ("PKG-INFO", "METADATA")


@dataclass(frozen=True)
class Project:
    """A repository or package, and whether its files may be read."""

    name: str
    dump: str
    url: str = ""
    version: str = ""
    verdict: Verdict = UNKNOWN
    texts: tuple[str, ...] = ()
    """Its licence files, and those of folders that may be read."""
    folders: Mapping[str, Verdict] = field(default_factory=dict)
    """Folder -> the verdict of its own licence file."""

    def verdict_of(self, path: str) -> Verdict:
        """Of the nearest folder above a file that has a licence of its own, else the project's. What a project is
        refused for, no folder in it makes good."""
        if self.folders and not self.verdict.refused:
            while "/" in path:
                path = path.rpartition("/")[0]
                if (found := self.folders.get(path)) is not None:
                    return found
        return self.verdict


@dataclass
class Gathering:
    """Collects what a project says of itself while its files pass by, in any order."""

    found: dict[str, bytes] = field(default_factory=dict)
    tops: set[str] = field(default_factory=set)
    too_many: bool = False

    def pass_by(self, path: str, size: int, read: Callable[[], bytes]) -> None:
        """One file of the project; `read` is called only when it may say something."""
        if len(self.tops) < 2:
            self.tops.add(path.partition("/")[0] if "/" in path else "")
        if size <= MAX_BYTES and says_something(path):
            if len(self.found) >= MAX_FILES:
                self.too_many = True
            else:
                self.found[path] = read()

    @property
    def top(self) -> str:
        """The one folder that holds everything, as in most archives, with its slash; "" when there is none."""
        only = next(iter(self.tops)) if len(self.tops) == 1 else ""
        return f"{only}/" if only else ""

    def project(self, dump: str, name: str, families: Sequence[str], declared: Mapping[str, str]) -> Project:
        """What was gathered, judged. name: for a project whose metadata have none."""
        top, published, others = self.top, [], []
        texts: list[str] = []
        below_texts: list[tuple[str, str]] = []
        folders: dict[str, Verdict] = {}
        for path in sorted(self.found):
            below, text = path.removeprefix(top), self.found[path].decode("utf-8", "replace")
            folder, _, file = below.rpartition("/")
            wheel = re.fullmatch(r"[^/]+\.(dist|egg)-info(/licen[cs]es)?", folder)
            if NAMED_FILE.fullmatch(file):
                if not folder or wheel:
                    texts.append(text)
                elif verdict := of_text(text, families):
                    folders[top + folder] = _both(folders.get(top + folder), verdict)
                    below_texts.append((top + folder, text))
            elif file in PUBLISHED and (not folder or wheel):
                published.append(HeaderParser().parsestr(text))
            elif not folder:
                others.append(_READERS[file](text))
        project = _described(published, others)
        name = project.get("name") or name
        if self.too_many:
            verdict = Verdict("unknown", f"it has more than {MAX_FILES} files of metadata and licences")
        else:
            verdict = of_project(project.get("licence", ""), texts, families, declared.get(normal(name), ""))
        url, version = project.get("url", ""), project.get("version", "")
        texts += [text for folder, text in below_texts if not folders[folder].refused]
        return Project(name, dump, url, version, verdict, tuple(texts), folders)


def says_something(path: str) -> bool:
    """Whether a path is that of metadata or of a licence file."""
    file = path.rpartition("/")[2]
    return file in _READERS or file in PUBLISHED or NAMED_FILE.fullmatch(file) is not None


def home_page(metadata: Message) -> str:
    """Where a package says that its sources are, or its home page."""
    pages = [str(value).partition(",")[::2] for value in metadata.get_all("Project-URL") or []]
    named = {label.strip().lower(): address.strip() for label, address in pages}
    return next((named[label] for label in HOME_PAGES if label in named), str(metadata.get("Home-page") or ""))


def _both(first: Verdict | None, second: Verdict) -> Verdict:
    """Of two licence files in one folder: both must allow."""
    if first is None or first == second or first.refused:
        return first or second
    return second if second.refused else Verdict(f"{first.licence} AND {second.licence}")


def _described(published: Sequence[Message], others: Sequence[Mapping[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for metadata in published:
        said = {
            "name": str(metadata.get("Name") or ""),
            "version": str(metadata.get("Version") or ""),
            "url": home_page(metadata),
            "licence": named_in(metadata),
        }
        found = {key: found.get(key) or value for key, value in said.items()}
    if not found.get("licence"):
        found["licence"] = _all(other.get("licence", "") for other in others)
    for key in ("name", "version", "url"):
        found[key] = found.get(key) or next((other[key] for other in others if other.get(key)), "")
    return found


def _all(expressions: Iterable[str]) -> str:
    """All of several expressions as one."""
    said = list(dict.fromkeys(filter(None, expressions)))
    return said[0] if len(said) == 1 else " AND ".join(f"({each})" for each in said)


def _text(value: Any) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _loose(value: str) -> str:
    """A licence as people write it into metadata; one that cannot be read stays, so that it refuses."""
    return named_loosely(value, ()) or value[:100]


def _of_package_json(text: str) -> dict[str, str]:
    value = _table(json.loads(text))
    licence = value.get("license") or value.get("licenses")
    if isinstance(licence, list):  # an old form, in which one may choose
        licence = " OR ".join(f"({_text(_table(each).get('type') or each)})" for each in licence)
    elif isinstance(licence, dict):
        licence = licence.get("type")
    pages = [value.get("repository"), value.get("homepage")]
    addresses = [_text(_table(page).get("url") or page) for page in pages]
    return {
        "name": _text(value.get("name")),
        "version": _text(value.get("version")),
        "url": next(filter(None, addresses), ""),
        "licence": _loose(_text(licence)),
    }


def _of_cargo(text: str) -> dict[str, str]:
    value = _table(_table(tomllib.loads(text)).get("package"))
    licence = re.sub(r"\s*/\s*", " OR ", _text(value.get("license")))  # how Cargo once wrote a choice
    found = {key: _text(value.get(key)) for key in ("name", "version")}
    return found | {"url": _text(value.get("repository")), "licence": _loose(licence)}


def _of_pyproject(text: str) -> dict[str, str]:
    value = tomllib.loads(text)
    project = _table(value.get("project")) or _table(_table(value.get("tool")).get("poetry"))
    licence = project.get("license")
    said = _text(_table(licence).get("text") if isinstance(licence, dict) else licence)
    classifiers = project.get("classifiers")
    names = [_text(each) for each in classifiers] if isinstance(classifiers, list) else []
    found = {key: _text(project.get(key)) for key in ("name", "version")}
    return found | {"licence": named_loosely(said, names) or said[:100]}


def _of_setup_cfg(text: str) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    value = dict(parser["metadata"]) if parser.has_section("metadata") else {}
    said = value.get("license") or value.get("licence") or ""
    names = [line.strip() for line in (value.get("classifiers") or value.get("classifier") or "").splitlines()]
    found = {key: value.get(key) or "" for key in ("name", "version", "url")}
    return found | {"licence": named_loosely(said, names)}


def _sound(read: Callable[[str], dict[str, str]]) -> Callable[[str], dict[str, str]]:
    """`read`, and for a file that cannot be read a licence that refuses: what it says is not known."""

    def reading(text: str) -> dict[str, str]:
        try:
            return read(text.lstrip("\ufeff"))
        except (ValueError, configparser.Error, RecursionError, KeyError, TypeError):
            return {"licence": "unreadable-metadata"}

    return reading


_READERS = {
    "package.json": _sound(_of_package_json),
    "Cargo.toml": _sound(_of_cargo),
    "pyproject.toml": _sound(_of_pyproject),
    "setup.cfg": _sound(_of_setup_cfg),
}
