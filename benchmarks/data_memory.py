"""Memory and cost of the whole way of web pages, by the size of the crawl: `puna data` on crawls that made_crawl.py
makes.

    python benchmarks/data_memory.py [--sizes 0.2,1,4] [--workers 2] [--folder FOLDER] [--json FILE] [--quick]

A size is in GB of text. For each stage it prints the peak of resident memory of a worker (the kernel's own high-water
mark, read ten times a second, so that the last tenth of a worker's life may be missed) and of the process that hands
out the tasks (sampled), and the cost table of the report: MB a second of one core, and each stage's share of the work.
Seconds of work are those of the wall within a task: on a machine that does other things they are longer than the
processor's, which are told for the whole run. --quick: 0.02 and 0.06 GB.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from form import metric  # noqa: E402
from made_crawl import write  # noqa: E402

LIMIT = 400.0  # MB a worker
DONE = re.compile(r"(\S+): done in ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="0.2,1,4", help="GB of text, with commas (0.2,1,4)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--folder", type=Path, help="where crawls and runs are made and stay; one that is there is used"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="0.02 and 0.06 GB")
    asked = parser.parse_args()
    sizes = [float(size) for size in ("0.02,0.06" if asked.quick else asked.sizes).split(",")]
    with tempfile.TemporaryDirectory() as made:
        folder = asked.folder or Path(made)
        runs = {size: run(folder, size, asked.workers) for size in sizes}
    table(runs)
    if asked.json:
        figures = {
            f"worker_{size:g}_gb": metric(max(told["workers"].values()), "MB", LIMIT) for size, told in runs.items()
        }
        asked.json.write_text(json.dumps(figures, indent=1) + "\n")


def run(folder: Path, size: float, workers: int) -> dict[str, Any]:
    """One crawl through `puna data`: peaks of memory by stage in MB, seconds, and its cost table."""
    crawl = folder / f"crawl-{size:g}"
    if not (crawl / "crawl.toml").exists():
        write(crawl, int(size * 1e9))
    out = folder / f"run-{size:g}"
    command = [sys.executable, "-m", "puna", "data", str(crawl / "crawl.toml"), "--out", str(out)]
    before, start = _processor(), time.monotonic()
    with subprocess.Popen(
        [*command, "--workers", str(workers)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as work:
        watch = Watch(work.pid)
        assert work.stdout is not None
        for line in work.stdout:
            if found := DONE.match(line):
                watch.ended(found[1].partition(".")[0])
        watch.stop()
    if work.returncode or not watch.workers:
        raise SystemExit(f"{' '.join(command)} ended with status {work.returncode}")
    told = {"workers": dict(watch.workers), "main": dict(watch.main)}
    told |= {"wall": time.monotonic() - start, "processor": _processor() - before}
    cost(size, out, told, workers)
    return told


class Watch:
    """The memory of a process and of its workers, by stage."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.workers: dict[str, float] = defaultdict(float)
        self.main: dict[str, float] = defaultdict(float)
        self._now = [0.0, 0.0]  # of workers, of the process itself, in the stage under way
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def ended(self, stage: str) -> None:
        (worker, main), self._now = self._now, [0.0, 0.0]
        self.workers[stage] = max(self.workers[stage], worker)
        self.main[stage] = max(self.main[stage], main)

    def stop(self) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(0.1):
            seen = [_status(child, "VmHWM") for child in _children(self.pid)]
            now = self._now
            now[0], now[1] = max(now[0], *seen, 0.0), max(now[1], _status(self.pid, "VmRSS"))


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in task.read_text().split()]
        except OSError:
            continue
    return found


def _status(pid: int, key: str) -> float:
    """MB that the kernel tells of a process; 0 of one that ended."""
    try:
        found = re.search(rf"{key}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cost(size: float, out: Path, told: dict[str, Any], workers: int) -> None:
    """The cost table of a finished run."""
    from puna import records, storage
    from puna.cost import stages

    found = stages(records.read_records(storage.place(out)))
    whole = sum(part.seconds for part in found.values())
    took = f"{told['wall']:,.0f} s with {workers} workers, {told['processor']:,.0f} s of the processor"
    print(f"{size:g} GB of text: {took}, {size * 1e3 / told['processor']:.2f} MB a second of it")
    for part in found.values():
        rate = f"{part.rate / 1e6:9.2f} MB/s" if part.rate else f"{'':14}"
        print(f"  {part.label:28} {part.seconds:10,.1f} s {rate} {part.seconds / max(whole, 1e-9):7.1%}", flush=True)


def table(runs: dict[float, dict[str, Any]]) -> None:
    print(
        f"peak memory of a worker in MB, at most {LIMIT:g} asked; in brackets of the process that hands out the tasks"
    )
    print(f"  {'GB of text':16}" + "".join(f"{size:>16g}" for size in runs))
    for stage in dict.fromkeys(stage for told in runs.values() for stage in told["workers"]):
        row = [f"{told['workers'].get(stage, 0):.0f} ({told['main'].get(stage, 0):.0f})" for told in runs.values()]
        print(f"  {stage:16}" + "".join(f"{each:>16}" for each in row))
    row = [f"{max(told['workers'].values()):.0f}" for told in runs.values()]
    print(f"  {'all':16}" + "".join(f"{each:>16}" for each in row), flush=True)


if __name__ == "__main__":
    main()
