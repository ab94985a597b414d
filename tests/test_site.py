"""The site: commands' pages are the commands' help, the hooks adapt what they must, and the notebook runs.

Whether every link and anchor holds is tried by the strict build of `make check`, which also ends when a page would load
something from another host.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest
import typer

from puna import cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def _of_docs(name: str) -> ModuleType:
    """A script of docs/ as a module."""
    spec = util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


commands = _of_docs("commands")
pages = _of_docs("pages")


def test_every_command_has_a_page_and_it_says_what_the_help_says() -> None:
    there = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "commands").glob("*.md")}
    assert there == commands.pages(), "python docs/generate.py"
    assert {name.removesuffix(".md") for name in there} - {"index"} == commands.GUIDES.keys()
    assert all((DOCS / guide).is_file() for guides in commands.GUIDES.values() for guide in guides)


def _parameters(command: object, name: str = "") -> list[tuple[str, str]]:
    """(page, word) of every option and argument, as the command line itself has them."""
    found = []
    for each, below in getattr(command, "commands", {}).items():
        found += _parameters(below, name or each)
    for parameter in getattr(command, "params", ()):
        names = [*parameter.opts, *parameter.secondary_opts]
        words = names if parameter.param_type_name == "option" else [parameter.metavar]
        found += [(name, word) for word in words if word != "--help"]
    return found


def test_no_option_or_argument_of_the_command_line_is_missing_on_its_page() -> None:
    found = [(name, word) for name, word in _parameters(typer.main.get_command(cli.app)) if name]
    texts = {name: (DOCS / "commands" / f"{name}.md").read_text(encoding="utf-8") for name, _ in found}
    assert len(found) > 150
    missing = [
        (name, word)
        for name, word in found
        if not re.search(
            rf"^\| `(?:[^`]*, )?{re.escape(word.replace('|', chr(92) + '|'))}[ ,`]", texts[name], re.MULTILINE
        )
    ]
    assert not missing


def test_help_shows_the_same_characters_on_a_page() -> None:
    assert commands._plain("of *.jsonl, <PATH> [x] and `a*b`; --no-compare, but-not--this") == (
        r"of \*.jsonl, \<PATH> \[x\] and `a*b`; `--no-compare`, but-not--this"
    )


def test_links_lead_to_where_the_site_has_their_files() -> None:
    def link(to: str, where: str = "docs/plan.md", uri: str = "plan.md") -> str:
        return str(pages.relinked(to, where, uri))

    assert link("train.md#layer-modes") == "train.md#layer-modes"
    assert link("https://arxiv.org/abs/2302.13971") == "https://arxiv.org/abs/2302.13971"
    assert link("#here") == "#here"
    assert link("../README.md") == "project/README.md"
    assert link("../src/puna/plan/gpus.toml") == "source/src/puna/plan/gpus.toml.md"
    assert link("tour.ipynb") == "tour.md"
    assert link("../quality.md", "docs/sources/c4.md", "sources/c4.md") == "../quality.md"
    assert link("docs/log.md", "README.md", "project/README.md") == "../log.md"
    assert link("LICENSE", "README.md", "project/README.md") == "../source/LICENSE.md"


def test_a_list_may_follow_a_line_and_code_stays_as_it_is() -> None:
    code = "```\nlike this:\n- no item\n[x](../README.md)\n```\n"
    text = f"**Two**:\n- one,\n  in two lines\n- two\n\n{code}\n1. first\n2. second\n"
    assert pages.adapted(text, "docs/a.md", "a.md") == text.replace("**Two**:\n", "**Two**:\n\n")


def test_a_path_in_a_table_breaks_between_its_parts_alone() -> None:
    page = "<p><code>a/b</code></p><td>a/b <code>src/a_b.py</code></td><td><code>--out X</code></td>"
    shown = "<p><code>a/b</code></p><td>a/b <code>src/<wbr>a_<wbr>b.py</code></td><td><code>--out X</code></td>"
    assert pages.on_page_content(page) == shown


def test_a_picture_follows_the_switch_of_the_page() -> None:
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    shown = re.findall(r'<img src="([^"]*)"', pages.adapted(text, "docs/index.md", "index.md"))
    assert shown == ["pictures/laptop-light.svg#only-light", "pictures/laptop-dark.svg#only-dark"]


@pytest.mark.promise("alone")
@pytest.mark.parametrize(
    ("page", "loads"),
    [
        ('<a href="https://x.org/">link</a><img src="a.png"><link rel="canonical" href="https://x.org/">', 0),
        ('<img src="https://x.org/a.png">', 1),
        ('<img srcset="a.png 1x, //x.org/b.png 2x">', 1),
        ('<link rel="stylesheet" href="//x.org/a.css"><link rel="preconnect" href="https://x.org">', 2),
        ('<script src="HTTP://x.org/a.js"></script><iframe src="https://x.org"></iframe>', 2),
        ("<style>@import 'https://x.org/a.css'; b { background: url(//x.org/b.png) }</style>", 2),
        ('<p style="background: url(https://x.org/a.png)">url(https://x.org/in.text)</p>', 1),
        ('<pre class="mermaid"></pre>', 1),
    ],
)
def test_what_a_page_loads_from_elsewhere_is_found(page: str, loads: int) -> None:
    assert len(pages.loaded_from_outside(page)) == loads


def test_the_notebook_is_kept_without_what_its_cells_gave() -> None:
    cells = json.loads((DOCS / pages.NOTEBOOK).read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 8
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    links = pages.LINK.findall(pages.notebook_page({"cells": cells}))
    assert links
    assert not [link for link in links if not (DOCS / link).is_file()]


@pytest.mark.prove
def test_the_notebook_runs_and_shows_what_it_says(tmp_path: Path) -> None:
    page = pages.notebook_page(pages.executed(tmp_path))
    assert (tmp_path / "runs" / "tour" / "report.html").is_file()
    assert "- an exact repeat of another                80" in page
    assert 'src="data:image/png;base64,' in page
    assert page.count("\nBelford is a town on the ") == 2
    bits = dict(re.findall(r"^\| ([a-z ]+) \| (\d\.\d{3}) \|$", page, re.MULTILINE))
    assert float(bits["model"]) < float(bits["xz primed"]) < float(bits["xz"])


def _said(node: ast.AST) -> str | None:
    """A string of the source, with `...` for what varies in it."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def test_the_program_says_each_message_that_the_page_on_trouble_has() -> None:
    shown = re.findall(r"\*\*`([^`]+)`\*\*", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"))
    lost = set(shown)
    for path in sorted((ROOT / "src").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        # Parsing all of it takes seconds; a file is parsed that has the beginning of a message's longest part.
        if any(max(message.split("..."), key=len)[:16] in source for message in lost):
            said = "\n".join(text for node in ast.walk(ast.parse(source)) if (text := _said(node)))
            lost -= {message for message in lost if message in said}
    assert len(shown) > 30
    assert not lost


def test_the_glossary_is_in_order_and_says_where_each_term_is_met() -> None:
    rows = re.findall(
        r"^\| (.+?) \| (.+) \| (.+) \|$", (DOCS / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    terms = [term.rstrip("*").lower() for term, _, _ in rows[1:]]
    assert len(terms) > 40
    assert terms == sorted(set(terms))
    assert all("](" in where for _, _, where in rows[1:])
