"""`puna bench train`: how fast the model of a recipe or of a run trains on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from puna import recipe as recipes
from puna import storage
from puna.errors import InputError
from puna.model import flop
from puna.model.config import ModelConfig
from puna.progress import say, size
from puna.recipe import Recipe
from puna.run import read_recipe
from puna.train import machine as machines
from puna.train import memory
from puna.train.machine import Machine
from puna.train.speed.peers import PEERS
from puna.train.speed.table import Table, table

FORMAT = 1
WORK = 3e11  # FLOP of a measured step at most, some seconds of a core, unless one window has more


@dataclass(frozen=True)
class Bench:
    """What was measured of a recipe."""

    name: str
    machine: Machine
    weights: int
    table: Table

    def as_json(self) -> dict[str, Any]:
        told = {"format": FORMAT, "name": self.name, "weights": self.weights, "cpu": machines.cpu_name()}
        return told | {"threads": self.machine.threads, "kernels": self.machine.kernels} | self.table.as_json()

    def as_text(self) -> str:
        shown, context = self.table.windows, self.table.config.context
        head = f"{self.name}: {self.weights:,} weights, {shown} windows of {context} tokens a step, {self.table.dtype}"
        return f"{head}, {self.machine.kernels}\n{machines.cpu_name()}\n\n{self.table.as_text()}"


def bench(name: str, *, threads: int | None = None, rounds: int = 3, peers: bool = True) -> Bench:
    """Measure the recipe of that name or file, or that of the run in that folder.

    As many windows are a step as hold WORK, at most the recipe's micro-batch, at least one; so the optimizer's part is
    larger than in a training with large batches. The vocabulary is the recipe's `tokenizer.pieces`.
    Raises InputError when there is no such recipe, or when a step does not fit into free memory.
    """
    recipe = recipe_of(name)
    config = ModelConfig.from_recipe(recipe, recipe.tokenizer.pieces)
    train = recipe.train
    token_work = flop.token_flop(config, config.context)
    most = train.micro_batch or recipes.batch_windows(recipe)
    windows = max(1, min(most, int(WORK / token_work / config.context)))
    refuse_too_large(config, windows * config.context, name)
    machine = machines.choose(train, threads, config, windows=windows)
    named = [peer for peer, about in PEERS.items() if about.dtype == machine.dtype] if peers else []
    say(f"measuring steps of {windows * config.context:,} tokens, {rounds} rounds")
    with machines.settled(machine):
        found = table(
            config,
            replaced(train, micro_batch=0),
            machine.dtype,
            [machine.layer],
            windows=windows,
            peers=named,
            threads=[machine.threads],
            rounds=rounds,
            compiles=machine.compiles,
            with_memory=True,
        )
    return Bench(recipe.name, machine, recipe.model.parameters(config.vocabulary), found)


def replaced(train: recipes.Train, **values: Any) -> recipes.Train:
    return train.model_copy(update=values)


def recipe_of(name: str) -> Recipe:
    """The recipe of that name or file, or that of the run in that folder."""
    folder = storage.place(name)
    if storage.is_file(folder / "recipe.toml"):
        return read_recipe(folder)
    return recipes.load(name)


def refuse_too_large(config: ModelConfig, tokens: int, name: str) -> None:
    """InputError where a step of `tokens` tokens does not fit into free memory."""
    import torch

    needed = memory.step_bytes(config, tokens, torch.float32, "full")
    free = memory.available()
    if free is not None and needed > free:
        what = f"a step of {tokens:,} tokens takes about {size(needed)}, and {size(free)} are free"
        raise InputError(what, where=name, mend="measure a smaller recipe, or on a machine with more memory")
