"""`puna ls`: every run below a folder in one line, how it stands and how good it is.

Nothing here can be so damaged that the other runs are not shown. Recipes and records are read, and of what is large
only the sizes.
"""

from __future__ import annotations

import shlex
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from puna import storage
from puna.care import results, states
from puna.care.results import Training
from puna.care.states import Known
from puna.errors import InputError, PunaError
from puna.progress import WIDTH, size
from puna.storage import Place

DEEP = 3  # folders below the root that are looked into for runs
NARROWEST = 26  # columns for what stands behind the table, before it gets a line of its own
TOLD = ("log.txt", "metrics.jsonl", "progress.json", "report.html", "recipe.toml")  # one of them is written last
SAID = "held-out text, or how far it is"


@dataclass(frozen=True)
class RunLine:
    """One run of the list."""

    folder: str
    name: str
    """The folder's path below the root."""
    recipe: str
    """The recipe's name; "" when recipe.toml cannot be read."""
    state: str
    """See `states`."""
    step: str
    """Where a run that is not done is: the step begun, or the last one done."""
    said: str
    """How good it is beside the best baseline, how far it is, or what is wrong with it."""
    size: int
    """Bytes."""
    written: float | None
    """When something was written last, in seconds since 1970."""
    bits_per_byte: float | None = None
    """The model's, on all held-out text."""
    best_baseline: str = ""
    baseline_bits_per_byte: float | None = None
    training_step: int | None = None
    training_steps: int | None = None
    loss: float | None = None
    """Of the last training line, nats a token."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def listed(root: str | Path = "runs") -> list[RunLine]:
    """The runs in `root`, which may be one itself, by their names; none where there is no such folder.

    InputError when `root` is a file, PunaError when an object store does not answer.
    """
    top = storage.place(root)
    if storage.is_file(top):
        raise InputError("is a file", where=str(root), mend="`puna ls` takes the folder in which runs lie")
    return sorted((_line(folder, name) for folder, name in _runs(top)), key=lambda line: line.name)


def table(root: str | Path, lines: Sequence[RunLine]) -> str:
    """What `puna ls` prints: 80 columns, but for names that are longer."""
    where = str(root)
    if not lines:
        none = f"No runs in {where}." if storage.exists(where) else f"No runs: there is nothing at {where}."
        if storage.is_remote(where):
            return (
                f"{none} `puna run laptop --out {where.rstrip('/')}/laptop` makes one there, in a bucket that exists."
            )
        return f"{none} `puna run laptop` makes one in runs/laptop."
    with_recipe = any(line.recipe not in ("", line.name) for line in lines)
    rows = [["run", *(["recipe"] if with_recipe else []), "state", "size", "written"]]
    rows += [
        [line.name, *([line.recipe] if with_recipe else []), line.state, size(line.size), _ago(line.written)]
        for line in lines
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    heads = [
        "  ".join(f"{cell:{'>' if n == len(row) - 2 else '<'}{widths[n]}}" for n, cell in enumerate(row))
        for row in rows
    ]
    indent = sum(widths) + 2 * len(widths)
    beside = indent + NARROWEST <= WIDTH
    text = [f"{heads[0]}  {SAID}" if beside else heads[0].rstrip()]
    for head, line in zip(heads[1:], lines, strict=True):
        said = textwrap.wrap(line.said, WIDTH - (indent if beside else 4)) or [""]
        if beside:
            text.append(f"{head}  {said[0]}".rstrip())
            text += [" " * indent + more for more in said[1:]]
        else:
            text.append(head.rstrip())
            text += [f"    {more}" for more in said if more]
    newest = max(lines, key=lambda line: (line.state != "broken", line.written or 0.0)).folder
    total = sum(line.size for line in lines)
    text += ["", f"{len(lines)} run{'s' if len(lines) > 1 else ''} in {where}, {size(total)}"]
    return "\n".join([*text, f"Next  puna status {shlex.quote(newest)}"])


def _runs(root: Place) -> Iterator[tuple[Place, str]]:
    if _holds_run(root):
        yield root, Path(str(root)).resolve().name if not storage.is_remote(root) else root.name
        return
    waiting = [(root, 0)]
    while waiting:
        above, depth = waiting.pop()
        for folder in _folders(above, needed=depth == 0):
            if _holds_run(folder):
                yield folder, storage.below(folder, root)
            elif depth + 1 < DEEP and not _is_link(folder):
                waiting.append((folder, depth + 1))


def _folders(above: Place, *, needed: bool) -> list[Place]:
    """Folders in a folder, hidden ones left out; none where it cannot be read, unless it is `needed`."""
    try:
        if not storage.is_folder(above):
            return []
        shown = [above / name for name in storage.names(above) if not name.startswith(".")]
        return [path for path in shown if storage.is_folder(path)]
    except OSError:
        if needed:
            raise
        return []


def _holds_run(folder: Place) -> bool:
    try:
        return states.is_run(folder)
    except OSError:
        return False


def _is_link(folder: Place) -> bool:
    """Links are not looked into, since they may lead in a circle; a run behind one is shown."""
    return isinstance(folder, Path) and folder.is_symlink()


def _line(folder: Place, name: str) -> RunLine:
    try:
        return _told(folder, name)
    except (PunaError, OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        said = error.what if isinstance(error, PunaError) else f"cannot be read ({error})"
        return RunLine(str(folder), name, "", "broken", "", said, 0, None)


def _told(folder: Place, name: str) -> RunLine:
    known = states.look(folder)
    training, bits = results.training(known), results.quality(known)
    best = results.best_baseline(bits)
    return RunLine(
        folder=str(folder),
        name=name,
        recipe=known.recipe.name if known.recipe else "",
        state=known.state,
        step=known.step or _last(known),
        said=_said(known, training, results.told_quality(bits)),
        size=sum(storage.tree(folder).values()),
        written=_written(folder),
        bits_per_byte=bits.get("model"),
        best_baseline=best,
        baseline_bits_per_byte=bits.get(best),
        training_step=training.step if training else None,
        training_steps=training.steps if training else None,
        loss=training.loss if training else None,
    )


def _said(known: Known, training: Training | None, quality: str) -> str:
    if known.state in ("broken", "newer"):
        return known.trouble or known.newer
    parts = []
    if known.state == "held" and known.holder is not None:
        parts.append(f"by {known.holder}")
    if known.state != "done":
        parts.append(_where(known))
    if quality:
        parts.append(quality)
    elif training is not None:
        steps = f" of {training.steps:,}" if training.steps else ""
        parts.append(f"step {training.step:,}{steps}")
        parts += [f"loss {training.loss:.3f}"] if training.loss is not None else []
    elif known.state == "done":
        parts.append("no text is held out")
    return ", ".join(parts)


def _where(known: Known) -> str:
    if known.step:
        return f"at {known.step}"
    if states.REPORT in known.records:
        return "changed since its report"
    last = _last(known)
    return f"after {last}" if last else "before the first step"


def _last(known: Known) -> str:
    """The last step that is done; "" when none is."""
    return next((step for step in reversed([*known.records]) if step in known.current), "")


def _written(folder: Place) -> float | None:
    """When the run was written to last, as one of the files tells that change with every command."""
    found = []
    for name in TOLD:
        try:
            found.append(float((folder / name).stat().st_mtime))
        except OSError:
            continue
    return max(found, default=None)


def _ago(moment: float | None) -> str:
    """How long ago, in one unit: 5 s ago, 3 min ago, 2 h ago, 4 d ago."""
    if moment is None:
        return ""
    gone = max(0.0, time.time() - moment)
    for unit, length, most in (("s", 1, 60), ("min", 60, 3600), ("h", 3600, 86400)):
        if gone < most:
            return f"{int(gone // length)} {unit} ago"
    return f"{int(gone // 86400)} d ago"
