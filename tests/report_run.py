"""A finished run as its files, made up: what the report is tested on."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from puna import recipe as recipes

STEPS = 120


def jsonl(lines: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


def training_lines(steps: int) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl as the loop writes them: a loss that falls with noise, a compilation in the first step."""
    noise = np.random.default_rng(1).normal(size=(2, steps)).tolist()
    falling = [3.1 + 5.2 * np.exp(-step / 12) + 1.4 * np.exp(-5 * step / steps) for step in range(1, steps + 1)]
    lines = []
    for step, (loss, wiggle, pause) in enumerate(zip(falling, *noise, strict=True), start=1):
        seconds = 0.62 + 0.02 * abs(pause) + 6.0 * (step == 1)
        rate = 3e-3 * min(step / 40, 0.55 + 0.45 * float(np.cos(np.pi * step / steps)))
        line = {"step": step, "tokens": step * 16_384, "loss": loss + 0.06 * wiggle, "learning_rate": rate}
        line |= {"grad_norm": 0.8, "seconds": seconds, "tokens_per_second": 16_384 / seconds, "skipped": False}
        lines.append(line)
    return lines


def record(step: str, counts: Any, needs: tuple[str, ...] = (), seconds: float = 1.0) -> dict[str, Any]:
    """A done-record as steps.py writes it."""
    mark = f"{len(step):032x}"
    outputs = {f"work/{step}/0.json": {"digest": f"xxh3:{mark}"}, f"{step}/0.bin": {"digest": f"xxh3:{mark}"}}
    inputs = {need: f"xxh3:{len(need):032x}" for need in needs}
    made = {"format": 1, "step": step, "fingerprint": mark, "values": {}, "inputs": inputs, "outputs": outputs}
    work = {"tasks": 4, "seconds": 1.8 * seconds}
    energy = {"cpu_seconds": 1.7 * seconds}
    return made | {"produced": f"xxh3:{mark}", "counts": counts, "seconds": seconds, "work": work, "energy": energy}


def quality_records() -> list[dict[str, Any]]:
    """Records of the steps that filter a crawl, with no more than what they count."""
    lines = {
        "documents": 9000,
        "lines": 120_000,
        "repeated": 45_000,
        "gone": {"lines": 45_000, "bytes": 1_400_000, "documents": 7200, "emptied": 210},
        "examples": [{"count": 1204, "text": "all rights reserved 0000"}, {"count": 811, "text": "read more"}],
    }
    near = {
        "documents": 900,
        "candidates": 31,
        "groups": 4,
        "gone": {"documents": 6, "bytes": 90_100},
        "examples": [{"gone": "0a" * 16, "kept": "0b" * 16, "shared": 0.9312}],
    }
    test = {
        "pages": 812,
        "cited": 406,
        "hosts": 204,
        "base": 0.5,
        "average_precision": 0.8125,
        "brier": 0.17,
        "reliability": [
            {"pages": 301, "score": 0.08, "cited": 0.11},
            {"pages": 0, "score": None, "cited": None},
            {"pages": 511, "score": 0.77, "cited": 0.74},
        ],
        "thresholds": {
            "threshold": [0.0, 0.25, 0.31, 0.5],
            "precision": [0.5, 0.64, 0.66, 0.79],
            "recall": [1.0, 0.97, 0.95, 0.72],
            "kept": [1.0, 0.75, 0.71, 0.46],
        },
    }
    reference = {"off": None, "matched": 4100, "positives": 4100, "negatives": 4100, "test": test}
    shared = {"id": "0c" * 16, "asked": 3, "quoted": 0, "items": ["boolq/17"], "text": "is the sky of mars blue"}
    contamination = {
        "documents": 9000,
        "sharing": 7,
        "benchmarks": {"boolq": {"documents": 3, "quoted": 4, "examples": [shared]}},
    }
    known = {"benchmarks": {"boolq": {"items": 3270, "without": 41, "grams": 90_000}}, "grams": 90_000, "lengths": [13]}
    trained = {"en": {"pieces": 26_675, "documents": 980, "tokens": 800_100, "heldout_perplexity": 311.25}}
    counts = {
        "lines.commoncrawl": lines,
        "near.books": near,
        "language.commoncrawl": {"documents": 9000, "languages": {"": 12, "en": 8000, "fr": 988}},
        "lm": {"trained": trained},
        "perplexity.commoncrawl": {"documents": 9000},
        "buckets.commoncrawl": {"en": [280.25, 512.5]},
        "reference": reference,
        "references.commoncrawl": {"documents": 9000, "off": None, "histogram": [100, 200]},
        "benchmarks": known,
        "contamination.commoncrawl": contamination,
        "common": {"common": 2, "items": {"boolq": {"items": 1, "examples": ["9"]}}, "nowhere": ["piqa"]},
    }
    return [{"step": step, "counts": counted} for step, counted in counts.items()]


def cloze_files() -> dict[str, Any]:
    """Cloze items and answers of two sources, of which the second has no n-gram model."""
    item = {"document": "0d" * 16, "stretch": 3, "passage": "was born in the", "right": 1, "counts": [51, 52, 51, 50]}
    item |= {"choices": ["river", "city", "island", "valley"]}

    def row(**values: float) -> dict[str, Any]:
        told = {name: {"mean": mean, "error": 0.0125} for name, mean in values.items()}
        return {"items": 400, "cut": 3} | told

    of_both = {"model": 0.675, "ngram": 0.5525, "frequency": 0.265, "chance": 0.25, "difference": 0.1225}
    results = {"wikipedia": row(**of_both), "github": row(model=0.5), "all": row(model=0.6)}
    sources = {"wikipedia": {"items": [item], "ngram": [[-9.5, -8.5, -7.5, -9.0]]}, "github": {"items": [item]}}
    told = {"rule": 1, "norm": "none", "checkpoint": "step-000120", "picked": {"wikipedia": [1], "github": [0]}}
    return {
        "evaluations/cloze.json": {"format": 1, "results": results} | told,
        "evaluations/cloze_items.json": {"format": 1, "rule": 1, "seed": 1, "sources": sources},
    }


def run_files() -> dict[str, Any]:
    """The files of a finished run: relative path -> text, or a value to write as JSON."""

    def part(documents: int, size: int, *examples: tuple[str, str]) -> dict[str, Any]:
        shown = {"examples": [{"key": key, "text": text} for key, text in examples]} if examples else {}
        return {"documents": documents, "bytes": size} | shown

    wiki, packages = ("enwiki-latest-pages-articles1.xml.bz2", "gensim 4.4.0"), ("networkx 3.4.2", "numpy 2.3.1")
    inputs = {
        "wikipedia": [
            {"declared": f"package:gensim/{wiki[0]}", "dump": wiki[0], "version": wiki[1], "size": 5_120_331}
            | {"digest": "xxh3:00f3a1c2b4d5e6f7a8b9c0d1e2f3a4b5"}
        ],
        "github": [
            {"declared": f"package:{name.split()[0]}", "dump": name, "version": name, "size": 6_300_000 + index}
            | {"digest": f"xxh3:{index:032x}"}
            for index, name in enumerate(packages)
        ],
    }
    extract = {
        "wikipedia": {
            "records": 4122,
            "input_bytes": 5_120_331,
            "kept": part(2386, 10_156_243),
            "dropped": {
                "redirect": part(1202, 88_000, ("10231", "#REDIRECT [[Anarchism]]")),
                "namespace": part(312, 2_140_000),
                "min_characters": part(119, 21_000),
                "disambiguation": part(101, 73_500),
            },
            "set_aside": {"count": 2, "examples": [{"file": wiki[0], "key": "10231", "reason": "broken XML"}]},
            "tasks": 12,
        },
        "github": {
            "records": 3310,
            "input_bytes": 24_600_001,
            "kept": part(1811, 12_322_656),
            "dropped": {
                "drop_paths": part(640, 7_100_000, ("torch/_vendor/packaging/version.py", "")),
                "max_line_length": part(31, 900_300),
                "min_alphanumeric": part(1, 120),
                "min_characters": part(824, 20_400),
            },
            "set_aside": {"count": 0, "examples": []},
            "tasks": 9,
        },
    }
    documents = {
        "wikipedia": {
            "training": part(2310, 9_870_123),
            "heldout": part(61, 251_020),
            "dropped": {"duplicate": part(3, 4_100), "overlap": part(12, 31_000)},
        },
        "github": {
            "training": part(1630, 11_300_456),
            "heldout": part(140, 902_100),
            "dropped": {"duplicate": part(41, 120_100), "overlap": part(0, 0)},
        },
    }
    tokens = {
        "wikipedia": {"tokens": 3_310_220, "documents": 2310, "bytes": 9_870_123},
        "github": {"tokens": 3_990_104, "documents": 1630, "bytes": 11_300_456},
    }
    records = [record("inputs", inputs, seconds=0.4)]
    for source in ("github", "wikipedia"):
        before = (f"extract.{source}", f"duplicates.{source}")
        records += [
            record(before[0], extract[source], ("inputs",), 41.2),
            record(before[1], documents[source]["dropped"]["duplicate"], before[:1], 2.2),
            record(f"documents.{source}", documents[source], before, 6.4),
        ]
        records.append(record(f"tokens.{source}", tokens[source], (f"documents.{source}", "tokenizer"), 3.3))
    mixture = {
        "format": 1,
        "manifest": "xxh3:00ff",
        "context": 256,
        "batch_windows": 64,
        "asked": 24_000,
        "windows": STEPS * 64,
        "steps": STEPS,
        "capped_by": "wikipedia",
        "missing": {"books": "0.1"},
        "sources": {
            "github": {"share": "0.3", "weight": 3, "epoch_windows": 15_586, "windows": 2304}
            | {"epochs": 0.148, "max_epochs": None},
            "wikipedia": {"share": "0.6", "weight": 7, "epoch_windows": 12_930, "windows": 5376}
            | {"epochs": 0.416, "max_epochs": 6.0},
        },
    }
    ready = ("documents.github", "documents.wikipedia")
    pieces = {"pieces": 4096, "sample_documents": 1980, "sample_bytes": 8_000_000}
    records += [
        record("tokenizer", pieces, ready, 21.0),
        record("manifest", {"digest": "xxh3:00ff"}, ("tokens.github", "tokens.wikipedia"), 0.3),
        record("mixture", {}, ("manifest",), 0.1),
        record("baselines", {}, ("manifest", *ready), 38.1),
        record("train", {}, ("mixture",), 402.9),
        record("evaluate", {}, ("train", "baselines"), 60.0),
    ]
    versions = {"torch": "2.13.0", "numpy": "2.3.1", "python": "3.11.7"}
    segment = versions | {
        "start_step": 0,
        "cpu": "a processor",
        "cpus": 2,
        "features": ["avx2", "fma"],
        "dtype": "float32",
    }
    scores = {
        "model": (2.081, 2.213, 1.660),
        "ngram": (2.205, 2.301, 1.714),
        "xz": (2.310, 2.655, 1.872),
        "xz_primed": (2.120, 2.284, 1.411),
        "zstd": (2.351, 2.702, 1.902),
        "zstd_primed": (2.162, 2.331, 1.440),
        "uniform": (4.103, 4.022, 4.241),
    }
    heldout = {
        "bits_per_byte": {
            source: {name: values[index] for name, values in scores.items()}
            for index, source in enumerate(("all", "wikipedia", "github"))
        },
        "bytes": {"all": 1_153_120, "wikipedia": 251_020, "github": 902_100},
        "documents": {"all": 201, "wikipedia": 61, "github": 140},
        "tokens": {"all": 402_331, "wikipedia": 84_100, "github": 318_231},
    }
    prose = (
        " Anarchism is the most of the states of the world, and the first was a large number of the American school in "
        "the 19th century. In 1871, the state of Alabama was named after the people who had been in the north.\n\n"
        "== History ==\nThe Greek name of the word Achilles was used"
    )
    code = (
        '    """Return the sum of two arrays.\n    """\n    if not isinstance(first, Tensor):\n\treturn self._op(first)'
    )
    gallery = (("The city of", prose), ("def add(first, second):\n", code), ("", "א ב 12\x07\u202e!"))
    records += quality_records()
    return (
        {f"records/{one['step']}.json": one for one in records}
        | cloze_files()
        | {
            "recipe.toml": recipes.as_toml(recipes.load("laptop")),
            "metrics.jsonl": jsonl(training_lines(STEPS)),
            "machine.json": [segment | {"threads": 2}, segment | {"threads": 1, "start_step": 60}],
            "tokens/manifest.json": {"format": 1, "digest": "xxh3:00ff", "tokenizer": "xxh3:0aff"},
            "tokens/mixture.json": mixture,
            "evaluations/heldout.json": heldout
            | {"format": 1, "context": 256, "stride": 128, "checkpoint": "step-000120"},
            "evaluations/samples.json": {
                "format": 1,
                "settings": {"tokens": 128, "temperature": 0.8, "top_p": 0.95, "seed": 1},
                "samples": [
                    {"prompt": prompt, "text": text, "seed": seed} for seed, (prompt, text) in enumerate(gallery)
                ],
            },
        }
    )
