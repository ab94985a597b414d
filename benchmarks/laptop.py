"""How long `puna run laptop` takes, how much memory its whole process tree holds, and how good the model is.

    python benchmarks/laptop.py [--json FILE] [--quick] [--runs N] [--keep FOLDER]

Wall seconds of the command after installation; memory is the largest sum over the tree of each process's own share
(PSS where the kernel tells it, else RSS), sampled four times a second. `--quick` trains 200k tokens only, so its
quality means nothing. Ratios: bits per byte of the model over each baseline's, by source. What the limit is here: the
ten minutes and 2 GB that the recipe is made for.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from form import bits_beside_peers, metric

MINUTES, MEMORY = 10, 2.0  # what the recipe is made for, on two cores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="a short training, within a minute")
    parser.add_argument("--runs", type=int, default=1, help="how many runs; figures are medians with their range")
    parser.add_argument("--keep", type=Path, help="leave the (last) run here")
    asked = parser.parse_args()
    overrides = ["train.tokens=200K tokens", "samples.tokens=8"] if asked.quick else []
    figures = []
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(asked.runs):
            last = number == asked.runs - 1
            out = asked.keep if asked.keep and last else Path(scratch) / f"run-{number}"
            figures.append(measure(["run", "laptop", *overrides, "--out", str(out)]))
            quality = json.loads((out / "evaluations" / "heldout.json").read_text())["bits_per_byte"]
            figures[-1]["tokens_per_second"] = _rate(out / "metrics.jsonl")
    result = {
        "laptop_wall": _metric([f["seconds"] for f in figures], "s", MINUTES * 60),
        "laptop_memory": _metric([f["gigabytes"] for f in figures], "GB", MEMORY),
        "laptop_train": _metric([f["tokens_per_second"] for f in figures], "tokens/s", None),
    }
    for source, row in quality.items():
        result[f"heldout_{source}"] = bits_beside_peers(row)
    for name, figure in result.items():
        print(f"{name:20} {figure['value']:9.3f} {figure['unit']}", *_beside(figure))
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")


def measure(arguments: list[str]) -> dict[str, float]:
    """Run `puna` and watch it: wall seconds and the largest memory of its process tree."""
    start = time.monotonic()
    peak = [0.0]
    command = [sys.executable, "-m", "puna.cli", *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        watcher = threading.Thread(target=_watch, args=(process, peak), daemon=True)
        watcher.start()
        if process.wait() != 0:
            sys.exit(f"puna {' '.join(arguments)} ended with status {process.returncode}")
        watcher.join()
    return {"seconds": time.monotonic() - start, "gigabytes": peak[0] / 1e9}


def _watch(process: subprocess.Popen[Any], peak: list[float]) -> None:
    root = psutil.Process(process.pid)
    while process.poll() is None:
        total = 0
        for member in [root, *_children(root)]:
            try:
                full = member.memory_full_info()
                total += getattr(full, "pss", full.rss)
            except psutil.Error:
                continue
        peak[0] = max(peak[0], total)
        time.sleep(0.25)


def _children(root: psutil.Process) -> list[psutil.Process]:
    try:
        found: list[psutil.Process] = root.children(recursive=True)
    except psutil.Error:
        return []
    return found


def _rate(metrics: Path) -> float:
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    return float(statistics.median(line["tokens_per_second"] for line in lines))


def _metric(values: list[float], unit: str, limit: float | None) -> dict[str, Any]:
    middle = statistics.median(values)
    ratio = {} if limit is None else {"limit": {k: f / limit for k, f in _spread(values).items()}}
    return metric(middle, unit, limit, ratio=ratio)


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def _beside(figure: dict[str, Any]) -> list[str]:
    if figure["limit"]:
        return [f"(limit {figure['limit']:g})"]
    return [f"{name} {value:.3f}" for name, value in figure["peers"].items()]


if __name__ == "__main__":
    main()
