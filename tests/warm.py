"""The process that does the trials of faults.py: everything imported, one run done, and a fork for each command.

No exec and no imports, so that a command takes a tenth of a second. A process of its own, since a fork of the one that
runs the tests would carry their threads. Figures are drawn by a stand-in: they are no bit-stable artefact, and drawing
took half of a run.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import itertools
import json
import math
import os
import re
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fault_places import Disk, Durable, Store
from fault_shims import Shim, kill_in, named, note, shim
from faults import Border, Scenario, Trial
from object_store import ObjectStore
from puna import storage

LONGEST = 120  # seconds after which a command counts as hanging
AT_ONCE = 32  # states of a run that stand side by side
MAY_FAIL = ("log.txt", "run.lock")  # a line of the log ends no work, nor does a lock that stays: its holder is dead

place: Disk | Store = Disk()
listed: dict[str, list[Border]] = {}  # by scenario
finished: dict[str, set[str]] = {}  # by scenario: steps that the commands before had done, and that must not be lost


def serve() -> None:
    """Warm up, then answer each line of standard input: JSON lines, and one that says end."""
    from typer import main

    from puna import lines, progress
    from puna.report import figures

    global place
    lines.UPLOAD_EVERY, progress.LOG_LINES = math.inf, (math.inf,)  # borders must not depend on a clock
    figures._svg = lambda *drawing: figures.Html("<svg></svg>")
    main.get_command = functools.cache(main.get_command)  # made of the same functions for each command
    _in_this_process("warm")
    if sys.argv[1]:
        place = Store(ObjectStore(sys.argv[1]))
        _import_what_the_store_needs()
    gc.freeze()  # so that children do not write to pages that they share
    for line in sys.stdin:
        plan = json.loads(line)
        value = plan["scenario"]
        before = tuple(tuple(one) for one in value["before"])
        scenario = Scenario(value["name"], before, tuple(value["faulted"]), tuple(value["again"]))
        if plan["do"] == "list":
            listed[scenario.name] = _list(scenario)
            _tell({"borders": listed[scenario.name]})
        elif plan["do"] == "undisturbed":
            _tell({"borders": _undisturbed(scenario)})
        elif plan["do"] == "chain":
            _chain(scenario, plan["moments"])
        elif plan["do"] == "sweep":
            _sweep(scenario, (_Underway(scenario, kind, number) for kind, number in plan["faults"]), plan["jobs"])
        else:
            _sweep(scenario, _states(scenario, plan["kind"], plan["first"], plan["step"]), plan["jobs"])
        print("end", flush=True)


def _in_this_process(out: str) -> None:
    """One run here, so that all that is loaded or made at its first use is there. Its lines go nowhere."""
    from puna import cli

    given, sys.argv = sys.argv, ["puna", *_command(out, ())]
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
        contextlib.suppress(SystemExit),
    ):
        cli.main()
    sys.argv = given


def _import_what_the_store_needs() -> None:
    """Import the store's client here, which takes a child a second. A child asks the store first: a client that has
    asked anything has a thread, and this process must have none."""
    pid = os.fork()
    if not pid:
        try:
            storage.write(f"{place.url('imports')}/one", b"")
            Path("imports").write_text("\n".join(sys.modules))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    for name in Path("imports").read_text().splitlines():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    place.clear("imports")


def _list(scenario: Scenario) -> list[Border]:
    """The borders of one undisturbed command, which are those of another one too."""
    for kind, commands in (("before", scenario.before), ("undisturbed", (*scenario.before, scenario.again))):
        for command in commands:
            _succeed(f"{scenario.name}-{kind}", command)
            if kind == "before" and scenario.faulted[:1] != ("clean",):  # which gives up what an old value made
                finished.setdefault(scenario.name, set()).update(_done(f"{scenario.name}-{kind}") - {"report"})
    found = []
    for out in (f"{scenario.name}-listed", f"{scenario.name}-listed-again"):
        place.lay(f"{scenario.name}-before" if scenario.before else "", out)
        lines = Path(f"{out}.borders")
        _succeed(out, scenario.faulted, lambda event, location, at=lines: note(at, event, location))
        found.append([named(*json.loads(line), out) for line in lines.read_text().splitlines()])
        place.clear(out)
    other = next((pair for pair in itertools.zip_longest(*found) if pair[0] != pair[1]), None)
    assert other is None, f"two undisturbed runs have different borders, the first are {other}"
    return found[0]


def _undisturbed(scenario: Scenario) -> list[Border]:
    """The borders of a run that stays, to be compared with."""
    out = f"{scenario.name}-undisturbed"
    lines = Path(f"{out}.borders")
    _succeed(out, scenario.again, lambda event, location: note(lines, event, location))
    return [named(*json.loads(line), out) for line in lines.read_text().splitlines()]


def _chain(scenario: Scenario, moments: Sequence[tuple[str, int]]) -> None:
    """One run, killed at each moment and gone on with, which must end as an undisturbed one; each kill is told."""
    out = f"{scenario.name}-chain"
    done: set[str] = set()
    for step, number in moments:
        met = Path(f"{out}.borders")
        met.unlink(missing_ok=True)
        status = _ended(_fork(out, scenario.again, kill_in(step, number, out)))
        border = named(*json.loads(met.read_text()), out) if met.exists() else Border("", f"work/{step}/")
        problem = _wrong("kill", border, status, out) or _lost(done, out)
        _tell(asdict(Trial("kill", number, *border, problem[:3000])))
        if problem:
            return
        done |= _done(out)
    problem = _unlike(_ended(_fork(out, scenario.again)), out, place.stable(f"{scenario.name}-undisturbed"))
    _tell(asdict(Trial("none", 0, "end", out, (problem or _lost(done, out))[:3000])))


def _ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _sweep(scenario: Scenario, trials: Iterator[_Underway], jobs: int) -> None:
    """Trials side by side: whenever a command ends, it is judged and the next one is forked."""
    expected = place.stable(f"{scenario.name}-undisturbed")
    running: dict[int, _Underway] = {}
    while True:
        running |= {trial.begin(): trial for trial in itertools.islice(trials, jobs - len(running))}
        if not running:
            return
        pid, status = os.wait()
        trial = running.pop(pid)
        if following := trial.ended(os.waitstatus_to_exitcode(status), expected):
            running[following] = trial


class _Underway:
    """A trial that is going on, in a run folder of its own."""

    def __init__(self, scenario: Scenario, kind: str, number: int) -> None:
        self.scenario, self.kind, self.number = scenario, kind, number
        self.out = f"{scenario.name}-{kind}-{number}"
        self.border: Border | None = None
        self.done = set(finished.get(scenario.name, ()))  # and those that the disturbed command had finished

    def begin(self) -> int:
        """Fork the command that meets the fault, or the one behind it when what the fault left stands already; its
        process id."""
        if self.border:
            return _fork(self.out, self.scenario.again)
        place.lay(f"{self.scenario.name}-before" if self.scenario.before else "", self.out)
        return _fork(self.out, self.scenario.faulted, shim(self.kind, self.number, self.out))

    def ended(self, status: int, expected: Mapping[str, str]) -> int | None:
        """Judge the command that ended. The id of the process that goes on, or None, and the trial is told."""
        if self.border is None:
            met = Path(f"{self.out}.borders")
            self.border = named(*json.loads(met.read_text()), self.out) if met.exists() else Border("", "")
            problem = _wrong(self.kind, self.border, status, self.out)
            if self.scenario.faulted == self.scenario.again:
                self.done |= _done(self.out)
            if not problem:
                if self.kind == "power":
                    shutil.rmtree(self.out)
                    Path(f"{self.out}.durable").rename(self.out)
                return _fork(self.out, self.scenario.again)
        else:
            problem = _unlike(status, self.out, expected) or _lost(self.done, self.out)
        _tell(asdict(Trial(self.kind, self.number, *self.border, problem[:3000])))
        if not problem:
            place.clear(self.out)
            for left in Path().glob(f"{self.out}.*"):
                left.unlink()
        return None


def _states(scenario: Scenario, kind: str, first: int, step: int) -> Iterator[_Underway]:
    """The trials of a kill, or a power cut, at every border, from few runs: a process that is killed leaves what stands
    at that moment, so a copy is kept at each border where it is not what it was at the one before. A run that has kept
    AT_ONCE is killed, so that little memory holds them, and the next one goes on keeping behind."""
    out, begin, status = f"{scenario.name}-{kind}", 0, -signal.SIGKILL
    while status == -signal.SIGKILL:
        place.lay(f"{scenario.name}-before" if scenario.before else "", out)
        pid = _fork(out, scenario.faulted, _keeping(kind, out, begin, first, step))
        status = _ended(pid)
        assert status in (0, -signal.SIGKILL), Path(f"{out}.stderr").read_text()
        met = [named(*json.loads(line), out) for line in Path(f"{out}.borders").read_text().splitlines()]
        kept = [int(path.suffix[1:]) for path in Path().glob(f"{out}-kept.*")]
        place.clear(out)
        shutil.rmtree(f"{out}.durable", ignore_errors=True)
        for left in [*Path().glob(f"{out}.*"), *Path().glob(f"{out}-kept.*")]:
            left.unlink()
        for number in sorted(kept):
            trial = _Underway(scenario, kind, number)
            trial.border = met[number]
            if scenario.faulted == scenario.again:
                trial.done |= _done(trial.out)
            yield trial
            begin = number + 1
    assert met == listed[scenario.name], "the run whose states were kept has other borders than an undisturbed one"


def _keeping(kind: str, out: str, begin: int, first: int, step: int) -> Shim:
    """A border that keeps what would be left if the process ended there, unless that is what the last one left: of what
    is left from the border `begin` on, the one of that number and each `step`-th behind it."""
    number = state = -1
    kept = 0
    last: Mapping[str, object] | None = None
    durable = Durable(Path(out)) if kind == "power" else None
    left = Path(f"{out}.durable")

    def border(event: str, location: str) -> None:
        nonlocal number, state, kept, last
        number += 1
        note(Path(f"{out}.borders"), event, location)
        if durable:
            shutil.rmtree(left, ignore_errors=True)
            durable.write(left)
            found = {name.removeprefix(str(left)): at for name, at in Disk().state(str(left), times=False).items()}
        elif last is None or isinstance(place, Disk) or event.startswith("after"):
            found = place.state(out)
        else:
            found = last  # a store changes by uploads and removals alone
        state += found != last
        if found != last and number >= begin and state % step == first:
            if kept == AT_ONCE:
                os.kill(os.getpid(), signal.SIGKILL)
            to = f"{out}-{number}"
            if durable:
                left.rename(to)
            else:
                place.lay(out if found else "", to)
            shutil.copy(f"{out}.stderr", f"{to}.stderr")
            Path(f"{out}-kept.{number}").touch()
            kept += 1
        last = found

    return border


def _wrong(kind: str, border: Border, status: int, out: str) -> str:
    """What the disturbed command did that it must not do."""
    said = Path(f"{out}.stderr").read_text()
    last = (said.strip().splitlines() or [""])[-1]
    if not border.event:
        return f"the border was not met (status {status}): {last}"
    if kind in ("kill", "power"):
        return "" if status == -signal.SIGKILL else f"not killed, but status {status}: {last}"
    if "Traceback" in said or "Exception ignored" in said:
        return f"a traceback (status {status}): {said}"
    if kind == "stop":
        told = "interrupted; the same command" in last or ("stopped" in last and "goes on" in last)
        return "" if status == 130 and told else f"asked to stop, ended with status {status}: {last}"
    if status == 0 and border.location in MAY_FAIL:
        return ""
    told = last.startswith("error: ") and said.count("error: ") == 1
    if kind == "full":
        told = told and "the disk is full" in last and "free some space" in last
    else:
        # What is under a temporary name is told of by the name that it has, or will have, for people.
        shown = [
            part.removeprefix(storage.TEMPORARY)
            for part in border.location.split("/")
            if part.startswith(storage.TEMPORARY)
        ]
        told = told and (shown or border.location.split("/"))[-1] in last
    return "" if status == 1 and told else f"ended with status {status}: {last}"


def _unlike(status: int, out: str, expected: Mapping[str, str]) -> str:
    """What the same command, given again, left other than an undisturbed run does."""
    said = Path(f"{out}.stderr").read_text()
    if status != 0 or "Traceback" in said:
        return f"the same command again ended with status {status}: {said}"
    left = [name for name in place.names(out) if storage.TEMPORARY in name or ".begun." in name or name in SHOWN]
    if left:
        return f"left behind: {', '.join(left)}"
    found = place.stable(out)
    unlike = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    return f"not as undisturbed: {', '.join(unlike)}: {said}" if unlike else ""


SHOWN = ("run.lock", "progress.json")  # what stands only while a command runs


def _lost(done: set[str], out: str) -> str:
    """What had been finished and was not taken for it."""
    again = sorted(done & _done(out))
    said = Path(f"{out}.stderr").read_text()
    doubted = [line for line in said.splitlines() if done and ("not used" in line or "damaged" in line)]
    return f"done again: {', '.join(again)} {' '.join(doubted)}" if again or doubted else ""


def _done(out: str) -> set[str]:
    """The steps that a command said to have done."""
    return set(re.findall(r"^(\S+): done in ", Path(f"{out}.stderr").read_text(), re.MULTILINE))


def _succeed(out: str, arguments: Sequence[str], border: Shim | None = None) -> None:
    status = _ended(_fork(out, arguments, border))
    assert status == 0, Path(f"{out}.stderr").read_text()


def _fork(out: str, arguments: Sequence[str], border: Shim | None = None) -> int:
    """The process id of a child that does a command; what it says goes to OUT.stdout and OUT.stderr."""
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        for stream in (sys.stdout, sys.stderr):
            handle = os.open(f"{out}.{stream.name.strip('<>')}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, stream.fileno())
            os.close(handle)
        sys.stdin = Path(os.devnull).open()  # noqa: SIM115  # the parent's brings plans and was read from
        signal.alarm(LONGEST)
        status = _puna(_command(place.url(out), arguments), border)
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def _puna(arguments: Sequence[str], border: Shim | None) -> int:
    """The status with which this process would end if it were the command."""
    from puna import cli

    if border:
        storage.border = border
    sys.argv = ["puna", *arguments]
    try:
        cli.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except BaseException:
        traceback.print_exc()
    return 1


def _command(url: str, arguments: Sequence[str]) -> list[str]:
    if arguments[:1] == ("clean",):
        return ["clean", url, *arguments[1:]]
    if arguments[:1] == ("data",):
        return ["data", "tiniest.toml", "--out", url, "--workers", "1", *arguments[1:]]
    return ["run", "tiniest.toml", "--out", url, "--workers", "1", "--threads", "1", *arguments]


def _tell(value: Mapping[str, Any]) -> None:
    os.write(1, (json.dumps(value) + "\n").encode())


if __name__ == "__main__":
    serve()
