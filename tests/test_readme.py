"""README's first minute is true: its picture, numbers, tree and citation say what the code and a run say."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest

import puna
from puna import recipe
from puna.last_screen import NAMES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PICTURES = sorted((ROOT / "docs" / "pictures").glob("*.svg"))
NAMES_OF_PICTURES = ("laptop", "laptop-15m", "scale", "scale-time")
SVG = "{http://www.w3.org/2000/svg}"

HELDOUT: dict[str, Any] = {
    "bits_per_byte": {
        "wikipedia": {"model": 2.0, "ngram": 2.5, "xz": 3.0, "uniform": 4.0},
        "a & b": {"model": 2.0, "ngram": 1.5, "zstd_primed": 1.25},
        "all": {"model": 2.0},
    },
    "documents": {"wikipedia": 3, "a & b": 1},
    "bytes": {"wikipedia": 3000, "a & b": 12},
}
STEPS = [{"tokens": 8192.0 * step, "loss": 8.0 / step} for step in range(1, 400)]

AUTHORS = [
    "Touvron", "Lavril", "Izacard", "Martinet", "Lachaux", "Lacroix", "Rozière", "Goyal", "Hambro", "Azhar",
    "Rodriguez", "Joulin", "Grave", "Lample",
]  # fmt: skip


def _script(path: str) -> ModuleType:
    """A script of the project as a module: its folder is no package."""
    spec = util.spec_from_file_location(Path(path).stem + "_script", ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    sys.path.insert(0, str((ROOT / path).parent))  # as Python does for a script
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module


@pytest.fixture(scope="module")
def picture() -> ModuleType:
    return _script("benchmarks/picture.py")


def _texts(svg: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def _table(after: str) -> list[list[str]]:
    """The cells of the first table behind a heading of README."""
    lines = README.partition(f"## {after}\n")[2].splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_a_visitor_sees_the_sentence_the_picture_and_the_two_lines_first() -> None:
    places = [
        README.index(text) for text in ("one command", "<picture>", "make run ", "make test ", "## What comes out")
    ]
    assert places == sorted(places)
    assert README[: places[-1]].count("\n") < 35
    assert README.count("\n") <= 175


def test_pictures_are_small_whole_in_themselves_and_for_light_and_dark_pages() -> None:
    shown = {path.stem: _texts(path.read_text(encoding="utf-8")) for path in PICTURES}
    assert shown.keys() == {f"{name}-{theme}" for name in NAMES_OF_PICTURES for theme in ("dark", "light")}
    assert all(shown[f"{name}-dark"] == shown[f"{name}-light"] for name in NAMES_OF_PICTURES)
    pages = [(ROOT / "docs" / page).read_text(encoding="utf-8") for page in ("laptop-15m.md", "scale.md")]
    for path in PICTURES:
        assert path.stat().st_size < 60_000
        assert f"docs/pictures/{path.name}" in README or any(f"pictures/{path.name}" in page for page in pages)
        assert not re.search(r"<script|href|url\(|@import", path.read_text(encoding="utf-8"))


def test_the_table_of_results_holds_the_numbers_of_the_picture() -> None:
    head, _, *rows = _table("What comes out, and how good it is")
    shown = _texts((ROOT / "docs/pictures/laptop-dark.svg").read_text(encoding="utf-8"))
    assert head[1:] == [NAMES[name] for name in ("model", "ngram", "xz", "xz_primed", "zstd", "zstd_primed")]
    for row in rows:
        bars = shown[shown.index(row[0]) + 2 :][: 2 * len(row[1:])]
        assert {text.strip("*") for text in row[1:]} == set(bars[1::2]), row[0]
        assert dict(zip(head[1:], (text.strip("*") for text in row[1:]), strict=True)) == dict(
            zip(bars[::2], bars[1::2], strict=True)
        )
        best = min(row[1:], key=lambda text: float(text.strip("*")))
        assert [text for text in row[1:] if text.startswith("**")] == [best]
    ranks = [sorted(float(text.strip("*")) for text in row[1:]).index(float(row[1].strip("*"))) for row in rows]
    words = ("first", "second", "third", "fourth", "fifth", "sixth")
    alt = " ".join(re.findall(r'alt="([^"]*)"', README)[0].split())
    assert f"{words[ranks[0]]} of six on Wikipedia and {words[ranks[1]]} of six on Python code" in alt


def test_the_same_run_gives_the_same_picture_and_a_row_for_every_source(picture: ModuleType) -> None:
    drawn = {theme: picture.draw(HELDOUT, STEPS, "1M", colours) for theme, colours in picture.THEMES.items()}
    assert drawn == {theme: picture.draw(HELDOUT, STEPS, "1M", colours) for theme, colours in picture.THEMES.items()}
    texts = _texts(drawn["light"])
    assert {"Wikipedia", "a & b", "2.000", "1.250", "this model", "3.27M tokens in 399 steps"} <= {
        text.rpartition(", ")[2] for text in texts
    }
    bars = texts[texts.index("a & b") + 2 :]
    assert bars[:6] == ["zstd primed", "1.250", "5-gram", "1.500", "this model", "2.000"]
    assert picture.table(HELDOUT)[2:] == [
        "| Wikipedia | **2.000** | 2.500 | 3.000 |  |  |  |",
        "| a & b | 2.000 | 1.500 |  |  |  | **1.250** |",
    ]
    assert picture.figures(HELDOUT)["heldout_wikipedia"]["ratio"]["xz"]["median"] == pytest.approx(2 / 3)


def test_what_readme_says_of_the_recipe_is_what_the_recipe_says() -> None:
    laptop = recipe.load("laptop")
    said = " ".join(README.split())
    assert laptop.train.tokens is not None
    assert f"tokenizer of {laptop.tokenizer.pieces:,} pieces" in said
    assert f"LLaMA of {laptop.model.parameters(laptop.tokenizer.pieces) / 1e6:.1f} million parameters" in said
    assert f"trained on {laptop.train.tokens / 1e6:.1f} million tokens" in said
    assert f"it sees {laptop.train.context} tokens at once" in said
    paper = recipe.load("llama-7b").train.tokens
    assert paper is not None
    assert laptop.train.tokens * 100_000 < paper
    assert list(laptop.sources.github.licences) == ["MIT", "BSD", "Apache"] if laptop.sources.github else False
    assert len([name for name, _ in recipe.load("llama-65b").sources.items()]) == 7


def test_what_an_installation_costs_is_said_alike_everywhere() -> None:
    cost = re.compile(r"about (\d+) MB with the CPU build of torch[;,] (?:or )?about (\d+) GB with the CUDA build")
    readme = cost.search(" ".join(README.split()))
    makefile = cost.search((ROOT / "Makefile").read_text(encoding="utf-8"))
    assert readme is not None
    assert makefile is not None
    assert readme.groups() == makefile.groups()


def test_what_is_made_from_the_code_is_current() -> None:
    generate = _script("docs/generate.py")
    for file, name, make in generate.PARTS:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert generate.replaced(text, name, make()) == text, f"{file}: {name} is stale: python docs/generate.py"


def test_the_tree_names_every_module_and_folder_of_the_package() -> None:
    house = ROOT / "src" / "puna"
    there = {path.name for path in house.glob("*.py")} - {"__init__.py", "__main__.py"}
    parts = {name for name in there if name.startswith("recipe_")}
    there = (there - parts) | {"recipe_*.py"}
    there |= {f"{path.name}/" for path in house.iterdir() if path.is_dir() and path.name != "__pycache__"}
    block = README.partition("<!-- tree -->")[2].partition("<!-- end of tree -->")[0]
    lines = re.findall(r"^  (\S+) +(\S.*)$", block, re.MULTILINE)
    assert {name for name, _ in lines} == there
    assert dict(lines)["recipe_*.py"] == f"Its parts: {', '.join(sorted(name[7:-3] for name in parts))}"
    assert [name for name, _ in lines] == list(dict(lines))


def test_every_neighbour_of_readme_has_its_document_named() -> None:
    address = re.compile(r"\]\((https://github\.com/[^)]*)\)")
    beside = {link for row in _table("Beside its neighbours") for cell in row for link in address.findall(cell)}
    rows = (ROOT / "docs" / "neighbours.md").read_text(encoding="utf-8").splitlines()
    told = {link: row for row in rows if row.startswith("| [") for link in address.findall(row)}
    assert len(beside) > 8
    assert beside == set(told)
    for link, row in told.items():
        assert re.search(r"`[\w/.-]+\.(md|rst)`", row.strip("| ").split(" | ")[-1]), link


def test_the_citation_is_whole_and_of_this_version() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    top = dict(re.findall(r"^([\w-]+): *(.*)$", text, re.MULTILINE))
    assert top.keys() >= {"cff-version", "message", "title", "authors", "version", "license", "references"}
    assert (top["cff-version"], top["type"], top["version"]) == ("1.2.0", "software", puna.__version__)
    assert re.findall(r"family-names: (\S+)", text) == AUTHORS
    assert len(re.findall(r"given-names: \S+", text)) == len(AUTHORS)
    yaml = pytest.importorskip("yaml")
    read = yaml.safe_load(text)
    assert read["authors"] == [{"name": "The Puna authors"}]
    assert [author["family-names"] for author in read["references"][0]["authors"]] == AUTHORS
    assert read["references"][0]["doi"] == "10.48550/arXiv.2302.13971"


@pytest.mark.parametrize("path", sorted(ROOT.glob("benchmarks/*.py")), ids=lambda path: path.stem)
def test_a_command_of_the_benchmarks_starts(path: Path) -> None:
    if "ArgumentParser(" not in path.read_text(encoding="utf-8"):
        return
    done = subprocess.run([sys.executable, str(path), "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
