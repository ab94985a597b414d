"""The paper's Figure 1 in small: what four sizes come to on the same tokens, and how long `puna run family` takes.

    python benchmarks/family.py [--json FILE] [--quick] [--keep FOLDER]

Held-out bits per byte of each size, the mean over its seeds, beside those of the n-gram; the exponent of the law
through them with half its interval of 95 % (src/puna/report/compare/law.py); wall seconds of the command after
installation, whose limit is the hour that the recipe is made for, on two cores. `--quick` trains 61k tokens, so its
quality means nothing. `--keep` leaves the family there; a family that lies there already is gone on with, and then its
seconds are not those of a whole one and are left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from form import metric
from puna.report.compare import law, page, runs

HOUR = 3600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="a short training of each size")
    parser.add_argument("--keep", type=Path, help="leave the family here, or go on with the one that lies here")
    asked = parser.parse_args()
    overrides = ["train.tokens=61440 tokens", "train.evaluate_every=none"] if asked.quick else []
    with tempfile.TemporaryDirectory() as scratch:
        out = asked.keep or Path(scratch) / "family"
        whole = not out.exists()
        start = time.monotonic()
        done = subprocess.run([sys.executable, "-m", "puna.cli", "run", "family", *overrides, "--out", str(out)])
        if done.returncode != 0:
            sys.exit(f"puna run family ended with status {done.returncode}")
        seconds = time.monotonic() - start
        result = figures(out)
    if whole:
        result["seconds"] = metric(seconds, "s", HOUR)
    for name, figure in result.items():
        print(f"{name:20} {figure['value']:12.4f} {figure['unit']}")
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")


def figures(family: Path) -> dict[str, Any]:
    """What the members in this folder came to."""
    found = runs.read(sorted(folder for folder in family.glob("*-seed*") if folder.is_dir()))
    points = page.points(runs.groups(found))
    table = json.loads((family / found[0].label / "evaluations" / "heldout.json").read_text())["bits_per_byte"]
    ngram = {name: value for name, value in table["all"].items() if "gram" in name}
    told = {
        f"heldout_{weights / 1e6:.2f}M": metric(statistics.mean(bits), f"bits per byte, {len(bits)} seeds", peers=ngram)
        for weights, bits in points
    }
    told |= {"tokens": metric(found[0].tokens, "tokens each")}
    if (fitted := law.fit(points)) is not None:
        told |= {
            "exponent": metric(fitted.exponent, "of weights"),
            "reach": metric(fitted.reach, "to either side, 95 %"),
        }
    if (spread := law.seed_spread(points)) is not None:
        told["seeds"] = metric(spread, "bits per byte, standard deviation among seeds")
    return told


if __name__ == "__main__":
    main()
