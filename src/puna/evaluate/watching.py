"""Benchmarks along a training (section 3.7, Figure 2): each checkpoint as it lands, in a process of their own.

Nothing of the run is touched but its folder evaluations/benchmarks. The loop takes the newest checkpoint that was not
asked yet, so that one whose training is faster than its benchmarks is seen at its end; it ends when training has. One
that another process asks meanwhile is passed over, and taken when that is done: what was answered is kept.

What came of it stands in curve.json and curve.md: a row for each checkpoint, with training loss and held-out bits per
byte of that step, and how each benchmark goes with them. Figure 2 is drawn of it in report/figure2.py.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from puna import storage
from puna.errors import InputError
from puna.evaluate.asking import Asked, Asking, ask
from puna.evaluate.results import NAME, kept, others_of, told_of
from puna.evaluate.tasks import PACK
from puna.formats import RESULTS
from puna.lock import Held
from puna.progress import say
from puna.storage import Place
from puna.train.history import METRICS_NAME, lines

PAUSE = 5.0  # seconds between two looks
CURVE = "curve"
CHECKPOINT = re.compile(r"step-([0-9]+)")
FEWEST = 3  # checkpoints of which a correlation says anything


def watch(run: Place, asking: Asking, sleep: Callable[[float], object] = time.sleep) -> Iterator[Asked]:
    """Ask each checkpoint of `run` as it lands, until its training has ended. InputError for what is no run."""
    if not storage.is_file(run / "recipe.toml"):
        raise InputError("is no run folder", where=str(run), mend="--watch takes one; a checkpoint is asked without it")
    seen: set[str] = set()
    waited: set[str] = set()
    while True:
        ended = storage.is_file(run / "records" / "train.json")  # before the look, so that nothing lands unseen
        left = [path for path in landed(run) if path.name not in seen]
        if ended and not left:
            return
        for path in reversed(left):
            try:
                asked = ask(path, asking)
            except Held as error:
                if path.name not in waited:
                    say(f"{error.where} is {error.what}: it is asked when that is done")
                waited.add(path.name)
                continue
            except InputError:
                if storage.is_file(path / "checkpoint.json"):
                    raise
                seen.add(path.name)  # training removed it, as it keeps few
                break
            seen.add(path.name)
            write_curve(run)
            yield asked
            break
        else:
            sleep(PAUSE)


def landed(run: Place) -> list[Place]:
    """Whole checkpoints, in order of their steps."""
    return [path.parent for path in storage.listing(run / "checkpoints", "*/checkpoint.json")]


def curve(run: Place) -> list[dict[str, Any]]:
    """A row for each checkpoint that was asked: step, tokens, loss, bits_per_byte where they were measured, and the
    value and standard error of each task."""
    metrics = lines(run / METRICS_NAME)
    steps = {line["step"]: line for line in metrics if "loss" in line}
    heldout = {line["step"]: line["heldout"] for line in metrics if isinstance(line.get("heldout"), Mapping)}
    rows = []
    for path in storage.listing(run / "evaluations" / "benchmarks", f"*/{NAME}"):
        named = CHECKPOINT.fullmatch(path.parent.name)
        if named is None:  # what somebody had written there by --out
            continue
        step = int(named[1])
        row: dict[str, Any] = {"step": step, "tokens": steps.get(step, {}).get("tokens")}
        row["loss"] = steps.get(step, {}).get("loss")
        row["bits_per_byte"] = heldout.get(step, {}).get("all", {}).get("bits_per_byte")
        told = kept(path.parent)
        for each in told_of(told):  # those of earlier calls behind: the newest of a task counts
            value = each["values"].get(each["metric"])
            if value is not None:
                name = f"{each['task']}-{each['shots']}"
                row.setdefault(name, {"mean": value["mean"], "error": value["error"]})
        for each in others_of(told):
            value = next(iter(each["values"].values()), None)
            if value is not None:
                shots = "" if each["shots"] is None else each["shots"]
                row.setdefault(f"{each['task']}-{shots}", {"mean": value["mean"], "error": value["error"]})
        rows.append(row)
    return sorted(rows, key=lambda row: row["step"])


def write_curve(run: Place) -> None:
    rows = curve(run)
    folder = run / "evaluations" / "benchmarks"
    value = {"format": RESULTS.version, "rows": rows, "correlations": correlations(rows)}
    storage.write(folder / f"{CURVE}.json", json.dumps(value, indent=1).encode() + b"\n")
    storage.write(folder / f"{CURVE}.md", as_markdown(rows).encode())


def as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    tasks = _tasks(rows)
    titles = [title_of(name) for name in tasks]
    head = ["step", "tokens", "loss", "bits per byte", *titles]
    table = [head, ["---:"] * len(head)]
    for row in rows:
        own = [_cell(row.get(name)) for name in tasks]
        measured = [_plain(row["tokens"], ","), _plain(row["loss"], ".3f"), _plain(row["bits_per_byte"], ".3f")]
        table.append([f"{row['step']:,}", *measured, *own])
    lines = ["| " + " | ".join(cells) + " |" for cells in table]
    for said, found in correlations(rows).items():
        shown = [f"{title} {found[name]:.2f}" for name, title in zip(tasks, titles, strict=True) if name in found]
        if shown:
            lines += ["", f"Correlation with {said}: {', '.join(shown)}."]
    return "\n".join(lines) + "\n"


def correlations(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Of each task with training loss and with bits per byte, over the checkpoints that have both; of three or more."""
    found: dict[str, dict[str, float]] = {}
    for measure in ("loss", "bits_per_byte"):
        found[measure.replace("_", " ")] = {}
        for name in _tasks(rows):
            both = [(row[measure], row[name]["mean"]) for row in rows if row.get(measure) is not None and name in row]
            if len(both) >= FEWEST and (value := pearson(both)) is not None:
                found[measure.replace("_", " ")][name] = value
    return found


def pearson(pairs: Sequence[tuple[float, float]]) -> float | None:
    """None where one of both does not change."""
    xs, ys = zip(*pairs, strict=True)
    x, y = math.fsum(xs) / len(xs), math.fsum(ys) / len(ys)
    spread = math.sqrt(math.fsum((each - x) ** 2 for each in xs) * math.fsum((each - y) ** 2 for each in ys))
    return None if spread == 0 else math.fsum((a - x) * (b - y) for a, b in pairs) / spread


def title_of(name: str) -> str:
    """What a task of a row is called, such as `piqa-0`; of a group of lm-eval's the examples are not told."""
    task, _, shots = name.rpartition("-")
    title = PACK[task].title if task in PACK else task
    return f"{title}, {shots}-shot" if shots else title


def _tasks(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    known = ("step", "tokens", "loss", "bits_per_byte")
    return list(dict.fromkeys(name for row in rows for name in row if name not in known))


def _cell(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return "-"
    return f"{value['mean']:.4f}" + ("" if value["error"] is None else f" ± {value['error']:.4f}")


def _plain(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"
