"""A finetuning from the model and the files to a model that answers: `tune`.

    OUT/finetune.json       what is learnt from what: values, sources, counts, template
    OUT/checkpoints/...     as of any training, metrics.jsonl, machine.json and losses.jsonl beside them
    OUT/evaluations/finetune.json     answers, plain text and samples before and after
    OUT/model/              the finetuned model with its template, which every command takes, as it takes OUT
    OUT/adapter/            where adapters alone were trained: these, in peft's form (lora.py)

Killed at any moment, the same call goes on from the last checkpoint with the same bits, since what is read is a
function of the files, the model and the values, of which the fingerprint is made (train/loop.py).
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from puna import run, storage
from puna.convert import own
from puna.convert.parts import Parts
from puna.errors import InputError, PunaError, ToldElsewhere
from puna.finetune import ENERGY, lora, parts_taken
from puna.finetune.choose import Chosen, Source, choose, located, say_counts
from puna.finetune.lora import Adapted, Lora
from puna.finetune.measure import Measured, Texts, change, measured
from puna.finetune.reading import Rows, Weighted
from puna.finetune.templated import PLAIN
from puna.formats import FINETUNE
from puna.generate import chat
from puna.generate.chat import Template
from puna.meter import metered
from puna.model import weights
from puna.model.llama import Llama
from puna.parallel import meeting
from puna.progress import progress, say
from puna.recipe import Train
from puna.storage import Location, Place
from puna.tokenizer import Tokenizer
from puna.train import checkpoint
from puna.train.course import Course
from puna.train.loop import follow, resumable

NAME = "finetune.json"
MODEL = "model"
ADAPTER = "adapter"
MEASURED = "evaluations/finetune.json"
PLAIN_TEXT = 40_000  # characters of plain text that are measured at most


class Measure(Protocol):
    """What else is asked of the model before and after."""

    name: str
    """Changes with what is asked."""

    def __call__(self, model: Llama, tokenizer: Tokenizer) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Settings:
    """What a finetuning is told. The optimizer's are the paper's (section 2.2), but for the highest rate."""

    epochs: float = 2.0
    context: int = 1024
    """Tokens of a row, at most the model's context."""
    batch: int = 16
    """Rows of a step."""
    micro_batch: int = 2
    """Rows of one forward pass, to bound memory."""
    learning_rate: float = 5e-5
    warmup: float = 0.03
    """Share of the steps."""
    weight_decay: float = 0.1
    heldout: int | None = None
    """Examples kept aside; None: a tenth, at most 100."""
    checkpoint_every: int | None = None
    """Steps; None: a tenth of all, at most 100, since a kill costs what was trained behind the last one."""
    seed: int = 1
    layer: str = "auto"
    dtype: str = "auto"
    compile: str = "auto"
    lora: Lora | None = None
    """None: all weights are trained."""


def tune(
    model: Location,
    sources: Sequence[Source],
    out: Location,
    settings: Settings = Settings(),
    *,
    benchmarks: Location | None = None,
    plain: Location | None = None,
    threads: int | None = None,
    allow_other: bool = False,
    take_over: bool = False,
    measure: Measure | None = None,
) -> dict[str, Any]:
    """Finetune `model` on the sources into the folder `out`; what was measured before and after.

    benchmarks: a folder of benchmark files whose questions are kept out of what is learnt. plain: a file of UTF-8 text
    by which bits per byte are measured. measure: asked of the model before and after, its answer is kept (MMLU).
    Raises InputError for files, values and a model that cannot be used, for a folder of another finetuning, and what
    `follow` raises.
    """
    _refuse_ranks()
    if settings.lora:
        lora.refuse_missing()
    folder = storage.place(out)
    parts = own.read(model)
    template, parts = _templated(parts)
    length = min(settings.context, parts.config.context)
    texts = _plain(storage.place(plain), parts.tokenizer) if plain else None
    chosen = choose(
        sources,
        template,
        parts.tokenizer,
        context=length,
        heldout=settings.heldout,
        benchmarks=located(storage.place(benchmarks)) if benchmarks else (),
    )
    say_counts(sources, chosen.counts, benchmarks=benchmarks is not None)
    told = _told(model, parts, sources, settings, chosen, benchmarks)
    reading = Rows(
        [
            Weighted(examples, source.weight, source.location.name)
            for examples, source in zip(chosen.train, sources, strict=True)
        ],
        length=length,
        rows=settings.batch,
        epochs=settings.epochs,
        seed=settings.seed,
        filler=parts.tokenizer.eos,
        tokenizer=parts.tokenizer.digest,
    )
    with run.open_other(folder, NAME, take_over=take_over):
        _refuse_another(folder, told)
        storage.write_json(folder / NAME, told)
        course = _course(parts, reading, settings, length)
        say(f"{reading.steps:,} steps of {settings.batch} rows of {length} tokens, {settings.epochs:g} epochs")

        def look(when: str, tensors: Mapping[str, Tensor]) -> tuple[Measured, Mapping[str, Any]]:
            return _look(folder, when, replace(parts, state=tensors), template, chosen, texts, length, measure)

        with _counted(folder, "evaluate"):
            before, first = look("before", parts.state)
        with _counted(folder, "train"):
            follow(folder, course, fingerprint=told["fingerprint"], threads=threads, allow_other=allow_other)
        last, _ = resumable(folder, told["fingerprint"])
        assert last is not None  # the training has just ended with it
        learnt = checkpoint.read_masters(last.path)
        if settings.lora:
            with _anew(folder / ADAPTER) as inside:
                lora.write(inside, learnt, settings.lora, parts.config)
            learnt = lora.merged(parts.state, learnt, settings.lora)
        tuned = replace(parts, state=learnt, name=folder.absolute().name).cast(parts.dtype)
        if not _stands(folder / MODEL, tuned):
            with _anew(folder / MODEL) as inside:
                own.write(inside, tuned, {"from": "finetune", "name": tuned.name, "model": str(model)})
        with _counted(folder, "evaluate"):
            after, then = look("after", tuned.state)
        found = {
            "format": FINETUNE.version,
            "answers": change(before, after),
            "bits_per_byte": {"before": before.plain, "after": after.plain, "bytes": texts.bytes if texts else 0},
            "measured": {"before": first, "after": then},
            "samples": [
                {"prompt": early["prompt"], "before": early["text"], "after": late["text"]}
                for early, late in zip(before.samples, after.samples, strict=True)
            ],
        }
        storage.write_json(folder / MEASURED, found)
    return found


def _refuse_ranks() -> None:
    """A finetuning is small enough for one process; several would write the same folder."""
    rank = meeting.rank()
    if rank is None:
        return
    what, mend = "torchrun starts ranks, and finetuning is done by one process", "give puna finetune alone"
    raise ToldElsewhere(what) if rank else InputError(what, mend=mend)


def _templated(parts: Parts) -> tuple[Template, Parts]:
    """The model's template, or the plain one; and the parts with it and with how its first and last pieces are
    written, which are exported with the model."""
    tokenizer = parts.tokenizer
    said = {name: parts.settings.get(f"{name}_token") for name in ("bos", "eos")}
    spelt = {
        name: text if isinstance(text, str) else tokenizer.pieces[getattr(tokenizer, name)]
        for name, text in said.items()
    }
    where = "the model's chat template" if parts.chat_template else "the plain template"
    made = chat.template(parts.chat_template or PLAIN, where, tokenizer, spelt)
    return made, replace(parts, settings={**parts.settings, **made.values, "chat_template": made.source})


def _course(parts: Parts, reading: Rows, settings: Settings, length: int) -> Course:
    def initial(name: str) -> Tensor:
        return parts.state[name].to(torch.float32)

    adapted = None
    if settings.lora:
        adapted = Adapted(settings.lora, settings.seed, "reference" if settings.layer == "reference" else "selective")
    train = Train(
        context=length,
        batch=settings.batch * length,
        steps=reading.steps,
        learning_rate=settings.learning_rate,
        warmup=round(settings.warmup * reading.steps),
        weight_decay=settings.weight_decay,
        micro_batch=settings.micro_batch,
        checkpoint_every=settings.checkpoint_every or min(100, max(1, reading.steps // 10)),
        layer=adapted.mode if adapted else settings.layer,  # type: ignore[arg-type]  # pydantic refuses others
        dtype=settings.dtype,  # type: ignore[arg-type]
        compile="off" if adapted else settings.compile,  # type: ignore[arg-type]
    )
    return Course(reading, train, parts.config, settings.seed, initial, adapted=adapted)


def _told(
    model: Location,
    parts: Parts,
    sources: Sequence[Source],
    settings: Settings,
    chosen: Chosen,
    benchmarks: Location | None,
) -> dict[str, Any]:
    """finetune.json. The fingerprint is of what the weights depend on."""
    own_weights = weights.digest(parts.state)
    values = {name: value for name, value in asdict(settings).items() if name != "lora" or value is not None}
    deciding = {name: value for name, value in values.items() if name != "checkpoint_every"}
    said = {
        "model": own_weights,
        "tokenizer": parts.tokenizer.digest,
        "template": parts.chat_template,
        "examples": chosen.digest,
        "parts": [[source.weight, count.kept] for source, count in zip(sources, chosen.counts, strict=True)],
        "settings": deciding,
    }
    return {
        "format": FINETUNE.version,
        "fingerprint": storage.digest_bytes(json.dumps(said, sort_keys=True).encode()),
        "model": {"location": str(model), "name": parts.name, "digest": own_weights},
        "settings": values,
        "template": parts.chat_template,
        "benchmarks": str(benchmarks) if benchmarks else None,
        "sources": [
            {"location": str(source.location), "weight": source.weight, **count.as_json()}
            for source, count in zip(sources, chosen.counts, strict=True)
        ],
    }


def _refuse_another(folder: Place, told: Mapping[str, Any]) -> None:
    if not storage.is_file(folder / NAME):
        return
    FINETUNE.refuse_newer_file(folder / NAME)
    there = storage.read_json(folder / NAME)
    if not isinstance(there, dict) or there.get("fingerprint") != told["fingerprint"]:
        differs = [
            name for name in ("model", "settings", "template", "benchmarks", "sources")
            if not isinstance(there, dict) or there.get(name) != told[name]
        ]  # fmt: skip
        values = (there.get("settings") if isinstance(there, dict) else None, told["settings"])
        if "settings" in differs and isinstance(values[0], dict):
            keys = [key for key in {**values[0], **values[1]} if values[0].get(key) != values[1].get(key)]
            differs[differs.index("settings")] = f"settings: {', '.join(keys)}"
        what = f"holds a finetuning with other values ({'; '.join(differs) or 'other text'} differ)"
        raise InputError(what, where=str(folder), mend="choose another folder with --out")


def _look(
    folder: Place,
    when: str,
    parts: Parts,
    template: Template,
    chosen: Chosen,
    texts: Texts | None,
    length: int,
    measure: Measure | None,
) -> tuple[Measured, Mapping[str, Any]]:
    """What is measured of a model, once: it is kept in evaluations/WHEN.json, and measured anew when more is asked."""
    path = folder / "evaluations" / f"{when}.json"
    asked = [texts.digest if texts else "", measure.name if measure else ""]
    kept = storage.read_json(path) if storage.is_file(path) else None
    if isinstance(kept, dict) and kept.get("asked") == asked:
        one = kept["measured"]
        return Measured(tuple(one["answers"]), tuple(one["tokens"]), one["plain"], tuple(one["samples"])), kept["more"]
    model = parts.model()
    tokens = sum(len(each.ids) for _, each in chosen.heldout) + (sum(len(ids) - 1 for ids in texts.ids) if texts else 0)
    with progress(f"measuring {when}", tokens, "tokens") as bar:
        found = measured(model, parts.tokenizer, template, chosen.heldout, texts, length=length, advance=bar.advance)
    more = dict(measure(model, parts.tokenizer)) if measure else {}
    storage.write_json(path, {"format": FINETUNE.version, "asked": asked, "measured": found.as_json(), "more": more})
    return found, more


@contextmanager
def _counted(folder: Place, step: str) -> Iterator[None]:
    """Add what the block took to energy.json, which `puna carbon` reads. One that is interrupted tells nothing."""
    before = parts_taken(folder)  # a damaged file is told before the work
    with metered() as meter:
        yield
        steps = [*before, {"step": step, "energy": meter.taken().as_json()}]
        storage.write_json(folder / ENERGY, {"format": FINETUNE.version, "steps": steps})


def _plain(path: Place, tokenizer: Tokenizer) -> Texts:
    most = 4 * PLAIN_TEXT  # bytes that so many characters can have
    try:
        with storage.open_read(path) as file:
            data = file.read(most)
        # What was cut within a character is no fault of the file.
        text = codecs.getincrementaldecoder("utf-8")().decode(data, final=len(data) < most)[:PLAIN_TEXT]
    except UnicodeDecodeError as error:
        raise InputError(f"is not UTF-8 ({error.reason})", where=str(path)) from None
    if not text.strip():
        raise InputError("holds no text", where=str(path))
    ids = np.array([*tokenizer.begin(text), tokenizer.eos], np.int64)
    return Texts([ids], len(text.encode()), storage.digest_bytes(text.encode()))


def _stands(folder: Place, parts: Parts) -> bool:
    """Whether an earlier call left this very model there, and beside it what `puna evaluate` has found since."""
    try:
        return storage.exists(folder) and weights.digest(own.read(folder).state) == weights.digest(parts.state)
    except PunaError:  # damaged since
        return False


def _anew(target: Place) -> AbstractContextManager[Place]:
    """A folder that is filled aside and then stands in place of an earlier one."""
    if storage.exists(target):
        storage.remove(target)
    return storage.create_folder(target)
