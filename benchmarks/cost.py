"""What raw dumps cost to clean on rented cores: core hours, money, hours of so many cores, and disk.

    python benchmarks/cost.py [STAGE=RATE ...] [--rates FILE] [--stored SIZE] [--expands X] [--ending END]
                              [--price P] [--cores N] [--json FILE] [--quick]

RATE is MB of uncompressed input a second of one core, as data_sources.py prints it; --rates takes every figure in MB/s
from a file that a script here wrote with --json. Each stage reads all input, so their core hours add up. --expands is
how many bytes one stored byte becomes; without it that is measured on the real CommonCrawl files that the tests read.
--price is what one core costs an hour, in any currency. --quick changes nothing: this only multiplies.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]


def main() -> None:
    from form import metric
    from puna import space
    from puna.progress import size
    from puna.recipe_values import count

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rate", nargs="*", metavar="STAGE=RATE", help="MB of uncompressed input a second of one core")
    parser.add_argument("--rates", type=Path, help="a file of figures, of which those in MB/s are taken")
    parser.add_argument("--stored", default="10 TB", help="size of the dumps as they are stored (10 TB)")
    parser.add_argument("--expands", type=float, help="uncompressed bytes of a stored one; else measured")
    parser.add_argument("--ending", default=".gz", help="how the dumps' names end (.gz), for the disk they become")
    parser.add_argument("--price", type=float, default=0.04, help="of one core for an hour (0.04)")
    parser.add_argument("--cores", type=int, default=1000, help="cores at work (1000)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="changes nothing")
    asked = parser.parse_args()
    rates = _rates(parser, asked.rate, asked.rates)
    expands = asked.expands or _expands()
    stored = count(asked.stored, "bytes")
    raw = stored * expands
    hours = {stage: raw / 1e6 / rate / 3600 for stage, rate in rates.items()}
    total = sum(hours.values())
    disk = space.extracted({f"dump{asked.ending}": stored}, stored, 1).bytes
    print(f"{size(stored)} stored are {size(raw)} of input ({expands:.2f} bytes a byte)")
    for stage, value in hours.items():
        print(f"  {stage:24} {rates[stage]:10.3f} MB/s a core {value:14,.0f} core hours {value * asked.price:12,.0f}")
    print(f"  {'all':24} {'':20}{total:14,.0f} core hours {total * asked.price:12,.0f} at {asked.price:g} an hour")
    print(f"  {asked.cores:,} cores: {total / asked.cores:,.1f} hours; documents on disk: at most {size(disk)}")
    if asked.json:
        figures: dict[str, Any] = {f"{stage}_core_hours": metric(value, "h") for stage, value in hours.items()}
        figures |= {"core_hours": metric(total, "h"), "price": metric(total * asked.price, "in the price's currency")}
        figures |= {"hours": metric(total / asked.cores, "h"), "disk": metric(disk, "bytes")}
        asked.json.write_text(json.dumps(figures, indent=1) + "\n")


def _rates(parser: argparse.ArgumentParser, given: list[str], file: Path | None) -> dict[str, float]:
    found = {}
    if file:
        figures = json.loads(file.read_text())
        found = {name: float(each["value"]) for name, each in figures.items() if each["unit"] == "MB/s"}
    for text in given:
        stage, _, rate = text.partition("=")
        try:
            found[stage] = float(rate)
        except ValueError:
            parser.error(f"{text!r} is no STAGE=RATE")
    if not found or min(found.values()) <= 0:
        parser.error("give the rate of at least one stage, above 0, such as warc_to_text=20")
    return found


def _expands() -> float:
    """Uncompressed bytes of a stored one, in whole real WARC files."""
    import gzip

    from conftest import SHARED

    samples = Path(os.environ.get("PUNA_SAMPLES") or SHARED / "raw")
    files = sorted((samples / "commoncrawl").glob("CC-REAL-*.warc.gz"))
    if not files:
        sys.exit(f"no real WARC files at {samples}: set PUNA_SAMPLES, or give --expands")
    stored = plain = 0
    for file in files:
        stored += file.stat().st_size
        with gzip.open(file) as opened:
            while block := opened.read(1 << 20):
                plain += len(block)
    return plain / stored


if __name__ == "__main__":
    main()
