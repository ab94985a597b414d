"""Macros written out by Puna, against the tree that pylatexenc parses: an independent reader of LaTeX."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_papers import everything
from puna.data.document import Document
from puna.data.latex.definitions import macro
from puna.data.latex.expand import expand

walker = pytest.importorskip("pylatexenc.latexwalker")
macrospec = pytest.importorskip("pylatexenc.macrospec")

BODIES = {"one": (1, "<#1>"), "two": (2, "#2, \\beta #1"), "none": (0, "\\gamma"), "nested": (1, "(\\one{#1}\\none)")}
MACROS = {name: macro(name, body, ("",) * count) for name, (count, body) in BODIES.items()}
# Arguments in braces only: pylatexenc reads \one\two as an argument without its own, as TeX does, but drops its rest.
TEXT = st.recursive(
    st.sampled_from(["a", " b ", "$x$", "\\alpha ", "\\none ", "\\none{}", "\\textbf{c}", "\\\\", "\\{"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map("".join),
        inner.map("\\one{{{}}}".format),
        inner.map("\\nested{{{}}}".format),
        st.tuples(inner, inner).map(lambda two: f"\\two{{{two[0]}}}{{{two[1]}}}"),
    ),
    max_leaves=12,
)


def context() -> object:
    known = macrospec.LatexContextDb()
    known.add_context_category("own", macros=[macrospec.MacroSpec(name, "{" * n) for name, (n, _) in BODIES.items()])
    known.set_unknown_macro_spec(macrospec.MacroSpec(""))
    known.set_unknown_environment_spec(macrospec.EnvironmentSpec(""))
    return known


def by_tree(text: str) -> str:
    """`text` with BODIES written out along pylatexenc's tree, one round after another."""
    for _ in range(20):
        nodes, _, _ = walker.LatexWalker(text, latex_context=context()).get_latex_nodes()
        written = "".join(map(_written, nodes))
        if written == text:
            return text
        text = written
    raise AssertionError(text)


def _written(node: object) -> str:
    if node.isNodeType(walker.LatexMacroNode) and node.macroname in BODIES:  # type: ignore[attr-defined]
        arguments = [each.latex_verbatim() for each in node.nodeargd.argnlist]  # type: ignore[attr-defined]
        values = [each[1:-1] if each.startswith("{") else each for each in arguments]
        return "\0" + re.sub(r"#(\d)", lambda m: values[int(m[1]) - 1] + "\0", BODIES[node.macroname][1]) + "\0"  # type: ignore[attr-defined]
    if node.isNodeType(walker.LatexGroupNode):  # type: ignore[attr-defined]
        return "{" + "".join(map(_written, node.nodelist)) + "}"  # type: ignore[attr-defined]
    return str(node.latex_verbatim())  # type: ignore[attr-defined]


def marks(text: str) -> list[str]:
    """Commands and characters, without blanks: what TeX reads, but for spaces."""
    return re.findall(r"\\[A-Za-z]+|\\.|[^\s\0]", text)


@given(TEXT)
@settings(deadline=None, max_examples=150)
def test_macros_are_written_out_as_along_the_tree_of_pylatexenc(text: str) -> None:
    assert marks(expand(text, MACROS)) == marks(by_tree(text))


def test_pylatexenc_reads_what_is_kept_of_real_papers_and_finds_their_sections(samples: Path) -> None:
    found = [
        record for record in everything(samples / "arxiv" / "arXiv_src_2101_001.tar") if isinstance(record, Document)
    ]
    for document in sorted(found, key=lambda document: len(document.text))[:2]:  # a second a paper
        nodes, _, _ = walker.LatexWalker(document.text, tolerant_parsing=True).get_latex_nodes()
        macros = [node.macroname for node in nodes if node.isNodeType(walker.LatexMacroNode)]
        assert macros[0] == "section"
        assert macros.count("section") == len(re.findall(r"\\section\b", document.text)) - inside_groups(document.text)
        assert not any(node.isNodeType(walker.LatexCommentNode) for node in nodes)


def inside_groups(text: str) -> int:
    """Sections that stand in an environment, which the top of the tree does not show."""
    nodes, _, _ = walker.LatexWalker(text, tolerant_parsing=True).get_latex_nodes()
    return sum(
        len(re.findall(r"\\section\b", node.latex_verbatim()))
        for node in nodes
        if not node.isNodeType(walker.LatexMacroNode)
    )
