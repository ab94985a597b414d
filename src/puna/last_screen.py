"""The last lines of a command: what was made, how good it is, where it lies, and what to type next."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from puna import storage
from puna.progress import WIDTH, seconds, size
from puna.records import read_records
from puna.storage import Place
from puna.tokens.table_1 import paper_epochs

NAMES = {
    "model": "this model",
    "ngram": "5-gram",
    "xz": "xz -9",
    "xz_primed": "xz primed",
    "zstd": "zstd -19",
    "zstd_primed": "zstd primed",
    "uniform": "uniform",
}


def last_screen(folder: Place, target: str | None) -> str:
    """What a run folder holds after `target` (None: the whole way) was brought to done."""
    records = read_records(folder)
    counts = {step: record["counts"] for step, record in records.items()}
    lines = ["", *_documents(counts)]
    if target == "documents":
        lines += ["", *_end("Documents", folder / "documents", f"tokenizer {_again(folder)}")]
    elif target == "tokenizer":
        lines += ["", *_end("Tokenizer", folder / "tokenizer" / "tokenizer.model", f"tokens {_again(folder)}")]
    elif target == "mixture":
        lines += ["", *_end("Tokens", folder / "tokens", f"train {_again(folder)}")]
    elif target == "train":
        lines += ["", _trained(counts["train"]), ""]
        lines += _end("Checkpoint", folder / counts["train"]["checkpoint"], f"run {_again(folder)}")
    else:
        order = records["baselines"]["values"]["ngram_order"]
        bits = storage.read_json(folder / "evaluations" / "heldout.json")["bits_per_byte"]
        quality = _quality(bits, NAMES | {"ngram": f"{order}-gram"})
        took = seconds(sum(record["seconds"] for record in records.values()))
        asked = cloze(storage.read_json(folder / "evaluations" / "cloze.json")["results"], f"{order}-gram")
        lines += [
            "",
            _trained(counts["train"]),
            "",
            *quality,
            *asked,
            *_benchmarks(folder, counts),
            "",
            f"All steps together took {took}.",
        ]
        lines += _end("Report", folder / "report.html", f"generate {shlex.quote(str(folder))} 'The history of'")
    return "\n".join(lines)


def _documents(counts: Mapping[str, Any]) -> list[str]:
    """A table of the sources; what later stations say of them stands there once they have. `paper`: how often the paper
    read the source (Table 1)."""
    epochs = counts.get("mixture", {}).get("epochs", {})
    rows = [("source", "documents", "text", "tokens", "read", "paper", "held out")]
    for step, count in counts.items():
        station, _, name = step.partition(".")
        if station == "documents":
            kept, held = count["training"], count["heldout"]
            tokens = counts.get(f"tokens.{name}", {}).get("tokens")
            row = (name, f"{kept['documents']:,}", size(kept["bytes"]), _count(tokens) if tokens else "")
            times = f"{epochs[name]:.2f} times" if name in epochs else ""
            paper = f"{given:.2f}" if times and (given := paper_epochs(name)) else ""
            rows.append((*row, times, paper, f"{held['documents']:,}, {size(held['bytes'])}"))
    return _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns beside each other, those below whose title nothing stands left out."""
    shown = [column for column in zip(*rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in shown]
    return [
        f"{row[0]:{widths[0]}}" + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in zip(*shown, strict=True)
    ]


def _trained(count: Mapping[str, Any]) -> str:
    steps = f"{count['steps']:,} step{'s' if count['steps'] != 1 else ''}"
    return f"Model trained on {_count(count['tokens'])} tokens in {steps}; last loss {count['loss']:.3f} nats a token."


def _count(number: float) -> str:
    """Tokens as recipes write them: 950, 6.1K, 5.51M, 1.40T."""
    for least, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if number >= least:
            return f"{number / least:,.2f}{unit}"
    return f"{number / 1e3:.1f}K" if number >= 1e3 else f"{number:.0f}"


def _quality(bits: Mapping[str, Mapping[str, float]], names: Mapping[str, str]) -> list[str]:
    """A table of held-out bits per byte, and in words where a baseline is better than the model."""
    columns = [name for name in names if any(name in row for row in bits.values())]
    if not columns:
        return ["No text is held out, so nothing was measured; heldout.share holds some out."]
    rows = sorted(
        (source for source in bits if source != "all" or len(bits) > 2), key=lambda name: (name == "all", name)
    )
    first = max(map(len, rows))
    apart = 2 if first + sum(len(names[name]) + 2 for name in columns) <= WIDTH else 1
    widths = {name: len(names[name]) + apart for name in columns}
    lines = ["Held-out text, bits per byte (lower is better; primed: saw the training text)"]
    lines.append(" " * first + "".join(f"{names[name]:>{width}}" for name, width in widths.items()))
    for source in rows:
        row = bits[source]
        cells = (f"{row[name]:.3f}" if name in row else "" for name in columns)
        lines.append(
            f"{source:{first}}" + "".join(f"{cell:>{widths[name]}}" for name, cell in zip(columns, cells, strict=True))
        )
    for source in rows:
        row = bits[source]
        better = [names[name] for name in columns if name != "model" and row.get(name, 9e9) <= row["model"]]
        others = len(row) > 1
        if better:
            lines.append(f"{source}: the model does not beat {', '.join(better)}")
        elif others:
            lines.append(f"{source}: the model beats all others")
    return lines


def cloze(results: Mapping[str, Any], ngram: str) -> list[str]:
    """A table of cloze items by source, below an empty line; nothing where there are none. ngram: that model's name."""
    if not results:
        return []

    def percent(value: Mapping[str, Any] | None, sign: str = "") -> str:
        if value is None:
            return ""
        return f"{100 * value['mean']:{sign}.1f}" + ("" if value["error"] is None else f" ± {100 * value['error']:.1f}")

    rows: list[tuple[str, ...]] = [("", "items", "this model", ngram, "chance", f"model - {ngram}")]
    for source in sorted(results, key=lambda name: (name == "all", name)):
        row = results[source]
        if source != "all" or len(results) > 2:
            measured = [percent(row.get(name)) for name in ("model", "ngram", "chance")]
            rows.append((source, f"{row['items']:,}", *measured, percent(row.get("difference"), "+")))
    head = "Cloze of held-out text: which of 4 equally frequent words comes next, % right"
    return ["", head, *_aligned(rows)]


def _benchmarks(folder: Place, counts: Mapping[str, Any]) -> list[str]:
    """A line for each benchmark that was asked, and where the paper's tables with the model's row lie."""
    results = counts.get("tables", {}).get("results", [])
    if not results:
        return []
    rows: list[tuple[str, ...]] = [("benchmark", "shots", "items", "metric", "%")]
    for each in results:
        error = "" if each["error"] is None else f" ± {100 * each['error']:.1f}"
        figures = (each["task"], str(each["shots"]), f"{each['items']:,}", each["metric"])
        rows.append((*figures, f"{100 * each['mean']:.1f}{error}"))
    where = folder / "evaluations" / "tables" / "tables.md"
    return ["", *_aligned(rows), f"The paper's tables, with a row of this model: {where}"]


def _end(what: str, where: Place, command: str) -> list[str]:
    width = max(len(what), len("Next")) + 2
    return [f"{what:{width}}{where}", f"{'Next':{width}}{called()} {command}"]


def _again(folder: Place) -> str:
    return f"{shlex.quote(str(folder / 'recipe.toml'))} --out {shlex.quote(str(folder))}"


def called() -> str:
    """`puna`, or how it was called where that finds no command or another one."""
    called, found = Path(sys.argv[0]), shutil.which("puna")
    if called.name != "puna" or not called.exists() or (found and called.samefile(found)):
        return "puna"
    return shlex.quote(sys.argv[0])
