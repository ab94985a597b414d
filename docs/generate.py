"""Write the parts of the documents that are made from the code: recipe keys, limits, tasks, modules, claims.

    python docs/generate.py [--check]

Each stands between `<!-- NAME -->` and `<!-- end of NAME -->` and is replaced whole; commands.py makes the pages of
docs/commands. `--check` changes nothing and ends with status 1 when a part is not what the code says. The
purpose of a module in the tree is how its docstring begins.
"""

from __future__ import annotations

import argparse
import ast
import datetime
import functools
import itertools
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import commands

from puna import recipe
from puna.evaluate.published import FILES, publisher
from puna.evaluate.tasks import PACK
from puna.paper.ledger import Claim, ledger
from puna.paper.screen import Account
from puna.serve.limits import Limits

ROOT = Path(__file__).parents[1]
HOUSE = ROOT / "src" / "puna"
PAGES = ROOT / "docs" / "commands"
PURPOSE = 76  # characters of a purpose at most; a longer sentence is cut where a clause ends
TERSE = 30  # characters of which too little is left to tell anything; it is then cut at a word instead
BESIDE = {
    "tests/": "named for the promises they keep; `make prove` runs the slow ones",
    "benchmarks/": "the commands that print the numbers of this page",
    "docs/": "this page's longer parts; `docs/generate.py` makes what follows from the code",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; status 1 when a part is stale")
    check = parser.parse_args().check
    stale = False
    for file, name, make in PARTS:
        path = ROOT / file
        text = path.read_text(encoding="utf-8")
        new = replaced(text, name, make())
        if new != text:
            stale = True
            print(f"{file}: {name} {'is stale; python docs/generate.py' if check else 'written'}")
        if not check:
            path.write_text(new, encoding="utf-8")
    for name, text in stale_pages().items():
        stale = True
        print(f"docs/commands/{name} {'is stale; python docs/generate.py' if check else 'written'}")
        if not check:
            write_page(name, text)
    sys.exit(1 if check and stale else 0)


def stale_pages() -> dict[str, str | None]:
    """Pages of docs/commands that are not what the commands say, with what they should be; None: removed."""
    made = commands.pages()
    there = {path.name: path.read_text(encoding="utf-8") for path in PAGES.glob("*.md")}
    return {name: made.get(name) for name in sorted(made.keys() | there) if made.get(name) != there.get(name)}


def write_page(name: str, text: str | None) -> None:
    PAGES.mkdir(exist_ok=True)
    if text is None:
        (PAGES / name).unlink()
    else:
        (PAGES / name).write_text(text, encoding="utf-8")


def replaced(text: str, name: str, made: str) -> str:
    """`text` with what stands between the marks of `name` replaced by `made`, which ends with a newline."""
    head, begin, rest = text.partition(f"<!-- {name} -->\n")
    _, end, tail = rest.partition(f"<!-- end of {name} -->")
    if not end:
        sys.exit(f"<!-- {name} --> and <!-- end of {name} --> do not both stand in the document")
    return head + begin + made + end + tail


def tree() -> str:
    """The modules and folders of the package with a purpose a line, in the order in which they may import."""
    entries = {
        path.name: path
        for path in HOUSE.iterdir()
        if path.suffix == ".py" and path.name not in ("__init__.py", "__main__.py")
    }
    parts = [entries.pop(name) for name in sorted(entries) if name.startswith("recipe_")]
    entries |= {f"{path.parent.name}/": path for path in HOUSE.glob("*/__init__.py")}
    order = house_order()
    names = sorted(entries, key=lambda name: (order.index(stem) if (stem := _stem(name)) in order else -1, name))
    lines = [f"  {name:18} {purpose(entries[name])}" for name in names]
    after = next(place for place, name in enumerate(names) if name == "recipe.py") + 1
    said = ", ".join(path.stem.removeprefix("recipe_") for path in parts)
    lines.insert(after, f"  {'recipe_*.py':18} Its parts: {said}")
    by_size = sorted(recipe.names(), key=_with_numbers)
    held = textwrap.shorten(", ".join(by_size), PURPOSE, placeholder=" ...")
    lines.append(f"  {'recipes/':18} {held}")
    lines += [f"{name:20} {what}" for name, what in BESIDE.items()]
    return "\n".join(["```", "src/puna/", *lines, "```", ""])


def limits() -> str:
    """Each limit of the server with its number and what stands under it."""
    module = ast.parse((HOUSE / "serve" / "limits.py").read_text(encoding="utf-8"))
    record = next(node for node in module.body if isinstance(node, ast.ClassDef))
    lines = ["| limit | number | of what, and the answer beyond it |", "|---|---|---|"]
    for field, told in itertools.pairwise(record.body):
        if isinstance(field, ast.AnnAssign) and isinstance(told, ast.Expr):
            value = getattr(Limits(), ast.unparse(field.target))
            lines.append(f"| `{ast.unparse(field.target)}` | {value:,.10g} | {ast.literal_eval(told.value)} |")
    return "\n".join([*lines, ""])


def tasks() -> str:
    """Each task of the pack: what the paper tells of it, what was chosen here, and where its files are published."""
    lines = []
    for name, task in PACK.items():
        shots = ", ".join(map(str, task.shots))
        norm = f"ranked by `{task.norm}`; " if len(task.norms) > 1 else ""
        lines += [
            f"**`{name}`**, {task.title}, version {task.version}: {shots}-shot; {norm}{task.metric}; "
            f"`{FILES[task.benchmark].measured}` of {publisher(task.benchmark)}",
            f"- paper: {task.paper}",
            f"- here: {task.ours}",
            "",
        ]
    return "\n".join(lines)


def paper_sections() -> str:
    return _claims("section", [name for name in ledger().titles if not name.startswith(("Table", "Figure"))])


def paper_tables() -> str:
    return _claims("table", [name for name in ledger().titles if name.startswith("Table")])


def paper_figures() -> str:
    return _claims("figure", [name for name in ledger().titles if name.startswith("Figure")])


def not_shown(*statuses: str) -> str:
    """The claims of these statuses, each with what it lacks or would need."""
    account = _account()
    lines = []
    for claim in account.claims:
        if claim.status in statuses:
            told = [claim.claim, claim.note, f"plan: {plan}" if (plan := account.estimate(claim)) else ""]
            lines.append(f"- **{claim.section}** {'; '.join(filter(None, told))}")
    return "\n".join([*lines, ""])


def _claims(kind: str, sections: Sequence[str]) -> str:
    """A table of the claims of these sections. A figure's date stands there, not its age: a page has no today."""
    account = _account()
    lines = [f"| {kind} | what the paper says | here | figure | module | test |", "|---|---|---|---|---|---|"]
    for claim in ledger().of(sections):
        number = claim.section.removeprefix("Table ").removeprefix("Figure ")
        docs = f" ([{claim.docs.partition('#')[0]}]({claim.docs}))" if claim.docs else ""
        modules = ", ".join(f"`{module}`" for module in claim.module)
        tests = ", ".join(dict.fromkeys(f"`{test.partition('::')[0]}`" for test in claim.test))
        cells = (number, claim.claim + docs, claim.status, _figure(account, claim), modules, tests)
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join([*lines, ""])


def _figure(account: Account, claim: Claim) -> str:
    told = [account.figure(claim), f"paper: {claim.paper}" if claim.paper else ""]
    told += [f"plan: {plan}" if (plan := account.estimate(claim)) else "", claim.note]
    if source := account.source(claim):
        told.append(f"{source.name}, {source.date.isoformat()}")
    return "; ".join(filter(None, told))


def paper_results() -> str:
    lines = ["| result | command | machine | date | commit |", "|---|---|---|---|---|"]
    for name, result in _account().results.items():
        cells = (name, f"`{result.command}`", result.on(), result.date.isoformat(), result.commit[:10])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _account() -> Account:
    return Account(ledger(), ledger().claims, datetime.date.min)


def purpose(path: Path) -> str:
    """The first sentence of a module's docstring, without asides; of a long one the clauses that fit."""
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    sentence = re.split(r"\.(?:\s|$)", " ".join(said.split("\n\n")[0].split()))[0]
    sentence = re.sub(r" \([^)]*\)", "", sentence)
    short = sentence
    while len(short) > PURPOSE and re.search(r"[,:;] ", short):
        short = re.sub(r"[,:;] [^,:;]*$", "", short)
    return (
        short if len(short) > min(TERSE, len(sentence) - 1) else textwrap.shorten(sentence, PURPOSE, placeholder=" ...")
    )


def house_order() -> list[str]:
    """ORDER of tests/test_house.py: the stations from top to bottom."""
    module = ast.parse((ROOT / "tests" / "test_house.py").read_text(encoding="utf-8"))
    for node in module.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ORDER":
            return list(ast.literal_eval(node.value))
    sys.exit("tests/test_house.py has no ORDER")


def _with_numbers(name: str) -> list[int | str]:
    """A key by which llama-7b comes before llama-13b."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _stem(name: str) -> str:
    return name.removesuffix("/").removesuffix(".py")


PARTS: list[tuple[str, str, Callable[[], str]]] = [
    ("README.md", "tree", tree),
    ("docs/recipe.md", "keys", recipe.key_table),
    ("docs/serve.md", "limits", limits),
    ("docs/evaluate.md", "tasks", tasks),
    ("docs/paper.md", "sections", paper_sections),
    ("docs/paper.md", "tables", paper_tables),
    ("docs/paper.md", "figures", paper_figures),
    ("docs/paper.md", "results", paper_results),
    ("docs/not-shown.md", "cluster", functools.partial(not_shown, "needs a cluster")),
    ("docs/not-shown.md", "others", functools.partial(not_shown, "needs others")),
    ("docs/not-shown.md", "small", functools.partial(not_shown, "shown small")),
]

if __name__ == "__main__":
    main()
