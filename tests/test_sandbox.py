"""Programs of a model in their cage: what is right passes, what is wrong fails, what is hostile harms nothing."""

from __future__ import annotations

import ast
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from puna import testsets
from puna.doctor import isolation
from puna.errors import InputError, PunaError
from puna.evaluate import sandbox
from puna.evaluate.outside import programs
from puna.evaluate.sandbox import Limits, Program, running, seccomp
from puna.evaluate.task import Prompt
from puna.evaluate.tasks.programs import program as program_of
from puna.testsets import Item

SHORT = Limits(seconds=0.75, memory=256 << 20, files=1 << 20, output=200_000)

pytestmark = pytest.mark.skipif(bool(sandbox.isolation()), reason=f"no cage here: {sandbox.isolation()}")


def test_what_is_right_passes_and_what_is_wrong_says_why() -> None:
    tests = "assert f(3) == 6, 'three times'"
    assert sandbox.judge(Program("def f(x):\n    return 2 * x", tests, names=("f",))).passed
    failed = sandbox.judge(Program("def f(x):\n    return 3 * x", tests, names=("f",)))
    assert (failed.passed, failed.kind, failed.why) == (False, "error", "AssertionError: three times")
    assert "SyntaxError" in sandbox.judge(Program("def f(:")).why
    annotated = sandbox.judge(Program("def f(x: Undefined):\n    return 6", tests, names=("f",)))
    assert sys.version_info >= (3, 14) or annotated.why == "NameError: name 'Undefined' is not defined"


@pytest.mark.parametrize(
    "program",
    [
        "import math, re, heapq, itertools, collections, hashlib, decimal, fractions, random, string, datetime",
        "import threading\nt = threading.Thread(target=list); t.start(); t.join()",
        "open('mine.txt', 'w').write('x')\nassert open('/scratch/mine.txt').read() == 'x'",
        "import tempfile\nassert tempfile.TemporaryFile().write(b'x') == 1",
        "x = [0] * 1_000_000",
        "print('much ' * 10_000)",
        "def f(n):\n    return n and 1 + f(n - 1)\nassert f(900) == 900",
        "x = 'line one\\u2028 caf\\u00e9 \\U0001f600'\nassert len(x) == 16",
        "if __name__ == '__main__':\n    input()\nimport dataclasses\n@dataclasses.dataclass\nclass Pair:\n    a: int",
    ],
)
def test_what_solutions_need_is_there(program: str) -> None:
    assert sandbox.judge(Program(program)) == sandbox.Verdict(True)


# "### name", then a program that must not pass; those that define `answer` are asked for it
HOSTILE = dict(
    part.split("\n", 1) for part in Path(__file__).with_name("hostile_programs.txt").read_text().split("### ")[1:]
)


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A folder and a listening port that no program may reach."""
    folder = tmp_path_factory.mktemp("outside")
    folder.chmod(0o777)
    (folder / "secret").write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield folder, server.getsockname()[1]


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_hostile_fails_and_harms_nothing(
    name: str, outside: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, port = outside
    monkeypatch.setenv("SECRET_OF_TESTS", "1")
    text = HOSTILE[name].replace("OUTSIDE", str(folder)).replace("PORT", str(port)).replace("PARENT", str(os.getpid()))
    verdict = sandbox.judge(_asked(text), SHORT)
    assert not verdict.passed, verdict
    assert len(verdict.why) < 1000
    assert [path.name for path in folder.iterdir()] == ["secret"]
    _until(lambda: not _left())


def test_a_program_has_time_of_a_processor_and_more_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what passes hangs little on what else a machine does."""
    monkeypatch.setattr(running, "PATIENCE", 1_000_000)
    little = replace(SHORT, seconds=0.1)
    assert sandbox.judge(Program("import time\ntime.sleep(0.3)"), little).passed
    assert sandbox.judge(Program("while True: pass"), little).kind == "ended"


def test_what_signals_its_tests_does_not_stop_them() -> None:
    signals = "import os\nfor number in range(1, 65):\n    os.kill(1, number)\n    os.kill(os.getppid(), number)\n"
    assert sandbox.judge(_asked(signals + "def answer(x):\n    return 7 * x"), SHORT).passed


def test_a_solution_holds_no_file_but_output_an_empty_input_and_its_own_two() -> None:
    holds = "import os\nheld = []\nfor number in range(64):\n    try: held.append(os.fstat(number))\n"
    holds += "    except OSError: pass\nassert len(held) == 5 and os.read(0, 1) == b''"
    assert sandbox.judge(Program(holds)) == sandbox.Verdict(True)


def test_nobody_may_look_into_the_tests() -> None:
    assert sandbox.judge(Program("", "import ctypes\nassert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0")).passed


def test_the_same_cage_stands_without_an_administrator() -> None:
    """As most people run it; the tests may run as root, who makes namespaces another way."""
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        pytest.skip("nobody to become, or no unshare(1)")
    asks = "from puna.evaluate import sandbox\nprint(sandbox.judge(sandbox.Program('assert 1')).passed, "
    asks += "sandbox.judge(sandbox.Program(PROGRAM)).why)"
    program = "import os; raise ValueError(os.getuid(), sorted(os.listdir('/')), os.listdir('/scratch'))"
    source = asks.replace("PROGRAM", repr(program))
    command = [unshare, "--user", "--map-user=1000", "--map-group=1000", sys.executable, "-c", source]
    found = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": _source()})
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("True ValueError: (65534, ["), found.stdout
    assert "'scratch'" in found.stdout
    assert "'etc'" not in found.stdout


def test_where_there_is_no_cage_nothing_runs_and_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seccomp, "filtered", lambda: None)
    sandbox.isolation.cache_clear()
    try:
        with pytest.raises(running.NoCage):
            sandbox.judge(Program("assert True"))
        with pytest.raises(InputError, match="programs of a model cannot be isolated: the numbers of system calls"):
            sandbox.demand("--allow-code")
    finally:
        sandbox.isolation.cache_clear()


@pytest.mark.parametrize(
    ("why", "mend"),
    [
        ("leaving the namespaces: Operation not permitted", "sysctl"),
        ("leaving the namespaces: No space left on device", "max_user_namespaces"),
        ("/lib: Function not implemented", "Linux 5.12"),
        ("namespaces are Linux's, and this is Darwin", "another Linux machine"),
    ],
)
def test_doctor_says_why_not_and_what_to_do(why: str, mend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isolation.isolated()[0].state == "ok"
    monkeypatch.setattr(sandbox, "isolation", lambda: why)
    (finding,) = isolation.isolated()
    assert (finding.state, why in finding.what, mend in finding.mend) == ("note", True, True)


def test_a_cage_that_cannot_be_made_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_seen", lambda: (["/no such folder"], {}))
    with pytest.raises(running.NoCage, match="/no such folder: No such file or directory"):
        sandbox.judge(Program("assert True"))


def test_programs_are_run_and_counted_without_bias() -> None:
    extra = {"solution": "", "test": "def check(f):\n    assert f(2) == 4\n", "entry_point": "double"}
    item = Item("humaneval", "test", "HumanEval/0", "def double(x):\n", extra=extra)
    right, wrong = "    return 2 * x\n", "    return 3 * x\n"
    found = programs()(item, Prompt("", (), 1), (right, wrong, right, "    import os; os._exit(0)\n"), "none")
    assert found == {"pass@1": 0.5}


def test_a_program_that_was_not_run_has_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"solution": "", "test": "def check(f): pass\n", "entry_point": "double"}
    item = Item("humaneval", "test", "HumanEval/0", "def double(x):\n", extra=extra)
    judge = programs(workers=1)
    monkeypatch.setattr(running, "_seen", lambda: (["/no such folder"], {}))
    with pytest.raises(PunaError, match=r"HumanEval/0: .* could not be isolated: .*/no such folder: No such file"):
        judge(item, Prompt("", (), 1), ("    return x\n",), "none")


def test_a_program_dies_with_who_judges_it() -> None:
    asks = "from puna.evaluate import sandbox as s\nprint('begun', flush=True)\ns.judge(s.Program('while True: pass'))"
    judge = subprocess.Popen(
        [sys.executable, "-c", asks], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": _source()}
    )
    assert judge.stdout
    assert judge.stdout.readline() == b"begun\n"
    _until(lambda: len(_left()) >= 3)  # the outer process, the first of the namespace, the program
    judge.send_signal(signal.SIGKILL)
    judge.wait()
    _until(lambda: not _left())


def test_the_filter_refuses_every_number_of_its_list() -> None:
    """Read step by step, as Linux would."""
    for machine, (audit, column) in seccomp.MACHINES.items():
        program = seccomp.filtered(machine)
        assert program
        for name, numbers in seccomp.NUMBERS.items():
            if (number := numbers[column]) is not None:
                assert _filtered(program, audit, number) == seccomp.REFUSE | 1, (machine, name)
        assert _filtered(program, audit, 0) == seccomp.ALLOW
        assert _filtered(program, audit, seccomp.CLONE[column], 0x10000) == seccomp.ALLOW
        assert _filtered(program, audit, seccomp.CLONE[column], 17) == seccomp.REFUSE | 1
        assert _filtered(program, audit, seccomp.CLONE3) == seccomp.REFUSE | 38
        assert _filtered(program, audit, 1 << 30) == seccomp.KILL
        assert _filtered(program, audit ^ 1, 0) == seccomp.KILL
    assert seccomp.filtered("riscv64") is None


@pytest.mark.prove
def test_reference_solutions_pass_and_mutated_ones_fail(bench: Path, proved: Callable[[str], None]) -> None:
    for name in ("humaneval", "mbpp"):
        items = list(testsets.read(name, bench / f"{name}.jsonl"))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            right = [program_of(item, item.extra["solution"]) for item in items]
            verdicts = list(pool.map(sandbox.judge, right))
            assert all(verdict.passed for verdict in verdicts), [v.why for v in verdicts if not v.passed]
            mutated = [replace(each, solution=mutant) for each in right for mutant in _mutants(each, 2)]
            survived = sum(verdict.passed for verdict in pool.map(lambda each: sandbox.judge(each, SHORT), mutated))
        share = 1 - survived / len(mutated)
        proved(f"{name}: {len(items)} reference solutions pass, {share:.1%} of {len(mutated)} mutated ones fail")
        assert share >= 0.95


def _asked(solution: str) -> Program:
    asked = "def answer" in solution
    return Program(solution, "assert answer(6) == 42\n" * 2 if asked else "", names=("answer",) if asked else ())


def _mutants(program: Program, count: int) -> Iterator[str]:
    """The solution with what it returns made another: a mutation that no right test forgives. What its prompt defines
    is left as it is, since the tests have the prompt's own."""
    solution, given = program.solution, program.lead.count("\n") if program.solution.startswith(program.lead) else 0

    def returns(tree: ast.AST) -> list[ast.Return]:
        return [n for n in ast.walk(tree) if isinstance(n, ast.Return) and n.value and n.lineno > given]

    chance, most = random.Random(solution), len(returns(ast.parse(solution)))
    for which in chance.sample(range(most), min(count, most)):
        tree = ast.parse(solution)
        found = returns(tree)[which]
        assert found.value
        found.value = ast.Tuple([found.value, ast.Constant(None)], ast.Load())
        yield ast.unparse(ast.fix_missing_locations(tree))


def _filtered(program: bytes, audit: int, number: int, first: int = 0) -> int:
    """What a filter gives: its language has few words."""
    seen, at, held = {0: number, 4: audit, 16: first}, 0, 0
    while True:
        code, yes, no, value = struct.unpack_from("=HBBI", program, 8 * at)
        at += 1
        if code == seccomp.RETURN:
            return int(value)
        if code == seccomp.LOAD:
            held = seen[value]
            continue
        holds = {seccomp.EQUAL: held == value, seccomp.ABOVE: held >= value, seccomp.BITS: bool(held & value)}[code]
        at += yes if holds else no


def _left() -> list[int]:
    """Processes of cages."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            status = (path / "status").read_text()
        except OSError:
            continue
        if running.CAGE.encode() in words and "State:\tZ" not in status:
            found.append(int(path.name))
    return found


def _until(condition: Callable[[], object]) -> None:
    for _ in range(400):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it never was so")


def _source() -> str:
    return str(Path(sandbox.__file__).parents[3])
