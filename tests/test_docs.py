"""The documents are true where a machine can tell: what they name exists, and nothing names one machine."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from puna import recipe
from puna.data.wiki.dump import MAX_GAP, MAX_PAGE

ROOT = Path(__file__).parents[1]
HOUSE = ROOT / "src" / "puna"
MAPS = ["docs/paper.md", "docs/run-folder.md"]

MODULE = re.compile(r"`([\w./-]+\.py|recipes/[\w.-]+\.toml)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)[^)]*\)")
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)

# Where packages are fetched from is pip's business, and a folder of one machine is nobody else's.
FOREIGN = {
    "a package host": re.compile(r"pypi\.|pythonhosted\.|download\.pytorch\.|anaconda\.|(extra-)?index[-]url\b"),
    "a path of one machine": re.compile(
        r"(?<![\w.:/}*-])/(home|root|tmp|work|Users|mnt|opt|srv|data|media)/\w|[A-Z]:\\\w"
    ),
}


@cache
def _tracked() -> tuple[Path, ...]:
    """The project's files: tracked ones, and new ones that no rule ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git clone: which files belong to the project cannot be told")
    paths = (ROOT / name for name in done.stdout.decode().split("\0") if name)
    return tuple(path for path in paths if path.is_file())


def _text(path: Path) -> str | None:
    data = path.read_bytes()
    return None if b"\0" in data else data.decode("utf-8")


def _anchors(path: Path) -> set[str]:
    """What a link may point to within a Markdown file, as its readers spell it."""
    headings = HEADING.findall(FENCED.sub("", path.read_text("utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", MAPS)
def test_every_module_and_test_that_a_document_names_exists(name: str) -> None:
    named = set(MODULE.findall((ROOT / name).read_text("utf-8")))
    lost = [
        each for each in sorted(named) if not any((base / each).is_file() for base in (HOUSE, ROOT / "tests", ROOT))
    ]
    assert named
    assert not lost, f"{name} names what is not there"


def test_the_map_has_a_row_for_every_section_table_and_figure_of_the_paper() -> None:
    rows = re.findall(r"^\| (\w[\w.]*) ?", (ROOT / "docs" / "paper.md").read_text("utf-8"), re.MULTILINE)
    sections = ["1", "2.1", "2.2", "2.3", "2.4", "3", *(f"3.{n}" for n in range(1, 8)), "4"]
    sections += [*(f"5.{n}" for n in range(1, 5)), "6", "7", "A", "B", "C", "D"]
    tables, figures = [str(n) for n in range(1, 17)], ["1", "2", "3"]
    for number in {*sections, *tables, *figures}:
        needed = sum(number in group for group in (sections, tables, figures))
        assert rows.count(number) >= needed, f"{number} is missing"


def test_every_relative_link_resolves() -> None:
    lost = []
    for path in _tracked():
        if path.suffix != ".md":
            continue
        for link in LINK.findall(FENCED.sub("", path.read_text("utf-8"))):
            if re.match(r"[a-z][a-z0-9+.-]*:", link):
                continue
            file, _, anchor = link.partition("#")
            target = path.parent / file if file else path
            if not target.exists() or (anchor and anchor not in _anchors(target)):
                lost.append(f"{path.relative_to(ROOT)}: {link}")
    assert not lost


def test_every_page_can_be_reached_from_readme() -> None:
    reached, waiting = set(), {ROOT / "README.md"}
    while waiting:
        page = waiting.pop()
        reached.add(page)
        links = (link.partition("#")[0] for link in LINK.findall(FENCED.sub("", page.read_text("utf-8"))))
        beside = {(page.parent / link).resolve() for link in links if link.endswith(".md") and "://" not in link}
        waiting |= beside - reached
    pages = {path for path in _tracked() if path.suffix == ".md" and path.parent in (ROOT, ROOT / "docs")}
    assert not {str(path.relative_to(ROOT)) for path in pages - reached}


def test_the_numbers_of_the_page_on_recipes_are_what_the_recipes_give() -> None:
    said = " ".join((ROOT / "docs" / "recipe.md").read_text("utf-8").split())
    small, large = recipe.load("llama-7b"), recipe.load("llama-65b")
    assert f"4M tokens are {recipe.batch_windows(small):,} windows of {small.train.context:,}" in said
    assert f"1T tokens are {recipe.steps(small):,} steps" in said
    assert f"at {small.tokenizer.pieces:,} pieces ({small.model.parameters(small.tokenizer.pieces):,} for 7B" in said
    assert f"{large.model.parameters(large.tokenizer.pieces):,} for 65B" in said


def test_the_limits_that_security_names_are_those_of_the_readers() -> None:
    said = " ".join((ROOT / "SECURITY.md").read_text("utf-8").split())
    assert f"A page of more than {MAX_PAGE // 10**6} MB, {MAX_GAP // 10**6} MB without a page" in said


@pytest.mark.parametrize("kind", FOREIGN)
def test_no_file_names(kind: str) -> None:
    found = []
    for path in _tracked():
        text = _text(path)
        for number, line in enumerate((text or "").splitlines(), start=1):
            if FOREIGN[kind].search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not found, f"{kind} is named"


def test_no_document_has_a_gap_to_be_filled() -> None:
    gaps = [
        str(path) for path in _tracked() if path.suffix == ".md" and "{{" in FENCED.sub("", path.read_text("utf-8"))
    ]
    assert not gaps
