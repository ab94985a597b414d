"""What code says of its licence is told by wording; its header goes in every style of comment; counting has a twin."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_code import FAMILIES, GPL, MIT
from puna.data.code import spdx
from puna.data.code.header import without_any_header, without_header
from puna.data.code.licence import of_expression, of_project
from puna.data.code.licence_text import copyright_lines, recognised
from puna.data.code.quality import measured, plainly_measured


def test_the_wordings_of_licences_are_told_apart() -> None:
    assert recognised(MIT).is_whole
    assert recognised("/* " + MIT.replace("\n", "\n * ").upper() + "*/").known == ("MIT",)
    assert not recognised(MIT.replace("without restriction", "for teaching")).known
    assert recognised(GPL).others == ("GPL",)
    assert of_project("", [MIT, "Only for teaching.\n"], FAMILIES).refused
    assert copyright_lines(MIT) == ["Copyright (c) 2020 A. Person"]


@pytest.mark.promise("twins")
@given(st.text(st.sampled_from("ab_Z09 \t\n\r\f(){}#é١²\u2003中€\x1c\x85"), max_size=200))
@settings(deadline=None, max_examples=300)
def test_counting_by_tables_and_character_by_character_agree(text: str) -> None:
    assert measured(text) == plainly_measured(text)


HEADS = ["# Copyright 2020 A", "# Licensed under MIT", "", "/* Copyright A", " */", "// (c) 2020 B", "import a", "#!/x"]


@pytest.mark.promise("twins")
@given(st.lists(st.sampled_from([*HEADS, "# " + "word " * 900]), max_size=12), st.sampled_from([".py", ".c", ".rs"]))
@settings(deadline=None, max_examples=150)
def test_headers_in_a_window_and_over_the_whole_text_agree(lines: list[str], ending: str) -> None:
    text = "\n".join(lines) + "\n" + "x = 1\n" * 900
    assert without_header(text, ending) == without_any_header(text, ending)


LEGAL = "Copyright 2020 A. Person. All rights reserved."


@pytest.mark.parametrize(
    ("ending", "header", "rest"),
    [
        (".c", f"/* {LEGAL} */\n", "#include <a.h>\n"), (".cpp", f"// {LEGAL}\n", "#pragma once\n"),
        (".java", f"/*\n * {LEGAL}\n */\n", "package a;\n"),
        (".go", f"// {LEGAL}\n\n", "// +build linux\n\npackage a\n"),
        (".go", f"// {LEGAL}\n", "//go:build linux\npackage a\n"), (".js", f"// {LEGAL}\n", "'use strict';\nvar a;\n"),
        (".rs", f"// {LEGAL}\n", "#![no_std]\nfn a() {}\n"),
        (".rb", f"# {LEGAL}\n", "# frozen_string_literal: true\na\n"),
        (".sh", f"# {LEGAL}\n", "set -e\n"), (".sql", f"-- {LEGAL}\n", "SELECT 1;\n"),
        (".html", f"<!-- {LEGAL} -->\n", "<p>a</p>\n"), (".lisp", f";;; {LEGAL}\n", "(a)\n"),
        (".hs", f"-- {LEGAL}\n", "{-# LANGUAGE GADTs #-}\nmodule A where\n"), (".lua", f"--[[ {LEGAL} ]]\n", "a = 1\n"),
        (".ml", f"(* {LEGAL} *)\n", "let a = 1\n"), (".tex", f"% {LEGAL}\n", "\\section{A}\n"),
        (".md", f"<!-- {LEGAL} -->\n", "# Copyright and title\n"), (".css", f"/* {LEGAL} */\n", "a { color: red }\n"),
    ],
)  # fmt: skip
def test_a_header_goes_in_every_style_of_comment(ending: str, header: str, rest: str) -> None:
    assert without_header(header + rest, ending) == rest
    assert without_header(rest, ending) == rest


def test_what_stands_above_a_header_stays() -> None:
    for first, ending in (('<?xml version="1.0"?>', ".xml"), ("<!DOCTYPE html>", ".html")):
        assert without_header(f"{first}\n<!-- {LEGAL} -->\n<a/>\n", ending) == f"{first}\n<a/>\n"
    nested = f"/* {LEGAL}\n /* inner */\n outer */\nfn a() {{}}\n"
    assert without_header(nested, ".rs") == nested


ATOMS = st.sampled_from(["MIT", "mit", "BSD-3-Clause", "GPL-2.0", "Apache-2.0 WITH LLVM-exception", "ISC"])
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: st.tuples(inner, st.sampled_from([" AND ", " OR ", " and ", " or "]), inner, st.booleans()).map(
        lambda parts: f"({parts[0]}{parts[1]}{parts[2]})" if parts[3] else f"{parts[0]}{parts[1]}{parts[2]}"
    ),
    max_leaves=8,
)


def plainly_allowed(expression: str) -> bool:
    """By Python's own `and` and `or`, which bind as SPDX's do."""
    words = []
    for word in expression.replace("(", " ( ").replace(")", " ) ").split():
        if word.upper() in ("AND", "OR") or word in "()":
            words.append(word.lower())
        elif word != "WITH" and word != "LLVM-exception":
            words.append(str(word.lower().startswith(("mit", "bsd", "apache"))))
    return bool(eval(" ".join(words), {"__builtins__": {}}))


@pytest.mark.promise("twins")
@given(EXPRESSIONS)
@settings(deadline=None, max_examples=200)
def test_expressions_are_taken_as_their_words_bind(expression: str) -> None:
    assert (of_expression(expression, FAMILIES).refused == "") == plainly_allowed(expression)
    assert spdx.is_expression(expression)
