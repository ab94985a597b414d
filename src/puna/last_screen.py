"""The last lines of a command: what was made, how good it is, where it lies, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from puna import storage
from puna.progress import seconds, size
from puna.records import read_records
from puna.storage import Place

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
        lines += ["", f"Documents  {folder / 'documents'}", _next("puna tokenizer", folder)]
    elif target == "tokenizer":
        lines += ["", f"Tokenizer  {folder / 'tokenizer' / 'tokenizer.model'}", _next("puna tokens", folder)]
    elif target == "mixture":
        lines += ["", f"Tokens  {folder / 'tokens'}", _next("puna train", folder)]
    elif target == "train":
        lines += [_trained(counts["train"]), "", f"Checkpoint  {folder / counts['train']['checkpoint']}"]
        lines.append(_next("puna run", folder))
    else:
        lines += [_trained(counts["train"]), "", *_quality(storage.read_json(folder / "evaluations" / "heldout.json"))]
        took = sum(record["seconds"] for record in records.values())
        lines += ["", f"The steps took {seconds(took)}.", f"Report  {folder / 'report.html'}"]
        lines.append(f"Next    puna generate {shlex.quote(str(folder))} 'The history of'")
    return "\n".join(lines)


def _documents(counts: Mapping[str, Any]) -> list[str]:
    lines = []
    epochs = counts.get("mixture", {}).get("epochs", {})
    for step, count in counts.items():
        station, _, name = step.partition(".")
        if station == "documents":
            kept, held = count["training"], count["heldout"]
            tokens = counts.get(f"tokens.{name}", {}).get("tokens")
            lines.append(
                f"{name:13} {kept['documents']:,} documents, {size(kept['bytes'])}"
                + (f", {tokens / 1e6:.2f}M tokens" if tokens else "")
                + (f", read {epochs[name]:.2f} times" if name in epochs else "")
                + f"; held out: {held['documents']:,}, {size(held['bytes'])}"
            )
    return lines


def _trained(count: Mapping[str, Any]) -> str:
    tokens = f"{count['tokens'] / 1e6:.2f}M tokens in {count['steps']:,} steps"
    return f"{'model':13} trained on {tokens}, last loss {count['loss']:.3f} nats a token"


def _quality(heldout: Mapping[str, Any]) -> list[str]:
    """A table of held-out bits per byte, and in words where a baseline is better than the model."""
    bits: Mapping[str, Mapping[str, float]] = heldout["bits_per_byte"]
    columns = [name for name in NAMES if any(name in row for row in bits.values())]
    if not columns:
        return ["No text is held out, so nothing was measured; heldout.share holds some out."]
    width = max(len(NAMES[name]) for name in columns) + 2
    lines = ["Held-out text, bits per byte (lower is better)"]
    lines.append(" " * 13 + "".join(f"{NAMES[name]:>{width}}" for name in columns))
    for source, row in sorted(bits.items(), key=lambda item: (item[0] == "all", item[0])):
        cells = (f"{row[name]:>{width}.3f}" if name in row else " " * width for name in columns)
        lines.append(f"{source:13}" + "".join(cells))
    for source, row in sorted(bits.items()):
        better = [NAMES[name] for name in columns if name != "model" and row.get(name, 9e9) <= row["model"]]
        if better:
            lines.append(f"On {source} text the model does not beat: {', '.join(better)}.")
        elif source != "all":
            lines.append(f"On {source} text the model beats all of them.")
    return lines


def _next(command: str, folder: Place) -> str:
    recipe = shlex.quote(str(folder / "recipe.toml"))
    return f"Next  {command} {recipe} --out {shlex.quote(str(folder))}"
