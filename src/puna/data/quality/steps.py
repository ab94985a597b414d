"""The steps `lm` and `perplexity.S`: the models of the languages that web sources keep, and each page's score.

`lm` looks at Wikipedia twice: first how much text of a language lies in each range of the sample's hash, then, up to
the range at which `lm.sample` is full, at the text itself. What both passes leave is by hash, whatever the shards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from puna import space, storage
from puna.data.document import SCHEMA, read_documents, write_table
from puna.data.outputs import files, kept, numbered, shards_of
from puna.data.quality import language, models, perplexity
from puna.data.quality.language import Texts, plain_texts
from puna.progress import say
from puna.recipe import Recipe
from puna.recipe_sources import WebPages
from puna.space import Need
from puna.steps import Context
from puna.storage import Place

if TYPE_CHECKING:
    from puna.data.judge import Judge  # which reads the scores that are made here

RANGES = 1024  # of the sample's hash; one more than the sample fills is held at most
FROM = "wikipedia"


def languages(recipe: Recipe) -> list[str]:
    """Languages whose pages are judged by perplexity, sorted: those that web sources which are read ask for."""
    asking = [source for _, source in recipe.sources.items() if isinstance(source, WebPages) and source.inputs]
    return sorted({code for source in asking if source.perplexity_percentiles for code in source.languages})


def trained(recipe: Recipe) -> list[str]:
    """Those of them for which the recipe brings no model along: the ones that `lm` trains on Wikipedia."""
    return [code for code in languages(recipe) if code not in recipe.lm.models]


def lm_values(recipe: Recipe) -> dict[str, Any]:
    """What the step `lm` depends on beside the documents and `brought`: its settings."""
    chosen = recipe.lm.model_dump(mode="json", exclude={"models"})
    return {"languages": trained(recipe), "seed": recipe.seed} | chosen


def brought(recipe: Recipe) -> dict[str, list[str]]:
    """What the models that are brought along hold, by language."""
    return {code: _digests(recipe.lm.models[code], code) for code in languages(recipe) if code in recipe.lm.models}


def lm(recipe: Recipe, judge: Judge | None, context: Context) -> dict[str, Any]:
    """The step `lm`: {work}/LANGUAGE.model, .arpa, .ngrams, .json and, with KenLM's build_binary, .binary,
    trained on the Wikipedia documents that `judge` keeps and does not hold out (None: the run has no Wikipedia).

    Memory: a shard in each worker; `models.train` names its own. InputError where a language has too little text.
    """
    wanted = trained(recipe)
    if not wanted:
        return {"trained": {}}
    shards = shards_of(context, FROM) if judge else []
    tasks = list(enumerate(shards))
    weigh = partial(_weigh, judge, wanted, recipe.seed)
    label = "  language models: looking at Wikipedia"
    results = context.map(weigh, tasks, label=label, name=lambda task: f"weigh-{numbered(task)}")
    sizes = sum((np.array(result["sizes"], np.int64) for result in results), np.zeros((len(wanted), RANGES), np.int64))
    # Up to the range in which the sample is full; within it the sample is cut by rank, when the model is trained.
    ends = [min(RANGES, int(np.searchsorted(np.cumsum(row), recipe.lm.sample)) + 1) for row in sizes]
    take = partial(_take, judge, dict(zip(wanted, ends, strict=True)), recipe.seed)
    label = "  language models: reading Wikipedia"
    context.map(take, tasks, label=label, name=lambda task: f"take-{numbered(task)}")
    train = partial(_train, recipe, len(shards))
    told = context.map(train, wanted, label="  language models: learning", name=lambda code: f"model-{code}")
    for index in range(len(shards)):
        storage.remove(_sampled(context.scratch, index))
    return {"trained": {code: result["told"] for code, result in zip(wanted, told, strict=True)}}


def lm_space(recipe: Recipe, context: Context) -> Need:
    """A byte of text makes about one n-gram of all orders; its ARPA line is some 40 bytes, the binary as much again,
    its row of a table 16."""
    text = recipe.lm.sample * len(trained(recipe))
    return space.small(text + 150 * text)


def prefixes(recipe: Recipe, context: Context) -> dict[str, str]:
    """Language -> path before the endings of its model, trained by `lm` or brought along."""
    made = {
        file.name.removesuffix(".model"): str(file).removesuffix(".model") for file in files(context, "lm", ".model")
    }
    return {code: recipe.lm.models.get(code) or made[code] for code in languages(recipe)}


def measure(recipe: Recipe, name: str, texts: Texts | None, context: Context) -> dict[str, Any]:
    """The step `perplexity.S`: {work}/NNNNN.perplexity, a little-endian float32 for each document of a shard, NaN where
    its language has no model. texts: what stays of the documents' text, as for `language`."""
    source = recipe.sources[name]
    assert isinstance(source, WebPages)
    known = context.records["lm"]["values"]["models"]
    paths = prefixes(recipe, context).items()
    own = {code: (prefix, *known.get(code, ())) for code, prefix in paths if code in source.languages}
    told = tuple(files(context, f"language.{name}", ".language"))
    work = partial(_measure, own, told, texts or plain_texts)
    tasks = list(enumerate(shards_of(context, name)))
    results = context.map(work, tasks, label=f"  {name}: measuring perplexity", name=numbered)
    mapped = all(str(models.found(each[0], code).ngrams).endswith(".ngrams") for code, each in own.items())
    if not mapped and perplexity.scorer() != "kenlm":
        say(f"  {name}: KenLM's module is not installed, so its slow twin measures (pip install 'puna[web]')")
    return {"documents": sum(result["documents"] for result in results)}


def measure_space(name: str, context: Context) -> Need:
    known = sum(output["size"] for output in context.records["lm"]["outputs"].values())
    return space.scores(kept(context, name)["documents"], len(shards_of(context, name)), known, context.workers)


def _weigh(
    judge: Judge | None, wanted: Sequence[str], seed: int, task: tuple[int, Place], scratch: Place
) -> dict[str, Any]:
    sizes = np.zeros((len(wanted), RANGES), np.int64)
    table = _documents(judge, task)
    length = pc.binary_length(table["text"]).to_pylist()
    for code, identifier, size in zip(table["language"].to_pylist(), table["id"].to_pylist(), length, strict=True):
        if code in wanted:
            sizes[wanted.index(code), _range(seed, identifier)] += size
    return {"sizes": sizes.tolist()}


def _take(
    judge: Judge | None, ends: Mapping[str, int], seed: int, task: tuple[int, Place], scratch: Place
) -> dict[str, Any]:
    table = _documents(judge, task)
    pairs = zip(table["language"].to_pylist(), table["id"].to_pylist(), strict=True)
    chosen = [code in ends and _range(seed, identifier) < ends[code] for code, identifier in pairs]
    target = _sampled(scratch, task[0])
    write_table(target, table.filter(pa.array(chosen, pa.bool_())))
    return {"files": [storage.below(target, scratch.parents[2])]}


def _train(recipe: Recipe, shards: int, code: str, scratch: Place) -> dict[str, Any]:
    documents = [
        (models.rank(recipe.seed, document.id), document.text)
        for index in range(shards)
        for document in read_documents(_sampled(scratch, index))
        if document.language == code
    ]
    written = models.train(scratch, code, models.sample(documents, recipe.lm.sample), recipe.lm)
    told = storage.read_json(scratch / f"{code}.json")
    return {"told": told, "files": [storage.below(file, scratch.parents[2]) for file in written]}


def _measure(
    own: Mapping[str, tuple[str, ...]], told: Sequence[Place], texts: Texts, task: tuple[int, Place], scratch: Place
) -> dict[str, Any]:
    index, shard = task
    rows = language.read(told[index])
    opened = {code: _opened(code, *names) for code, names in own.items()}
    scores = perplexity.measured(texts(index, shard), rows["language"], opened)
    target = scratch / f"{index:05d}.perplexity"
    storage.write(target, scores.astype("<f4").tobytes())
    return {"documents": len(scores), "files": [storage.below(target, scratch.parents[2])]}


@lru_cache(maxsize=32)
def _opened(code: str, prefix: str, *digests: str) -> perplexity.Model:
    """A model, read once in a worker. The name of a trained one holds a fingerprint; one that is brought along is told
    by its digests."""
    model = models.found(prefix, code)
    return perplexity.open_model(model.pieces, model.ngrams)


def _documents(judge: Judge | None, task: tuple[int, Place]) -> pa.Table:
    assert judge is not None  # without Wikipedia there are no tasks
    judged = judge.judged(*task)
    return judged.table.select(SCHEMA.names).filter(pa.array(judged.kept))


def _range(seed: int, identifier: str) -> int:
    return models.rank(seed, identifier) >> 54


def _sampled(scratch: Place, index: int) -> Place:
    return scratch / f"{index:05d}.sampled.parquet"


def _digests(prefix: str, code: str) -> list[str]:
    found = models.found(prefix, code)
    models.refuse_other_ngrams(prefix, found)
    return [storage.digest(found.pieces), storage.digest(found.ngrams)]
