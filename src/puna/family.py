"""A family: one recipe's text read by models of several sizes, some of them from several seeds (`puna run family`).

    FOLDER/data/            the run whose documents, tokenizer and tokens all members read
    FOLDER/SIZE-seedN/      a member: a run of its own, whose text is a copy of that
    FOLDER/report.html      all members on one page: the paper's Figure 1, and a law of size

Learning rate and batch follow from the size by one rule that is fixed before anything is trained, and is not tuned on
what comes out: that of the paper's Table 2, where all sizes have one batch, and twice the width has half the learning
rate. A member's records vouch for the same inputs and digests as those of `data`, so that it is not told apart from a
run that made its text itself. Members are raised one after another, each as `puna run` would; a command that was killed
goes on with the one that it was at.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from puna import recipe as recipes
from puna import records, storage, workflow
from puna.engine import usable_cpus
from puna.errors import InputError, PunaError
from puna.last_screen import called
from puna.model import flop
from puna.model.config import ModelConfig
from puna.progress import say, seconds
from puna.recipe import Family, Recipe
from puna.recipe_layers import COMMAND_LINE
from puna.report import compare
from puna.run import open_run
from puna.storage import Place
from puna.workflow import Options

DATA = ("manifest", "baselines", "cloze_items", "notice")
"""What all members share ends with these steps."""
RULED = ("model.dim", "model.heads", "model.layers", "train.seed", "train.learning_rate", "train.warmup")
"""Keys of the recipe that are each member's own."""
BLOCK = 1 << 20  # bytes of a file that are copied at once
SPEEDS = (40e9, 20e9)
"""FLOP a second of a core, as docs/train-speed.md has them for small models in float32, and half of that."""


@dataclass(frozen=True)
class Member:
    """One model of the family."""

    name: str
    overrides: tuple[str, ...]
    """What its recipe has beside the family's."""
    weights: int
    flop: float
    """Of its whole training."""


def raise_all(name: str, overrides: Sequence[str], out: str | None, options: Options) -> str:
    """Bring every member to done and write the page that compares them; return the last lines of the command."""
    recipe = recipes.load(name, overrides)
    several = members(recipe)
    _refuse_ruled(recipe)
    folder = storage.place(out) if out else Path("runs") / recipe.name
    whole = sum(member.flop for member in several)
    threads = options.threads or usable_cpus()
    fast, slow = (seconds(whole / speed / threads) for speed in SPEEDS)
    told = f"{len(several)} trainings of {whole:.1e} FLOP in all, about {fast} to {slow} on {threads} threads"
    say(f"{recipe.name}: {told}")
    workflow.bring(recipe, folder / "data", DATA, options)
    for place, member in enumerate(several, start=1):
        own = recipes.load(name, [*overrides, *member.overrides])
        rate, batch = own.train.learning_rate, recipes.batch_tokens(own)
        say(f"member {place} of {len(several)}, {member.name}: learning rate {rate:.2g}, {batch:,} tokens a step")
        share(folder / "data", folder / member.name, own, options)
        _forget_kernels()
        workflow.bring(own, folder / member.name, None, options)
    page = compare.write([folder / member.name for member in several], folder / "report.html")
    return f"\nReport  {page}\nNext    {called()} ls {shlex.quote(str(folder))}"


def _refuse_ruled(recipe: Recipe) -> None:
    """InputError where the command line gives what the sizes and the rule decide, which would change nothing."""
    for key, _, origin in recipes.explain(recipe):
        if key in RULED and origin == COMMAND_LINE:
            mend = "change the table [family], or give family=none for one model"
            raise InputError(f"{key} follows from the sizes of a family", where=f"recipe {recipe.name}", mend=mend)


def members(recipe: Recipe) -> list[Member]:
    """Every member, from the smallest size, one seed behind another. InputError when two would have one name."""
    family = recipe.family
    if family is None:
        raise InputError("is no family", where=f"recipe {recipe.name}", mend="give it a table [family]")
    windows = recipe.train.tokens or 0
    windows //= recipe.train.context
    if not windows:
        raise InputError("train.tokens is less than a window, or unset", where=f"recipe {recipe.name}")
    found = [
        _member(recipe, family, windows, size, seed)
        for size in range(len(family.dims))
        for seed in range(1, family.seeds[size] + 1)
    ]
    names = [member.name for member in found]
    if len(set(names)) < len(names):
        raise InputError("two of its sizes have one name", where=f"recipe {recipe.name}", mend="make them differ more")
    return found


def _member(recipe: Recipe, family: Family, windows: int, size: int, seed: int) -> Member:
    shape = {"dim": family.dims[size], "heads": family.heads[size], "layers": family.layers[size]}
    model = recipe.model.model_copy(update=shape)
    config = ModelConfig.from_recipe(recipe.model_copy(update={"model": model}), recipe.tokenizer.pieces)
    weights = flop.matmul_weights(config)
    context = recipe.train.context
    rate, batch = rule(recipe, shape["dim"], windows)
    name = f"{weights / 1e6:.2f}M-seed{seed}" if weights >= 1e5 else f"{weights / 1e3:.1f}K-seed{seed}"
    overrides = [f"model.{key}={value}" for key, value in shape.items()]
    overrides += [
        "family=none",
        f'name="{recipe.name}-{name}"',
        f"train.seed={seed}",
        f"train.learning_rate={rate:.3g}",
    ]
    overrides += [f'train.batch="{batch * context} tokens"', f'train.tokens="{windows * context} tokens"']
    overrides += [f'train.warmup="{max(1, round(family.warmup * windows / batch))} steps"']
    return Member(name, tuple(overrides), weights, float(flop.token_flop(config, context)) * windows * context)


def rule(recipe: Recipe, dim: int, windows: int) -> tuple[float, int]:
    """The learning rate of a size, and the windows of a batch: of all that divide the training without rest, that which
    is nearest in proportion to `train.batch`, so that every member reads the same tokens."""
    assert recipe.family is not None
    wanted = recipes.batch_tokens(recipe) / recipe.train.context
    dividing = [batch for batch in range(1, windows + 1) if windows % batch == 0]
    batch = min(dividing, key=lambda each: max(each / wanted, wanted / each))
    return recipe.family.rate / dim, batch


def share(data: Place, folder: Place, recipe: Recipe, options: Options) -> None:
    """Give the member in `folder` what was done in `data`: copies of the files, with the records that vouch for them.

    A step that it has is left. A record is written behind its files, so what a kill leaves is copied again.
    """
    with open_run(folder, recipe, take_over=options.take_over):
        for name, record in records.read_records(data).items():
            own = records.of_step(folder, name)
            if own is not None and own["fingerprint"] == record["fingerprint"]:
                continue
            kept = {file: known for file, known in record["outputs"].items() if not file.startswith(records.WORK)}
            if own is not None:
                old = [folder / file for file in own["outputs"] if not file.startswith(records.WORK)]
                records.set_aside(folder, name, record["fingerprint"], [file for file in old if storage.is_file(file)])
            outputs = dict(record["outputs"])
            for file, known in kept.items():
                with storage.open_read(data / file) as source, storage.create(folder / file) as target:
                    shutil.copyfileobj(source, target, BLOCK)
                seen = storage.look(folder / file)
                if seen is None or storage.digest(folder / file) != known["digest"]:
                    raise PunaError("is not what its record says", where=str(data / file), mend="run with --verify")
                outputs[file] = {**known, "modified": seen.stamp}
            cleaned = {"cleaned": True} if len(kept) < len(outputs) else {}
            records.end(folder, {**record, "outputs": outputs, **cleaned})


def _forget_kernels() -> None:
    """What torch compiled for the member before would let it compile this one otherwise, with other bits than alone."""
    import torch

    torch._dynamo.reset()
