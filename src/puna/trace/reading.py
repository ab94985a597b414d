"""What a step read, and what each document of it cost, so that a spike has names.

Three sources tell of losses, the more exact first. A spike's record in metrics.jsonl holds what its worst documents
cost when the step ran. losses.jsonl holds it for every window of every step. For all documents of a step it is computed
again, in float32, with the newest checkpoint before the step: the weights are then those of up to `checkpoint_every`
steps earlier. Where only later ones are left (the last few are kept), the oldest does, which has read the step already;
which one it was is told.

Memory: a float32 for each token of the step, and the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from puna import storage
from puna.errors import InputError, PunaError
from puna.progress import progress, say
from puna.run import read_recipe
from puna.storage import Place
from puna.tokenizer.sentencepiece_bpe import EOS
from puna.tokens.windows import Windows
from puna.trace.steps import FORMAT, Steps, Traced, all_documents, told
from puna.train import history
from puna.train.spikes import parts

RECORDED = "the step"
TOGETHER = 8  # windows in one forward pass
SHOWN = 20  # windows whose losses are written out on the screen


@dataclass(frozen=True)
class Read(Traced):
    """A document of a step."""

    loss: float | None = None
    """Mean nats a token of what the step scored of it; None when nothing tells."""
    by: str = ""
    """What tells: the step itself, or a checkpoint's name."""
    tokens: int = 0
    """That the step scored of it; 0 when nothing tells."""
    windows: tuple[int, ...] = ()
    """Of the step, in which it stands."""
    passed_over: bool = False
    """Whether the training went back before this reading of it."""

    def as_json(self) -> dict[str, Any]:
        cost = None if self.loss is None else {"nats_per_token": self.loss, "tokens": self.tokens, "by": self.by}
        return {**super().as_json(), "windows": list(self.windows), "passed_over": self.passed_over, "loss": cost}

    def lines(self, trained: int) -> list[str]:
        cost = "not known" if self.loss is None else f"{self.loss:.3f} nats a token over {self.tokens:,}, by {self.by}"
        gone = "; the training went back before this" if self.passed_over else ""
        windows = ", ".join(map(str, self.windows))
        return [*told(self, trained), f"  loss   {cost}", f"  stands in window {windows} of the step{gone}"]


@dataclass(frozen=True)
class StepTrace:
    run: str
    number: int
    planned: int
    trained: int
    windows: tuple[int, int]
    """First and one behind the last that the step reads."""
    window_losses: tuple[float, ...]
    """What each of them cost when the step ran; empty when that is not recorded."""
    spikes: tuple[dict[str, Any], ...]
    """Of this step, as metrics.jsonl has them."""
    documents: tuple[Read, ...]
    """The highest loss first."""

    def as_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "run": self.run,
            "steps": {"planned": self.planned, "trained": self.trained},
            "step": self.number,
            "windows": list(self.windows),
            "window_losses": list(self.window_losses),
            "spikes": list(self.spikes),
            "documents": [read.as_json() for read in self.documents],
            "missing": [],
        }

    def as_text(self) -> str:
        first, end = self.windows
        lines = [f"{len(self.documents):,} documents; {self.trained:,} of {self.planned:,} steps are trained"]
        losses = [f"{loss:.3f}" for loss in self.window_losses[:SHOWN]]
        more = " ..." if len(self.window_losses) > SHOWN else ""
        cost = f", which cost {', '.join(losses)}{more}" if losses else ""
        lines.append(f"step {self.number} reads windows {first:,} to {end - 1:,}{cost}")
        for spike in self.spikes:
            what = f"loss {spike.get('loss')} was a spike: {spike.get('score')} spreads above {spike.get('median')}"
            back = f"; training went back to step {spike.get('back_to')}, past windows {spike.get('rewound')}"
            done = {"skip": "; its gradient was not used", "rewind": back}
            lines.append(what + done.get(str(spike.get("action")), ""))
        for read in self.documents:
            lines += ["", *read.lines(self.trained)]
        return "\n".join(lines)


def step(run: str, number: int, recorded: bool = False) -> StepTrace:
    """The documents that step `number` (from 1) reads, and those of a spike there before which the training went back.

    recorded: compute no loss. Raises InputError when the run has no such step.
    """
    folder = storage.place(run)
    steps, planned, trained = Steps.of(folder)
    if steps is None:
        raise InputError("has no tokens yet", where=run, mend="puna tokens RECIPE makes them")
    if not 1 <= number <= planned:
        raise InputError(f"there is no step {number}: they go from 1 to {planned}", where=run, mend="take one of those")
    window = steps.windows_of(number)
    spikes = _spikes(folder, number, len(window))
    gone = [range(*spike["read"]) for spike in spikes if spike.get("action") == "rewind"]
    known = None if recorded or number > trained + len(gone) else _model(folder, number)
    found: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    for read in (window, *gone):
        for part in _parts(steps.windows, read, known):
            found.setdefault((part["id"], read is not window), []).append(part)
    exact = {(part["id"], part["window"]): part for spike in spikes for part in _named(spike)}
    ids = {id for id, _ in found}
    by_id = {document.id: document for held, _, document in all_documents(folder) if not held and document.id in ids}
    documents = [
        Read(
            by_id[id],
            f"step {number}",
            False,
            (number,),
            **_cost([exact.get((part["id"], part["window"]), part) for part in each], known.name if known else ""),
            windows=tuple(part["window"] for part in each),
            passed_over=passed_over,
        )
        for (id, passed_over), each in found.items()
        if id in by_id
    ]
    documents.sort(key=lambda read: (-(read.loss if read.loss is not None else -1.0), read.document.id))
    ran = history.window_losses(folder / history.LOSSES_NAME, number)
    losses = tuple(round(float(nats), 6) for nats in ran.nats) if ran is not None and ran.first == window.start else ()
    span = (window.start, window.stop)
    return StepTrace(run, number, planned, trained, span, losses, tuple(spikes), tuple(documents))


def _cost(each: Sequence[dict[str, Any]], by: str) -> dict[str, Any]:
    """Loss, tokens and by whom of a document from its parts; without loss where one of them is not known."""
    if not all("loss" in part for part in each):
        return {}
    tokens = sum(part["tokens"] for part in each)
    loss = sum(part["loss"] * part["tokens"] for part in each) / tokens
    return {"loss": round(loss, 6), "tokens": tokens, "by": RECORDED if all("read" in p for p in each) else by}


def _spikes(folder: Place, number: int, batch: int) -> list[dict[str, Any]]:
    """What metrics.jsonl tells of spikes at a step, which read a batch of windows."""
    told_of = (line.get("spike") for line in history.lines(folder / history.METRICS_NAME))
    spikes = [spike for spike in told_of if isinstance(spike, dict) and spike.get("step") == number]
    ranged = [spike for spike in spikes if history.is_range(spike.get("read"))]
    return [spike for spike in ranged if spike["read"][1] - spike["read"][0] == batch]


def _named(spike: dict[str, Any]) -> Iterator[dict[str, Any]]:
    kinds = {"id": str, "window": int, "tokens": int, "loss": float | int}
    documents = spike.get("documents")
    for part in documents if isinstance(documents, list) else ():
        if isinstance(part, dict) and all(isinstance(part.get(name), kind) for name, kind in kinds.items()):
            yield {**part, "read": spike["read"], "tokens": max(1, part["tokens"])}


@dataclass(frozen=True)
class Known:
    """A checkpoint's model, in float32."""

    name: str
    model: Any
    masked: bool
    """Whether each document of a window sees itself alone."""


def _model(folder: Place, number: int) -> Known | None:
    """The newest checkpoint before the step, or the oldest; None when there is none."""
    names = storage.names(folder / "checkpoints") if storage.is_folder(folder / "checkpoints") else []
    at = {int(name[5:]): name for name in names if re.fullmatch(r"step-\d+", name)}
    before = [step for step in sorted(at, reverse=True) if step < number]
    if not at:
        return None
    from puna.model.weights import load_checkpoint

    for step in (*before, *(step for step in sorted(at) if step >= number)):
        try:
            model = load_checkpoint(folder / "checkpoints" / at[step])
            return Known(at[step], model, read_recipe(folder).train.documents == "masked")
        except PunaError as error:
            say(f"{error.where}: {error.what}; another checkpoint is taken")
    return None


def _parts(windows: Windows, read: range, known: Known | None) -> list[dict[str, Any]]:
    """The parts of documents in windows, as `spikes.parts`; without a model, without losses."""
    if known is not None:
        return parts(windows, read.start, _nats(windows, read, known))
    return [{"id": part.document, "window": window} for window in read for part in windows.documents(window)]


def _nats(windows: Windows, read: range, known: Known) -> npt.NDArray[np.float32]:
    """Nats of each token but the first of windows, (windows, context)."""
    import torch

    from puna.model.documents import segments
    from puna.model.loss import token_nats

    model = known.model
    found = []
    with torch.no_grad(), progress("losses", len(read), "windows") as bar:
        for first in range(read.start, read.stop, TOGETHER):
            tokens_BL1 = torch.from_numpy(windows.batch(first, min(TOGETHER, read.stop - first)))
            own = segments(tokens_BL1[:, :-1], EOS) if known.masked else None
            hidden_BLD = model(tokens_BL1[:, :-1], own)
            nats_N = token_nats(hidden_BLD.flatten(0, 1), model.output_weight, tokens_BL1[:, 1:].flatten())
            found.append(nats_N.view(len(tokens_BL1), -1).to(torch.float32).numpy())
            bar.advance(len(tokens_BL1))
    return np.concatenate(found)
