"""Fuzz one parser, or all in turn: coverage-guided, by atheris (extra `fuzz`). What breaks one lies in fuzz/found/.

    python fuzz/run.py [NAME ...] [--seconds 60] [--memory 1500]

A process for each, since a fuzzer ends its process. A finding is an exception, more than `--memory` MB, or one input
that takes longer than 20 s. A line for each says how many executions there were; the status is 1 when something was
found.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
FOUND = HERE / "found"
LONGEST_INPUT, LONGEST_TIME = 1 << 16, 20  # bytes, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seconds", type=int, default=60, help="for each parser")
    parser.add_argument("--memory", type=int, default=1500, help="MB that one parser may take")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside:
        _fuzz(asked.inside, asked.names)
    from targets import TARGETS

    if unknown := set(asked.names) - TARGETS.keys():
        parser.error(f"no parser {', '.join(sorted(unknown))}: there are {', '.join(TARGETS)}")
    FOUND.mkdir(exist_ok=True)
    broken = [name for name in asked.names or TARGETS if not _one(name, asked.seconds, asked.memory)]
    print(f"found something in {', '.join(broken)}: see {FOUND}" if broken else "nothing found")
    sys.exit(1 if broken else 0)


def _one(name: str, seconds: int, memory: int) -> bool:
    """Fuzz one parser in a process of its own; whether nothing was found. Prints a line of figures."""
    with tempfile.TemporaryDirectory() as corpus:
        options = [f"-max_total_time={seconds}", f"-rss_limit_mb={memory}", f"-timeout={LONGEST_TIME}"]
        options += [f"-max_len={LONGEST_INPUT}", f"-artifact_prefix={FOUND}/{name}-", "-print_final_stats=1", corpus]
        command = [sys.executable, __file__, "--inside", name, "--", *options]
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
    figures = dict(re.findall(r"stat::(\w+):\s+(\d+)", ended.stderr))
    count, most = int(figures.get("number_of_executed_units", 0)), figures.get("peak_rss_mb", "?")
    sound = ended.returncode == 0 and count > 0
    print(
        f"{name:14} {count:>10,} executions in {seconds} s, {most:>5} MB at most{'' if sound else ': FOUND'}",
        flush=True,
    )
    if not sound:
        print(ended.stderr[-4000:])
    return sound


def _fuzz(name: str, options: list[str]) -> None:
    """Never returns: the fuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["puna"]):
        from targets import TARGETS
    target = TARGETS[name]
    for number, seed in enumerate(target.seeds()):
        (Path(options[-1]) / f"seed-{number}").write_bytes(seed)
    atheris.Setup([name, *options], target.one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
