"""Record the figures of the paper's ledger: run a result's command and write down what it printed, and where and when.

    python benchmarks/record.py NAME ... [--stale] [--list] [--json FILE] [--quick]

NAME is a result of src/puna/paper/ledger.toml, which says its command and where in what that prints each figure stands;
no figure is typed by hand. --stale: every one that is missing, or whose code has changed since. --list: each
with its age, whether its commit is an ancestor of this one, and what has changed. A result is written only from files
that are committed, so that its commit says what made it; tests in it need PUNA_SAMPLES and PUNA_BENCH as in `make
prove`. --json writes the figures to a file too; --quick leaves out what took more than a minute when it was last
recorded.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from form import metric
from puna.errors import InputError, PunaError
from puna.paper.ledger import Recorded, ledger
from puna.paper.results import FORMAT, digest, read

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "src" / "puna" / "paper" / "results"
LONG = 60.0  # seconds; --quick leaves out what took longer
PROGRAMS = {
    "puna": [sys.executable, "-m", "puna"],
    "python": [sys.executable],
    "pytest": [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"],
}
COMPUTING = ("torch", "numpy", "pyarrow", "sentencepiece")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="*", help="a result")
    parser.add_argument("--stale", action="store_true", help="those that are missing, or of changed code")
    parser.add_argument("--list", action="store_true", help="tell of each, run nothing")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help=f"leave out what took more than {LONG:g} s")
    asked = parser.parse_args()
    known = ledger().recorded
    if wrong := [name for name in asked.name if name not in known]:
        parser.error(f"{', '.join(wrong)}: no such result; there are {', '.join(known)}")
    if asked.list:
        for name in asked.name or known:
            print(f"{name:20} {_told(name)}")
        return
    names = asked.name or [name for name in known if asked.stale and _is_stale(name)]
    if asked.quick:
        names = [name for name in names if _seconds(name) <= LONG]
    figures: dict[str, Any] = {}
    for name in names:
        result = record(name, known[name])
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
        print(f"{name}: {', '.join(f'{key} {value:,.6g}' for key, value in result['figures'].items())}")
        figures |= {f"{name}.{key}": metric(value, "") for key, value in result["figures"].items()}
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


def record(name: str, recorded: Recorded) -> dict[str, Any]:
    """Run the command and take the figures out of it. PunaError where a figure is not to be found."""
    commit = _commit()
    date = datetime.datetime.now(datetime.UTC)
    began = time.monotonic()
    printed, document = run(recorded.command)
    seconds = time.monotonic() - began
    if _commit() != commit:
        raise PunaError("the commit changed meanwhile", where=name, mend="record it again")
    return {
        "format": FORMAT,
        "name": name,
        "command": recorded.command,
        "commit": commit,
        "machine": machine(),
        "date": date.isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "figures": taken(recorded, printed, document, name),
        "sources": {source: digest(source) for source in recorded.sources},
    }


def run(command: str) -> tuple[str, Any]:
    """(what the command printed, the JSON that it wrote or printed); None where no JSON is."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out.json"
        program, *words = shlex.split(command.replace("{out}", str(out)))
        environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), environment.get("PYTHONPATH", "")])
        done = subprocess.run(
            [*PROGRAMS[program], *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.stderr.write(done.stdout[-3000:] + done.stderr[-3000:])
            raise PunaError(f"ended with status {done.returncode}", where=command)
        text = out.read_text("utf-8") if out.exists() else done.stdout
    try:
        return done.stdout, json.loads(text)
    except ValueError:
        return done.stdout, None


def taken(recorded: Recorded, printed: str, document: Any, name: str) -> dict[str, float]:
    """The figures, each by its rule."""
    found: dict[str, float] = {}
    for figure, place in recorded.json.items():
        value = document
        for step in place.split("/"):
            value = value[int(step)] if isinstance(value, list) else value[step]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise PunaError(f"{place} is {value!r}, and no number", where=f"{name}.{figure}")
        found[figure] = value
    flat = " ".join(printed.split())
    for figure, expression in recorded.line.items():
        met = {match[1] for match in re.finditer(expression, flat)}
        if len(met) != 1:
            raise PunaError(f"{expression} is met by {sorted(met)}, not by one number", where=f"{name}.{figure}")
        text = met.pop().replace(",", "")
        found[figure] = int(text) if text.isdecimal() else float(text)
    return found


def machine() -> dict[str, Any]:
    """What the command ran on; nothing that names it."""
    return {
        "processor": _system("/proc/cpuinfo", r"^model name\s*: (.+)$") or platform.machine(),
        "cores": os.cpu_count(),
        "memory_bytes": int(_system("/proc/meminfo", r"^MemTotal:\s+(\d+) kB$") or 0) * 1024 or None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in COMPUTING},
    }


def _system(file: str, expression: str) -> str:
    """What Linux tells of the machine; "" elsewhere."""
    try:
        found = re.search(expression, Path(file).read_text("utf-8", "replace"), re.MULTILINE)
    except OSError:
        return ""
    return found[1].strip() if found else ""


def _commit() -> str:
    """The commit of the files that are about to run. PunaError where some are not committed."""
    changed = _git("status", "--porcelain", "--", ".", f":!{RESULTS.relative_to(ROOT)}")
    if changed:
        raise PunaError("not all files are committed", where=changed.splitlines()[0].strip(), mend="commit first")
    return _git("rev-parse", "HEAD")


def _told(name: str) -> str:
    try:
        result = read(name)
    except InputError as error:
        return str(error)
    today = datetime.datetime.now(datetime.UTC).date()
    ancestor = subprocess.run(["git", "merge-base", "--is-ancestor", result.commit, "HEAD"], cwd=ROOT, check=False)
    told = [f"{result.age_days(today)} days old", result.commit[:10]]
    told += ["no ancestor of this commit"] if ancestor.returncode else []
    told += [f"changed since: {', '.join(changed)}"] if (changed := result.changed()) else []
    return "; ".join(told)


def _is_stale(name: str) -> bool:
    try:
        result = read(name)
    except InputError:
        return True
    return bool(result.changed()) or set(result.sources) != set(ledger().recorded[name].sources)


def _seconds(name: str) -> float:
    try:
        return read(name).seconds
    except InputError:
        return 0.0


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    try:
        main()
    except PunaError as error:
        sys.exit(f"error: {error}")
