"""The metric `web_path` of data_pipeline.py: extracted pages to Parquet, through repeated lines, language, perplexity
and a classifier.

Ours: the steps lines, language, lm (no model is trained: it is brought along), perplexity, buckets, reference
(likewise), references and documents of a recipe, as `puna data` runs them, records and digests among them, in one
process. Peer: datatrove in web_path_peer.py, from ParquetReader to ParquetWriter, with one worker and with two; the
cheaper counts.
Its interpreter is a virtual environment of its own, since fastText's two packages share a module's name:

    python -m venv VENV
    VENV/bin/pip install 'datatrove[io]' fasttext-numpy2-wheel ufal.kenlm sentencepiece tokenizers xxhash fasteners
    PUNA_PEER=VENV/bin/python python benchmarks/data_pipeline.py web_path

Each run is a process of its own, and its time is that of the processor, of all its children too, from its start to its
end: imports and the reading of models are in it on both sides. Training is on neither. Pages are made_crawl.py's.

The same on both sides: pages, the first copy of a line stays, lid.176.ftz and its threshold, SentencePiece pieces and
n-grams, the percentile of perplexity up to which a page stays, of English pages by each side's own measure. Not the
same: fastText cannot read our classifier, so it trains its own (web_path_peer.py) on the same pages; it reads whole
pages, ours their first 5,000 characters. KenlmModel deletes line breaks, so a page is one sentence to it, whose words
at the ends of lines are joined; to ours line breaks are spaces. Our n-grams are mapped; its module reads their ARPA
file, which is 1 s of the processor a worker, unless KenLM's build_binary was on PATH. Kept sets are compared by ids;
`differ` is the share of pages that one side alone keeps, of those that either does.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from form import metric  # noqa: E402
from web_run import UNTRAINED  # noqa: E402

LIMIT = 5.0  # times the peer's documents a second of processor time
PEER = "PUNA_PEER"
SHARD = 16_000_000
SCORE = 0.5
RECIPE = """
name = "web-path"
seed = 3

[sources.commoncrawl]
inputs = ["none"]
share = 1
paragraphs = "keep-first"
languages = ["en"]
perplexity_percentiles = [30, {percentile}]
min_reference_score = {score}

[reference]
model = "{folder}/reference.json"

[lm.models]
en = "{folder}/en"
"""
PERCENTILE = 75  # some of the noise stays, so that no side's threshold lies at the edge of a kind


def web_path(quick: bool) -> dict[str, Any]:
    peer = os.environ.get(PEER, "")
    version = _version(peer)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        size, documents = prepare(folder, 12_000_000 if quick else 60_000_000, peer if version else "")
        runs = {"ours": [sys.executable, str(HERE / "web_path.py"), str(folder)]}
        if version:
            theirs = [peer, str(HERE / "web_path_peer.py"), "run", str(folder)]
            runs |= {f"datatrove {version}, {n} worker{'s' * (n > 1)}": theirs for n in (1, 2)}
        taken: dict[str, list[float]] = {name: [] for name in runs}
        parts: list[dict[str, float]] = []
        kept: dict[str, set[str]] = {}
        for turn in range(1 if quick else 3):
            for name, command in runs.items():
                target = folder / f"{turn}-{len(kept)}-{len(taken[name])}-{name.replace(' ', '-')}"
                workers = [name.partition(", ")[2][0]] if name != "ours" else []
                taken[name].append(_spent([*command, str(target), *workers], folder))
                kept[name] = _kept(target, ours=name == "ours")
                if name == "ours":
                    parts.append(json.loads((target / "stages.json").read_text()))
    rate = {name: documents / statistics.median(seconds) for name, seconds in taken.items()}
    ratio = {}
    print(f"web_path: {documents:,} pages, {size / 1e6:.0f} MB of text, documents a second of processor time")
    for name, value in rate.items():
        beside = ""
        if name != "ours":
            each = [them / us for us, them in zip(taken["ours"], taken[name], strict=True)]
            ratio[name] = {"median": statistics.median(each), "min": min(each), "max": max(each)}
            spread = f"{ratio[name]['median']:.2f} ({min(each):.2f} to {max(each):.2f})"
            differ = len(kept["ours"] ^ kept[name]) / max(1, len(kept["ours"] | kept[name]))
            beside = f"  ours is {spread} times as fast, kept sets differ by {differ:.1%}"
        print(f"  {name:30} {value:9,.1f}  keeps {len(kept[name]):,} pages{beside}", flush=True)
    whole = statistics.median(taken["ours"])
    print("  ours by stage, seconds of the processor and MB of input a second:")
    for stage in parts[0]:
        seconds = statistics.median(each[stage] for each in parts)
        speed = f"{size / 1e6 / seconds:8.1f} MB/s" if seconds else ""
        print(f"    {stage:24} {seconds:7.2f} {seconds / whole:6.1%} {speed}", flush=True)
    own = rate.pop("ours")
    best = max(rate, key=lambda name: rate[name]) if rate else ""
    return metric(own, "documents per CPU second", LIMIT, rate, {best: ratio[best]} if best else {})


def prepare(folder: Path, size: int, peer: str) -> tuple[int, int]:
    """Shards of pages, and the models of both sides; returns bytes of text and the number of pages."""
    from made_crawl import Pages
    from puna import storage
    from puna.data.document import Document, DocumentWriter, Origin, document_id
    from puna.data.quality import language, models
    from puna.recipe_data import LanguageModels

    made = Pages(5)
    each = iter(made)
    articles = [(models.rank(3, str(number)), made.article(400)) for number in range(1_000)]
    models.train(storage.place(folder), "en", articles, LanguageModels(pieces=8_000))
    training = [page for page in islice(each, 3_000) if page.kind in ("clean", "cited")]
    texts, keep = [page.text for page in training], [page.kind == "clean" for page in training]
    _train(folder, texts, keep)
    text = number = shard = 0
    english = []
    while text < size:
        with DocumentWriter(folder / "pages" / f"{shard:05d}.parquet") as writer:
            while writer.bytes < SHARD and text + writer.bytes < size:
                page, key = next(each), f"urn:{number}"
                origin = Origin("made.warc.gz", key, "made.warc.gz", number, page.url, "", "", "")
                identity = document_id("commoncrawl", "made.warc.gz", key)
                writer.write(Document(identity, "commoncrawl", key, "und", page.text, origin))
                if len(english) < 1_000 and page.kind != "foreign":
                    english.append(page.text)
                number += 1
        text += writer.bytes
        shard += 1
    (folder / "web.toml").write_text(
        (RECIPE + UNTRAINED).format(folder=folder.as_posix(), percentile=PERCENTILE, score=SCORE)
    )
    if peer:
        ngrams = next(file for end in ("binary", "arpa") if (file := folder / f"en.{end}").exists())
        known = {"language_model": str(language.model_file(None)), "ngrams": str(ngrams)}
        (folder / "peer.json").write_text(json.dumps(known | {"percentile": PERCENTILE, "score": SCORE}))
        (folder / "english.json").write_text(json.dumps(english))
        lines = [f"__label__{'keep' if k else 'drop'} {t}" for t, k in zip(texts, keep, strict=True)]
        (folder / "examples").write_text("\n".join(line.replace("\n", " ") for line in lines) + "\n")
        command = [peer, str(HERE / "web_path_peer.py"), "train", str(folder)]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return text, number


def _train(folder: Path, texts: list[str], keep: list[bool]) -> None:
    """Our classifier, by the recipe's own values."""
    from dataclasses import replace

    import numpy as np

    from puna import storage
    from puna.data.quality import examples, linear
    from puna.data.quality.hashed_words import runs
    from puna.recipe_data import Reference

    rule = Reference()
    found = [runs([text], examples.features(rule)).of(0) for text in texts]
    lengths = np.array([len(each) for each in found], np.int64)
    given = linear.Examples(np.array(keep), lengths, np.concatenate(found))
    rates = {"epochs": rule.epochs, "batch": rule.batch, "learning_rate": rule.learning_rate}
    model = linear.train(lambda: iter([given]), examples.features(rule), **rates)
    slope, intercept = linear.platt(model.logits_of(given), given.cited)
    linear.write(storage.place(folder), replace(model, slope=slope, intercept=intercept), {})


def ours(folder: Path, target: Path) -> None:
    """The steps of the recipe behind `extract`, one after another in this process; their seconds of the processor."""
    from puna import recipe, storage
    from puna.data import asked, verdicts
    from puna.data.document import read_column
    from puna.steps import Context, Step, run_steps

    chosen, name = recipe.load(folder / "web.toml"), "commoncrawl"
    spent: dict[str, float] = {}

    def extracted(context: Context) -> dict[str, Any]:
        Path(str(context.scratch)).mkdir(parents=True, exist_ok=True)
        documents = size = 0
        for shard in sorted((folder / "pages").glob("*.parquet")):
            os.link(shard, str(context.scratch / shard.name))
            texts = list(read_column(storage.place(shard), "text"))
            documents, size = documents + len(texts), size + sum(len(text.encode()) for text in texts)
        return {"kept": {"documents": documents, "bytes": size}}

    def no_overlap(context: Context) -> None:
        for index, shard in enumerate(sorted((folder / "pages").glob("*.parquet"))):
            rows = sum(1 for _ in read_column(storage.place(shard), "id"))
            storage.write(context.scratch / f"{index:05d}.overlap", bytes(4 * rows))

    def timed(step: Step) -> Step:
        def work(context: Context) -> Any:
            before = time.process_time()
            counts = step.work(context)
            spent[step.name] = time.process_time() - before
            return counts

        return Step(step.name, work, step.outputs, step.needs, step.values, step.version, step.reads)

    graph = [
        Step(f"extract.{name}", extracted, ("{work}/*.parquet",)),
        Step(f"duplicates.{name}", lambda context: {}, ()),
        *asked.of_source(chosen, name),
        *asked.of_models(chosen, [name]),
        *asked.of_pages(chosen, [name]),
        Step(f"overlap.{name}", no_overlap, ("{work}/*.overlap",), (f"extract.{name}",)),
    ]
    work = partial(verdicts.documents, chosen, (), name)
    before = tuple(step.name for step in graph)
    graph.append(Step(f"documents.{name}", work, (f"documents/{name}/*.parquet", f"heldout/{name}/*.parquet"), before))
    run_steps(storage.place(target), [timed(step) for step in graph], workers=1)
    (target / "stages.json").write_text(json.dumps(spent))


def _version(peer: str) -> str:
    """Of the peer; said and left out where it is not there."""
    if peer:
        found = subprocess.run(
            [peer, str(HERE / "web_path_peer.py"), "version"], capture_output=True, text=True, check=False
        )
        if not found.returncode:
            return found.stdout.strip()
        print(found.stderr.strip().splitlines()[-1])
    print(f"no peer beside ours: {PEER} names no interpreter with datatrove, fastText and KenLM ({__file__})")
    return ""


def _spent(command: list[str], folder: Path) -> float:
    """Seconds of the processor that a command takes, with all that it starts, what it leaves behind among it."""
    become_subreaper = 36
    ctypes.CDLL(None).prctl(become_subreaper, 1)
    paths = os.pathsep.join(map(str, (HERE.parent / "src", HERE.parent / "tests", HERE)))
    environment = os.environ | {"HF_ASSETS_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": paths}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        pass
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _kept(target: Path, *, ours: bool) -> set[str]:
    import pyarrow.parquet as pq

    found: set[str] = set()
    for shard in (target / "documents" if ours else target / "out").rglob("*.parquet"):
        found.update(pq.ParquetFile(shard).read(columns=["id"])["id"].to_pylist())
    return found


if __name__ == "__main__":
    ours(Path(sys.argv[1]), Path(sys.argv[2]))
