"""The report tells a run's whole story from its files alone, safely, and the same each time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from puna import recipe as recipes
from puna.report import facts, figures, markup, write

HOSTILE = (
    'x</pre><script>alert("1")</script><img src=http://evil.example/a.png>\x00\x1b[31m\u202eevil\u2066 \ud800 & <b>'
)
MAIN_SECTIONS = (
    "What went in",
    "Repeats and held-out text",
    "Tokenizer",
    "Mixture",
    "Loss and learning rate",
    "Throughput",
    "Samples",
    "Bits per byte",
    "Where the time went",
    "Recipe",
    "Versions and machine",
    "Digests",
)
Make = Callable[..., Path]


@pytest.fixture()
def make(tmp_path: Path) -> Make:
    """A run folder as the steps leave it; files named in `without` are missing, and so are those of `only`'s others."""

    def made(*, without: tuple[str, ...] = (), steps: int = 300, **changed: Any) -> Path:
        folder = tmp_path / "laptop ü"
        for name, content in (_files(steps) | changed).items():
            if name in without:
                continue
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        return folder

    return made


def test_the_page_has_every_section_of_the_story_in_order(make: Make) -> None:
    page = _page(make())
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles == list(MAIN_SECTIONS)
    assert "Not there yet" not in page


def _files(steps: int) -> dict[str, Any]:
    made: dict[str, Any] = {"recipe.toml": recipes.as_toml(recipes.load("laptop"))}
    documents = {
        "wikipedia": {
            "training": {"documents": 2310, "bytes": 9_870_123},
            "heldout": {"documents": 61, "bytes": 251_020},
            "dropped": {"duplicate": {"documents": 3, "bytes": 4_100}, "overlap": {"documents": 12, "bytes": 31_000}},
        },
        "github": {
            "training": {"documents": 1630, "bytes": 11_300_456},
            "heldout": {"documents": 140, "bytes": 902_100},
            "dropped": {"duplicate": {"documents": 41, "bytes": 120_100}, "overlap": {"documents": 0, "bytes": 0}},
        },
    }
    counts: dict[str, tuple[Any, list[str], float]] = {
        "inputs": (
            {
                "wikipedia": [
                    {
                        "declared": "package:gensim/test/test_data/enwiki-latest-pages-articles1.xml.bz2",
                        "dump": "enwiki-latest-pages-articles1.xml.bz2",
                        "version": "gensim 4.4.0",
                        "size": 5_120_331,
                        "digest": "xxh3:00f3a1c2b4d5e6f7a8b9c0d1e2f3a4b5",
                    }
                ],
                "github": [
                    {
                        "declared": f"package:{name}",
                        "dump": f"{name} {version}",
                        "version": version,
                        "size": size,
                        "digest": f"xxh3:{size:032x}",
                    }
                    for name, version, size in (
                        ("networkx", "3.4.2", 4_100_220),
                        ("numpy", "2.3.1", 6_300_001),
                        ("sympy", "1.14.0", 13_900_720),
                        ("torch", "2.13.0", 21_400_910),
                    )
                ],
            },
            [],
            0.4,
        ),
        "extract.wikipedia": (
            {
                "records": 4120,
                "kept": {"documents": 2386, "bytes": 10_156_243},
                "dropped": {
                    "redirect": {"documents": 1202, "bytes": 88_000},
                    "namespace": {"documents": 312, "bytes": 2_140_000},
                    "min_characters": {"documents": 119, "bytes": 21_000},
                    "disambiguation": {"documents": 101, "bytes": 73_500},
                },
                "set_aside": {
                    "count": 2,
                    "examples": [
                        {"file": "enwiki-latest-pages-articles1.xml.bz2", "key": "10231", "reason": "broken XML"}
                    ],
                },
                "tasks": 12,
            },
            ["inputs"],
            41.2,
        ),
        "extract.github": (
            {
                "records": 3310,
                "kept": {"documents": 1811, "bytes": 12_322_656},
                "dropped": {
                    "drop_paths": {"documents": 640, "bytes": 7_100_000},
                    "max_line_length": {"documents": 31, "bytes": 900_300},
                    "min_alphanumeric": {"documents": 1, "bytes": 120},
                    "max_bytes": {"documents": 3, "bytes": 4_120_000},
                    "min_characters": {"documents": 824, "bytes": 20_400},
                },
                "set_aside": {"count": 0, "examples": []},
                "tasks": 9,
            },
            ["inputs"],
            8.8,
        ),
        "duplicates": (
            {source: value["dropped"]["duplicate"] for source, value in documents.items()},
            ["extract.wikipedia", "extract.github"],
            2.2,
        ),
        "documents": (documents, ["duplicates"], 6.4),
        "tokenizer": ({"pieces": 4096, "sample_documents": 1980, "sample_bytes": 8_000_000}, ["documents"], 21.0),
        "tokens": (
            {
                "wikipedia": {"tokens": 3_310_220, "documents": 2310, "bytes": 9_870_123},
                "github": {"tokens": 3_990_104, "documents": 1630, "bytes": 11_300_456},
            },
            ["documents", "tokenizer"],
            7.7,
        ),
        "baselines": ({}, ["tokens"], 38.1),
        "train": ({}, ["tokens"], 402.9),
        "heldout": ({}, ["train"], 22.0),
        "samples": ({}, ["train"], 9.1),
    }
    for step, (counted, needs, spent) in counts.items():
        made[f"records/{step}.json"] = {
            "format": 1,
            "step": step,
            "version": 1,
            "fingerprint": f"{abs(hash(step)) if False else len(step):032x}",
            "values": {},
            "inputs": {need: f"xxh3:{len(need):032x}" for need in needs},
            "outputs": {f"{step}/00000.bin": {"size": 10, "modified": 1, "digest": f"xxh3:{len(step) + 7:032x}"}},
            "produced": f"xxh3:{len(step) + 99:032x}",
            "counts": counted,
            "seconds": spent,
        }
    made["metrics.jsonl"] = "".join(json.dumps(line) + "\n" for line in _training(steps))
    made["machine.json"] = [
        {
            "processor": "x86-64, 2 cores",
            "threads": 2,
            "dtype": "bfloat16",
            "compile": True,
            "versions": {"python": "3.11.7", "torch": "2.13.0", "numpy": "2.3.1"},
        },
        {
            "processor": "x86-64, 2 cores",
            "threads": 1,
            "dtype": "bfloat16",
            "compile": True,
            "versions": {"python": "3.11.7", "torch": "2.13.0", "numpy": "2.3.1"},
        },
    ]
    made["tokens/manifest.json"] = {"format": 1, "digest": "xxh3:00ff"}
    made["tokens/mixture.json"] = {
        "format": 1,
        "weights": {"github": 1, "wikipedia": 1},
        "windows": 12000,
        "steps": steps,
        "batch_windows": 40,
        "epochs": {"github": 0.8, "wikipedia": 1.1},
        "capped_by": None,
        "asked": {},
    }
    scores = {
        "model": (2.081, 2.213, 1.66),
        "xz": (2.31, 2.655, 1.87),
        "xz_primed": (2.12, 2.284, 1.41),
        "zstd": (2.35, 2.70, 1.90),
        "zstd_primed": (2.16, 2.33, 1.44),
        "ngram": (2.20, 2.301, 1.71),
        "uniform": (4.10, 4.02, 4.24),
    }
    made["evaluations/heldout.json"] = {
        "format": 1,
        "bits_per_byte": {
            source: {name: values[index] for name, values in scores.items()}
            for index, source in enumerate(("all", "wikipedia", "github"))
        },
        "bytes": {"all": 1_153_120, "wikipedia": 251_020, "github": 902_100},
        "documents": {"all": 201, "wikipedia": 61, "github": 140},
        "tokens": {"all": 402_331, "wikipedia": 84_100, "github": 318_231},
        "context": 256,
        "stride": 128,
        "checkpoint": "checkpoints/step-000300",
    }
    made["evaluations/samples.json"] = {
        "format": 1,
        "settings": {"tokens": 128, "temperature": 0.8, "top_p": 0.95, "seed": 1},
        "samples": [
            {
                "prompt": "The city of",
                "text": " Anarchism is the most of the states of the world, and the first was a large number of "
                "the American school in the 19th century. In 1871, the state of Alabama was named after the\n"
                "people who had been in the north of the river, and it is the second of the three most common.\n\n"
                "== History ==\nThe Greek name of the word Achilles was used",
                "seed": 1,
            },
            {
                "prompt": "def add(first, second):\n",
                "text": '    """Return the sum of two arrays.\n\n    Parameters\n    ----------\n    x : ndarray\n'
                '    """\n    if not isinstance(first, Tensor):\n        return self._op(first, other=second)\n',
                "seed": 2,
            },
            {"prompt": "", "text": HOSTILE, "seed": 3},
            {"prompt": "שלום", "text": " עולם, an Arabic word: كتاب and 12 of them\ttabbed", "seed": 4},
        ],
    }
    return made


def _training(steps: int) -> list[dict[str, Any]]:
    noise = np.random.default_rng(1).normal(size=(2, steps))
    return [
        {
            "step": step,
            "tokens": step * 40_960,
            "loss": 3.1
            + 5.2 * float(np.exp(-step / 12))
            + 1.4 * float(np.exp(-step / 120))
            + 0.06 * noise[0, step - 1],
            "learning_rate": 1e-3 * min(step / 30, 0.55 + 0.45 * float(np.cos(np.pi * step / steps))),
            "seconds": 1.3 + 0.05 * abs(noise[1, step - 1]) + (6.0 if step == 1 else 0.0),
            "grad_norm": 1.0,
            "skipped": False,
        }
        for step in range(1, steps + 1)
    ]


def _page(folder: Path) -> str:
    return write(folder).read_text("utf-8")
