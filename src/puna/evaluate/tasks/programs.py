"""Section 3.5, Table 8: HumanEval and MBPP.

What a model writes is a program, and whether it passes its tests is known when it ran. This pack runs none: a task here
`needs` programs to be judged from outside of it, and is refused where nobody does (run.py). `program` is what is run of
one sample, and its tests; `pass_at` turns numbers of passed samples into the unbiased estimate of Chen et al. (2021).
"""

from __future__ import annotations

import ast
import builtins
import re
import symtable
from collections.abc import Callable

from puna.errors import InputError
from puna.evaluate.sandbox import Program
from puna.evaluate.task import Answer, Asked, Norm, Prompt, Task
from puna.testsets import Item

TOKENS = 512
SAMPLES = 200  # of a program, for the estimate at 1 as well as at 80 and 100
COLD, WARM = 0.1, 0.8
TOP_LEVEL = ("\nclass ", "\ndef ", "\n#", "\nif ", "\nprint(", "\n@", "\nassert ")
UNBIASED = f"Unbiased estimate of Chen et al. from samples ({SAMPLES} unless told otherwise) of at most {TOKENS} tokens"


def humaneval(temperature: float) -> Callable[[Item, str], Prompt]:
    def asked(item: Item, shown: str) -> Prompt:
        return Prompt(shown + item.question, TOP_LEVEL, TOKENS, SAMPLES, temperature, 0.95)

    return asked


def mbpp(temperature: float) -> Callable[[Item, str], Prompt]:
    def asked(item: Item, shown: str) -> Prompt:
        return Prompt(f"{shown}{described(item)}[BEGIN]\n", ("[DONE]",), TOKENS, SAMPLES, temperature, 0.95)

    return asked


def described(item: Item) -> str:
    tests = "\n".join(item.extra["tests"])
    return f"{item.question}\nThe program should pass these tests:\n\n{tests}\n"


def mbpp_example(item: Item) -> str:
    return f"{described(item)}[BEGIN]\n{item.extra['solution']}\n[DONE]"


def program(item: Item, made: str) -> Program:
    """One sample, and the tests that it passes when they end without an error. InputError for tests that are no Python.

    HumanEval's tests may use what its prompt defines before the function that is wanted, so that stands before them, as
    the prompt has it. Before MBPP's stand what its reference imports for them, and the setup of tasks 367 and 927."""
    try:
        if item.benchmark == "humaneval":
            entry = item.extra["entry_point"]
            found = re.search(rf"^(?:def|async def|class) {re.escape(entry)}\b", item.question, re.MULTILINE)
            lead = item.question[: found.start()] if found else ""
            tests = f"{item.extra['test']}\n\ncheck({entry})\n"
            return Program(item.question + made, tests, lead, _of_solution(tests, lead, {entry}))
        tests = "\n".join([item.extra["setup"], *item.extra["tests"], ""])
        reference, used = ast.parse(item.extra["solution"]).body, _names(tests)[0]
        imports: list[ast.stmt] = [node for node in reference if _imported(node) & used]
        defined = {node.name for node in reference if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        lead = ast.unparse(ast.Module(imports, []))
        return Program(made, tests, lead, _of_solution(tests, lead, defined))
    except (SyntaxError, ValueError) as error:
        where = f"{item.benchmark} {item.id}"
        raise InputError(f"its tests are no Python ({error})", where=where, mend="take the file as published") from None


def _of_solution(tests: str, lead: str, defined: set[str]) -> tuple[str, ...]:
    """The names that tests use of a solution: what a right one defines, even by a builtin's name (MBPP's task 126 wants
    a `sum`), and whatever else neither they, nor what stands before them, nor Python has."""
    used, own = _names(tests)
    missing = used - own - _names(lead)[1]
    return tuple(sorted(name for name in missing if name in defined or not hasattr(builtins, name)))


def _names(source: str) -> tuple[set[str], set[str]]:
    """The global names that a program uses, and those that it defines."""
    top = symtable.symtable(source, "tests", "exec")
    own = {each.get_name() for each in top.get_symbols() if each.is_assigned() or each.is_imported()}
    used, tables = set[str](), [top]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        used |= {each.get_name() for each in table.get_symbols() if table is top or each.is_global()}
    return used, own


def _imported(node: ast.stmt) -> set[str]:
    names = node.names if isinstance(node, ast.Import | ast.ImportFrom) else []
    return {each.asname or each.name.partition(".")[0] for each in names}


def pass_at(k: int, samples: int, passed: int) -> float:
    """The chance that one of k samples passes, without bias, from how many of `samples` did:
    1 - C(n - c, k) / C(n, k)."""
    if not 0 < k <= samples:
        raise InputError(f"pass@{k} cannot be told from {samples} samples", mend=f"make {k} or more of each program")
    failing = 1.0
    for index in range(passed):
        failing *= max(0, samples - k - index) / (samples - index)
    return 1.0 - failing


def unjudged(item: Item, asked: Asked, answer: Answer, norm: Norm) -> dict[str, float]:
    raise InputError(f"{item.benchmark} needs programs to be run", mend="leave it out")


def _task(name: str, benchmark: str, title: str, k: int, temperature: float) -> Task:
    shown = benchmark == "mbpp"
    return Task(
        name, 1, benchmark, f"{title}@{k}", f"pass@{k} at temperature {temperature:g}"
        + ("; description and tests, three examples." if shown else "; signature and docstring, zero-shot."),
        f"{UNBIASED}, top-p 0.95; " + ("the examples are tasks 2 to 4 of the release." if shown else
        "a sample ends where the text leaves the function."),
        (mbpp if shown else humaneval)(temperature), unjudged, (3,) if shown else (0,), metric=f"pass@{k}",
        example=mbpp_example if shown else None, pool=lambda item: item.split == "prompt" and item.id != "1",
        drawn=False, samples=SAMPLES, least=k, needs="programs",
    )  # fmt: skip


TASKS = (
    _task("humaneval", "humaneval", "HumanEval", 1, COLD),
    _task("humaneval_100", "humaneval", "HumanEval", 100, WARM),
    _task("mbpp", "mbpp", "MBPP", 1, COLD),
    _task("mbpp_80", "mbpp", "MBPP", 80, WARM),
)
