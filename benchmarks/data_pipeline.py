"""What the data steps cost beside their peer on the same pages: documents a second of processor time.

    python benchmarks/data_pipeline.py [NAME ...] [--json FILE] [--quick]

    paragraph_dedup     repeated lines taken out of pages, Parquet in and Parquet out
    web_path            extracted pages to Parquet through repeated lines, language, perplexity and a classifier

The pages of paragraph_dedup are made here, from a seed: words by a Zipf law, a third of the lines with letters other
than ASCII, boilerplate that many pages share, and paragraphs copied from page to page. Time is that of the processor,
of the whole tree of processes; ours and theirs run in turn, so the ratios hold where single figures do not.

Peer: datatrove, SentenceDedupSignature, SentenceFindDedups and SentenceDedupFilter (lines instead of sentences, n = 1,
the first copy stays, no page is dropped for being short) under LocalPipelineExecutor with one worker, which starts no
process beside the work itself. It keeps the first copy, so ours does here (`keep-first`). What is kept may differ in
lines that are the same in one normal form and not in the other: theirs deletes accents and all punctuation too, and
joins a number with its decimals.

What stands behind web_path, and how its peer is installed, is told in web_path.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from itertools import accumulate
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from form import metric  # noqa: E402
from turns import processor  # noqa: E402
from web_path import web_path  # noqa: E402

LIMIT = 4.0  # times the peer's documents a second that dedup alone is asked for
PARTS = 4
SHARD = 8_000_000  # bytes of text in a shard


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="*", help=f"of {', '.join(METRICS)}; all without one")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="fewer pages and rounds, within a minute")
    asked = parser.parse_args()
    unknown = set(asked.name) - set(METRICS)
    if unknown:
        parser.error(f"no figure is named {', '.join(sorted(unknown))}; there are {', '.join(METRICS)}")
    result = {}
    for name in asked.name or METRICS:
        result[name] = METRICS[name](asked.quick)
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")


def paragraph_dedup(quick: bool) -> dict[str, Any]:
    from puna.data.document import read_column

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        size, documents = write_pages(folder / "pages", 8_000_000 if quick else 24_000_000)
        runs: dict[str, Callable[[Path], None]] = {"ours": partial(ours, folder / "pages")}
        peer = _peer()
        if peer:
            runs[peer] = partial(theirs, folder / "pages")
        taken: dict[str, list[float]] = {name: [] for name in runs}
        kept = {}
        for turn in range(2 if quick else 3):
            for number, (name, run) in enumerate(runs.items()):
                target = folder / f"{turn}-{number}"
                before = processor()
                run(target)
                taken[name].append(processor() - before)
                kept[name] = _lines(target / "out", read_column if name == "ours" else _column)
    rate = {name: documents / statistics.median(seconds) for name, seconds in taken.items()}
    ratios = {name: [them / us for us, them in zip(taken["ours"], taken[name], strict=True)] for name in runs}
    ratios.pop("ours")
    ratio = {n: {"median": statistics.median(r), "min": min(r), "max": max(r)} for n, r in ratios.items()}
    print(f"paragraph_dedup: {documents:,} pages, {size / 1e6:.0f} MB of text, documents a second of processor time")
    for name, value in rate.items():
        beside = f"  ours is {ratio[name]['median']:.1f} times as fast" if name in ratio else ""
        lines, text = kept[name]
        print(f"  {name:20} {value:9,.0f}  keeps {lines:,} lines, {text / 1e6:.2f} MB{beside}", flush=True)
    own = rate.pop("ours")
    return metric(own, "documents per CPU second", LIMIT, rate, ratio)


def write_pages(folder: Path, size: int, seed: int = 5) -> tuple[int, int]:
    """Shards of about `size` bytes of made pages; returns the bytes and the number of pages."""
    from puna.data.document import Document, DocumentWriter, Origin, document_id

    pages, text, number, shard = made_pages(seed), 0, 0, 0
    while text < size:
        with DocumentWriter(folder / f"{shard:05d}.parquet") as writer:
            while writer.bytes < SHARD and text + writer.bytes < size:
                key = f"urn:{number}"
                origin = Origin("made.warc.gz", key, "made.warc.gz", number, f"http://{number}.example/", "", "", "")
                identity = document_id("commoncrawl", "made.warc.gz", key)
                writer.write(Document(identity, "commoncrawl", key, "und", next(pages), origin))
                number += 1
        text += writer.bytes
        shard += 1
    return text, number


def made_pages(seed: int) -> Any:
    """Texts of pages without end: 4 to 40 paragraphs, of which some are menus and notices that many pages have, and
    some were met before."""
    chance = random.Random(seed)
    letters, others = "etaoinshrdlucmfwypvbgkjqxz", "éüñçøåждиня"
    words = [
        "".join(chance.choices(letters, k=chance.randint(1, 10)))
        + (chance.choice(others) if chance.random() < 0.01 else "")
        for _ in range(40_000)
    ]
    weights = list(accumulate(1 / (rank + 3) for rank in range(len(words))))

    def paragraph(low: int, high: int) -> str:
        found = chance.choices(words, cum_weights=weights, k=chance.randint(low, high))
        found[::9] = [word.capitalize() + "," for word in found[::9]]
        return " ".join(found) + chance.choice((".", ".", ".", "!", "?", f" {chance.randint(1, 2022)}.", "…"))

    notices = [paragraph(2, 12) for _ in range(3_000)]
    copied = [paragraph(20, 80) for _ in range(2_000)]
    while True:
        page = [chance.choice(notices) for _ in range(chance.randint(0, 8))]
        page += [
            chance.choice(copied) if chance.random() < 0.05 else paragraph(8, 70) for _ in range(chance.randint(4, 32))
        ]
        page += [chance.choice(notices) for _ in range(chance.randint(0, 4))]
        yield "\n".join(page)


def ours(pages: Path, target: Path) -> None:
    """The parts of the step `lines.commoncrawl`, and its verdicts applied, one after another in this process."""
    import pyarrow as pa

    from puna.data.dedup import lines
    from puna.data.document import read_column, read_table, write_table

    rule = lines.Policy(keep_first=True)
    shards = sorted(pages.glob("*.parquet"))
    hashes = [target / f"{index}.hashes" for index in range(len(shards))]
    own = [target / f"{index}.own" for index in range(len(shards))]
    for index, shard in enumerate(shards):
        pairs = zip(read_column(shard, "id"), read_column(shard, "text"), strict=True)
        lines.write_hashes(hashes[index], own[index], pairs, rule, PARTS)
    verdicts = [target / f"{part}.verdicts" for part in range(PARTS)]
    for part, place in enumerate(verdicts):
        lines.find_repeats(hashes, part, (0, 1), rule, place)
    gathered = [target / f"{index}.lines" for index in range(len(shards))]
    for index, shard in enumerate(shards):
        lines.gather(own[index], verdicts, index, rule, gathered[index])
        table = read_table(shard)
        texts = list(lines.edited(table["text"].to_pylist(), lines.removed(gathered, index)))
        table = table.set_column(table.schema.get_field_index("text"), "text", pa.array(texts, pa.string()))
        write_table(target / "out" / shard.name, table.filter(pa.array([text != "" for text in texts])))


def theirs(pages: Path, target: Path) -> None:
    """Its own hash, xxh64, is given encoded text, which xxhash asks for since version 4."""
    import xxhash
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import SentenceDedupFilter, SentenceDedupSignature, SentenceFindDedups
    from datatrove.pipeline.dedup.sentence_dedup import SentDedupConfig
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter
    from datatrove.utils.word_tokenizers import WordTokenizer

    class NoWords(WordTokenizer):
        """Asked for by the classes, and never used where lines are compared and pages of any length stay."""

        def word_tokenize(self, text: str) -> list[str]:
            raise NotImplementedError

        sent_tokenize = span_tokenize = word_tokenize

    config = SentDedupConfig(
        n_sentences=1, split_sentences=False, only_dedup_in_index=False, min_doc_words=0, min_num_sentences=0
    )
    signatures, found = str(target / "signatures"), str(target / "found")
    shards = len(list(pages.glob("*.parquet")))
    with _silent():
        hashing = SentenceDedupSignature(signatures, PARTS, config, NoWords())
    hashing.hash_fc = lambda text: xxhash.xxh64_intdigest(text.encode())
    stages: list[tuple[int, list[Any]]] = [
        (shards, [ParquetReader(str(pages)), hashing]),
        (PARTS, [SentenceFindDedups(signatures, found, config=config)]),
        (
            shards,
            [
                ParquetReader(str(pages)),
                SentenceDedupFilter(found, config, language=NoWords()),
                ParquetWriter(str(target / "out")),
            ],
        ),
    ]
    with _silent():
        for number, (tasks, pipeline) in enumerate(stages):
            logs = str(target / f"logs-{number}")
            LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=logs).run()


def _peer() -> str:
    """Its name and version; said and left out where it is not installed."""
    try:
        version = metadata.version("datatrove")
    except metadata.PackageNotFoundError:
        print("datatrove is not installed, so there is nothing beside ours: pip install 'datatrove[io]' tokenizers")
        return ""
    return f"datatrove {version}"


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    from loguru import logger

    logger.remove()
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stderr(nothing):
        yield


def _lines(folder: Path, column: Callable[[Path, str], Any]) -> tuple[int, int]:
    lines = size = 0
    for shard in sorted(folder.rglob("*.parquet")):
        for text in column(shard, "text"):
            lines += text.count("\n") + 1
            size += len(text.encode())
    return lines, size


def _column(shard: Path, name: str) -> Any:
    import pyarrow.parquet as pq

    return pq.read_table(shard, columns=[name])[name].to_pylist()


METRICS: dict[str, Callable[[bool], dict[str, Any]]] = {"paragraph_dedup": paragraph_dedup, "web_path": web_path}

if __name__ == "__main__":
    main()
