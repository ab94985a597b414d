"""What is known of a language by the end of a file's name: its name, and how its comments are written."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import NamedTuple


class Comments(NamedTuple):
    """What begins a comment line, what begins a comment of many lines, what ends it; "" for what a language lacks."""

    line: str = ""
    begin: str = ""
    end: str = ""


_HASH = Comments("#")
_SLASH = Comments("//", "/*", "*/")
_TAG = Comments("", "<!--", "-->")
_DASH = Comments("--", "/*", "*/")
_SEMICOLON = Comments(";")

# Name of a language, its comments, and how its files end.
_KNOWN: list[tuple[str, Comments, str]] = [
    ("python", _HASH, ".py .pyi"), ("cython", _HASH, ".pyx .pxd .pxi"), ("ruby", _HASH, ".rb .rake .gemspec"),
    ("shell", _HASH, ".sh .bash .zsh .ksh"), ("perl", _HASH, ".pl .pm"), ("r", _HASH, ".r .R"),
    ("julia", _HASH, ".jl"), ("elixir", _HASH, ".ex .exs"), ("tcl", _HASH, ".tcl"), ("cmake", _HASH, ".cmake"),
    ("make", _HASH, ".mk Makefile"), ("dockerfile", _HASH, "Dockerfile"), ("yaml", _HASH, ".yaml .yml"),
    ("toml", _HASH, ".toml"), ("nim", _HASH, ".nim"), ("crystal", _HASH, ".cr"),
    ("c", _SLASH, ".c .h"), ("cpp", _SLASH, ".cc .cpp .cxx .hpp .hh .hxx .ipp .inl"), ("cuda", _SLASH, ".cu .cuh"),
    ("objective-c", _SLASH, ".m .mm"), ("java", _SLASH, ".java"), ("kotlin", _SLASH, ".kt .kts"),
    ("scala", _SLASH, ".scala"), ("groovy", _SLASH, ".groovy .gradle"), ("csharp", _SLASH, ".cs"),
    ("javascript", _SLASH, ".js .mjs .cjs .jsx"), ("typescript", _SLASH, ".ts .tsx .mts .cts"), ("go", _SLASH, ".go"),
    ("rust", _SLASH, ".rs"), ("swift", _SLASH, ".swift"), ("dart", _SLASH, ".dart"), ("zig", _SLASH, ".zig"),
    ("solidity", _SLASH, ".sol"), ("verilog", _SLASH, ".v .sv"), ("protobuf", _SLASH, ".proto"), ("d", _SLASH, ".d"),
    ("glsl", _SLASH, ".glsl .vert .frag"), ("php", _SLASH, ".php"), ("scss", _SLASH, ".scss .less"),
    ("css", Comments("", "/*", "*/"), ".css"),
    ("fsharp", Comments("//", "(*", "*)"), ".fs .fsx"), ("ocaml", Comments("", "(*", "*)"), ".ml .mli"),
    ("pascal", Comments("//", "{", "}"), ".pas .pp"),
    ("sql", _DASH, ".sql"),
    ("haskell", Comments("--", "{-", "-}"), ".hs .lhs"), ("elm", Comments("--", "{-", "-}"), ".elm"),
    ("lua", Comments("--", "--[[", "]]"), ".lua"),
    ("ada", Comments("--"), ".adb .ads"), ("vhdl", Comments("--"), ".vhd .vhdl"),
    ("lisp", Comments(";", "#|", "|#"), ".lisp .lsp .cl"), ("emacs-lisp", _SEMICOLON, ".el"),
    ("clojure", _SEMICOLON, ".clj .cljs .cljc .edn"), ("scheme", Comments(";", "#|", "|#"), ".scm .ss .rkt"),
    ("assembly", _SEMICOLON, ".asm .nasm"), ("llvm", _SEMICOLON, ".ll"),
    ("erlang", Comments("%"), ".erl .hrl"),
    ("tex", Comments("%"), ".tex .sty .cls"), ("matlab", Comments("%"), ".matlab"),
    ("prolog", Comments("%", "/*", "*/"), ".pro .prolog"), ("fortran", Comments("!"), ".f90 .f95 .f03 .f08"),
    ("vim", Comments('"'), ".vim"), ("powershell", Comments("#", "<#", "#>"), ".ps1 .psm1"),
    ("batch", Comments("::"), ".bat .cmd"), ("visual-basic", Comments("'"), ".vb .vbs .bas"),
    ("html", _TAG, ".html .htm .xhtml"), ("xml", _TAG, ".xml .xsl .xslt .xsd .svg"), ("vue", _TAG, ".vue .svelte"),
    ("markdown", _TAG, ".md .markdown"), ("restructuredtext", Comments(), ".rst"), ("text", Comments(), ".txt"),
]  # fmt: skip
LANGUAGES = {ending: name for name, _, endings in _KNOWN for ending in endings.split()}
COMMENTS = {ending: comments for _, comments, endings in _KNOWN for ending in endings.split()}


def ending_of(path: str) -> str:
    """What tells the language of a file: the end of its name, or for a few the whole name."""
    file = PurePosixPath(path)
    return file.name if file.name in LANGUAGES else file.suffix


def language_of(path: str) -> str:
    ending = ending_of(path)
    return LANGUAGES.get(ending, ending.removeprefix(".").lower() or "text")
