"""The files of a paper as one text: which is the main one, how each is encoded, what \\input names.

The main file is the one that arXiv's 00README names, else one with \\documentclass (or \\documentstyle) that no other
file puts into itself, by its name, then by what it holds, then by its size; without any, the largest TeX file (plain
TeX). Bytes are UTF-8 where they can be, else what `inputenc` of the main file declares, else Windows-1252 (Latin-1
where it has no character). A .bbl is never put in: it is the bibliography.
"""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from puna.data.latex import words
from puna.data.latex.archive import README, Files, inside
from puna.data.latex.comments import package_comments, remove_comments
from puna.data.latex.expand import PACKAGE, EndlessError, Expander, expand
from puna.data.latex.packages import CHARACTER, NOTE, Kept
from puna.data.latex.title import readable

CLASS = b"\\document"
BEGIN = b"\\begin{document}"
CLASS_NAME = re.compile(rb"\\document(?:class|style)(?![A-Za-z])\s*(?:\[[^\]]*\])?\s*\{\s*([\w-]*)")
DECLARED = re.compile(rb"\\usepackage\s*\[([^\]]{1,60})\]\s*\{\s*inputenc\s*\}|\\inputencoding\s*\{([^}]{1,40})\}")
INCLUDED = re.compile(rb"\\(?:input|include|subfile)\s*\{?\s*([^\s{}\\%]+)")
MAIN_NAMES = ("main", "ms", "paper", "article", "manuscript", "arxiv", "root", "template")
PARTS = (b"subfiles", b"standalone", b"letter")  # classes of what is no paper by itself
TEX = (".tex", ".ltx", ".latex", "")
ENCODINGS = {
    "utf8": "utf-8", "utf8x": "utf-8", "latin1": "latin-1", "latin2": "iso8859-2", "latin3": "iso8859-3",
    "latin4": "iso8859-4", "latin5": "iso8859-9", "latin9": "iso8859-15", "latin10": "iso8859-16", "ansinew": "cp1252",
    "cp1252": "cp1252", "cp1250": "cp1250", "cp1251": "cp1251", "cp1257": "cp1257", "cp437": "cp437",
    "cp850": "cp850", "cp852": "cp852", "cp866": "cp866", "koi8-r": "koi8-r", "koi8-u": "koi8-u",
    "applemac": "mac-roman", "macce": "mac-latin2", "maccyr": "mac-cyrillic", "ascii": "ascii",
}  # fmt: skip
NEW_VERBATIM = re.compile(
    r"\\(?:(?:Define|Custom|Recustom)VerbatimEnvironment|lstnewenvironment|newverbatim|DeclareTCBListing|newtcblisting)"
    r"\*?\s*(?:\[[^\]]*\]\s*)?\{\s*([^{}\\]+?)\s*\}"
)
VERBATIM_KEYS = (
    b"VerbatimEnvironment", b"lstnewenvironment", b"newverbatim", b"DeclareTCBListing", b"newtcblisting",
)  # fmt: skip
OTHER_KEYS = (b"excludecomment", b"newif")
NEW_COMMENT = re.compile(r"\\excludecomment\s*\{\s*([^{}\\]+?)\s*\}")
NEW_IF = re.compile(r"\\newif\s*\\(if[A-Za-z@]+)")


class NotTextError(Exception):
    """A paper whose files are no text: why."""


@dataclass(frozen=True)
class Read:
    """A paper from \\begin{document} on, its macros written out."""

    text: str
    title: str
    left: dict[str, str]
    """Macros that stay as they are, and why."""
    missing: list[str]
    """Files that the paper names and does not hold."""
    verbatim: frozenset[str]
    """Environments of text that is no LaTeX, the paper's own among them."""


def read_paper(files: Files) -> Read | None:
    """The paper as one text; None when it has no TeX file. NotTextError, EndlessError for what cannot be read."""
    main = main_file(files.texts)
    if main is None:
        return None
    texts = _Texts(files.texts, main)
    size = sum(map(len, files.texts.values()))
    first = texts.clean(main)
    expander = Expander(texts.load, size, texts.verbatim)
    text = expander.read(main, first, preamble=True)
    if not expander.begun:
        expander = Expander(texts.load, size, texts.verbatim)
        text = expander.read(main, first, preamble=False)
    title = _title(expander)
    return Read(text, title, expander.left, expander.missing, frozenset(texts.verbatim))


def main_file(texts: dict[str, bytes]) -> str | None:
    """The path of the main file; None when no file is TeX."""
    named = _readme(texts)
    if named:
        return named
    tex = {path: data for path, data in texts.items() if _is_tex(path, data)}
    classes = {path: found for path, data in tex.items() if (found := document_class(data)) is not None}
    whole = {path for path, found in classes.items() if found not in PARTS} or set(classes)
    if not whole:
        return min(tex, key=lambda path: (-len(tex[path]), path), default=None)
    whole = {path for path in whole if BEGIN in tex[path]} or whole
    if len(whole) > 1:
        included = {PurePosixPath(name.decode("latin-1")).stem for path in tex for name in INCLUDED.findall(tex[path])}
        whole = {path for path in whole if PurePosixPath(path).stem not in included} or whole
    return min(whole, key=lambda path: _rank(path, tex[path]))


def _title(expander: Expander) -> str:
    """The title in its macros' words, without LaTeX."""
    try:
        return readable(expand(expander.title, expander.macros))
    except EndlessError:
        return readable(expander.title)


def document_class(data: bytes) -> bytes | None:
    """The class that a file names outside comments; None when it names none."""
    at = data.find(CLASS)
    while at >= 0:
        line = data[max(data.rfind(b"\n", 0, at), data.rfind(b"\r", 0, at)) + 1 : at]
        found = CLASS_NAME.match(data, at)
        if found and b"%" not in line:
            return found[1]
        at = data.find(CLASS, at + len(line) + 1 if b"%" in line else at + 1)
    return None


def decoded(data: bytes, declared: str = "") -> str:
    """A file's text with \\n as its line ends. NotTextError when it holds NUL characters."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = data.decode("utf-16", "replace")
    else:
        text = _decoded(data.removeprefix(codecs.BOM_UTF8), ENCODINGS.get(declared, ""))
    if "\0" in text:
        raise NotTextError("it holds NUL characters")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def declared_encoding(data: bytes) -> str:
    """What inputenc is told, the last of several options; "" when it is not loaded."""
    found = DECLARED.search(data)
    return (found[1] or found[2]).decode("latin-1").split(",")[-1].strip().lower() if found else ""


def _decoded(data: bytes, declared: str) -> str:
    for encoding in ("utf-8", declared, "cp1252"):
        try:
            if encoding:
                return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


package_text = Kept(
    lambda data, declared: package_comments(decoded(data, declared)), lambda text: CHARACTER * len(text) + NOTE
)


def named(data: bytes) -> tuple[list[str], list[str], list[str]]:
    """What a file names anew: environments of verbatim text and of comments, and conditionals."""
    text = data.decode("latin-1") if any(key in data for key in (*VERBATIM_KEYS, *OTHER_KEYS)) else ""
    verbatim = NEW_VERBATIM.findall(text) if any(key in data for key in VERBATIM_KEYS) else []
    return verbatim, NEW_COMMENT.findall(text), NEW_IF.findall(text)


package_names = Kept(named, lambda found: NOTE * (1 + sum(map(len, found))))


class _Texts:
    """The files of a paper without comments, each decoded once when it is asked for."""

    def __init__(self, texts: dict[str, bytes], main: str) -> None:
        self._texts, self._main = texts, main
        self._lower = {path.lower(): path for path in sorted(texts, reverse=True)}
        self._folder = "" if PurePosixPath(main).parent.name == "" else f"{PurePosixPath(main).parent.as_posix()}/"
        self._encoding = declared_encoding(texts[main])
        self._cleaned: dict[str, str] = {}
        self.verbatim, self._excluded = set(words.VERBATIM), set(words.COMMENT)
        self._conditionals = set(words.CONDITIONALS)
        for path, data in texts.items():
            found = (package_names if path.endswith(PACKAGE) else named)(data)
            for names, more in zip((self.verbatim, self._excluded, self._conditionals), found, strict=True):
                names.update(more)

    def clean(self, path: str) -> str:
        if path not in self._cleaned:
            data = self._texts[path]
            self._cleaned[path] = (
                package_text(data, self._encoding)
                if path.endswith(PACKAGE)
                else remove_comments(decoded(data, self._encoding), self.verbatim, self._excluded, self._conditionals)
            )
        return self._cleaned[path]

    def load(self, command: str, name: str) -> tuple[str, str] | None:
        """The file that a command names: (path, text); None for one that the paper does not hold."""
        if command in words.PACKAGES:
            endings = [".cls"] if command.startswith(("document", "LoadClass")) else [".sty"]
            endings += [".sty"] if command == "documentstyle" else []
        else:
            endings = [".tex", ""]
        if name.lower().endswith(".bbl"):
            return self._main + ".bbl", ""
        folders = dict.fromkeys((self._folder, ""))
        for candidate in (inside(f"{folder}{name}{ending}") for folder in folders for ending in endings):
            path = candidate if candidate in self._texts else self._lower.get(candidate.lower(), "")
            if path:
                return path, self.clean(path)
        return None


def _is_tex(path: str, data: bytes) -> bool:
    pure = PurePosixPath(path.lower())
    return pure.suffix in TEX and not pure.name.startswith(README) and (pure.suffix != "" or b"\\" in data[:20000])


def _rank(path: str, data: bytes) -> tuple[int, int, int, str]:
    stem = PurePosixPath(path).stem.lower()
    known = MAIN_NAMES.index(stem) if stem in MAIN_NAMES else len(MAIN_NAMES)
    return path.count("/"), known, -len(data), path


def _readme(texts: dict[str, bytes]) -> str | None:
    """The top-level file that a 00README names: the older form in lines, the newer one in JSON."""
    for path in sorted(texts):
        if not PurePosixPath(path.lower()).name.startswith(README):
            continue
        said = texts[path][:100_000].decode("utf-8", "replace")
        names = [line.split()[0] for line in said.splitlines() if line.split()[1:] == ["toplevelfile"]]
        if path.lower().endswith(".json"):
            names += _sources(said)
        for name in names:
            if inside(name) in texts:
                return inside(name)
    return None


def _sources(said: str) -> list[str]:
    try:
        sources = json.loads(said).get("sources", [])
        return [str(each["filename"]) for each in sources if each.get("usage") == "toplevel"]
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
        return []
