"""The plan of a training run: what `puna plan` tells, as a record that becomes text or JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from puna import recipe as recipes
from puna.model import flop
from puna.model.config import ModelConfig
from puna.parallel.layout import filled
from puna.plan import shapes
from puna.plan.energy import PUE, TONNES_PER_MWH, Energy, energy
from puna.plan.gpus import PRICED, Gpu
from puna.plan.memory import RESERVE
from puna.plan.roofline import executed_flop
from puna.plan.search import Choice, Wanted, best
from puna.recipe import Recipe

FORMAT = 1
CHECKPOINT = 12  # bytes of a weight: its master and two moments in f32


class Saving(NamedTuple):
    """What checkpoints take, in bytes: `copy`, `gathering` and `whole` of a machine's memory, not the GPU's."""

    checkpoint: int
    """On the disk; rank 0 writes it, whoever shares the model."""
    copy: int
    """Of each rank of the first replica, beside the steps."""
    gathering: int
    """Of rank 0, which puts one tensor after another together (train/gathering.py)."""
    whole: int
    """Of rank 0, for held-out loss and whatever else takes the trained model: the f32 weights."""


@dataclass(frozen=True, slots=True)
class Plan:
    name: str
    config: ModelConfig
    gpu: Gpu
    gpus: int
    windows: int
    """Of a step."""
    steps: int
    choice: Choice
    price: float | None
    """Dollars a GPU hour."""
    priced: str
    """Who gave it; "" when nobody did."""

    @property
    def tokens(self) -> int:
        return self.steps * self.windows * self.config.context

    @property
    def seconds(self) -> float:
        return self.steps * self.choice.step.seconds

    @property
    def days(self) -> float:
        return self.seconds / 86_400

    @property
    def gpu_hours(self) -> float:
        return self.gpus * self.seconds / 3600

    @property
    def energy(self) -> Energy:
        return energy(self.gpu_hours, self.gpu.watts)

    @property
    def dollars(self) -> float | None:
        return None if self.price is None else self.price * self.gpu_hours

    @property
    def rate(self) -> float:
        """Tokens a second and GPU."""
        return self.choice.step.tokens_per_second_per_gpu

    @property
    def saving(self) -> Saving:
        layout = self.choice.layout
        copy = CHECKPOINT * shapes.held_elements(self.config, layout)
        largest = 4 * max(math.prod(shape) for shape in shapes.all_weights(self.config).values())
        whole = shapes.parameters(self.config)
        return Saving(CHECKPOINT * whole, copy, 2 * largest if layout.ranks > 1 else 0, 4 * whole)

    def flop_per_token(self) -> dict[str, float]:
        """FLOP of a token by each of the formulas in use."""
        config = self.config
        attention = config.layers * config.dim
        return {
            "6 N": 6 * shapes.parameters(config),
            "6 N without the input embedding": flop.matmul_flop(config),
            "6 N without it + 6 L D (S + 1) of causal attention": flop.token_flop(config, config.context),
            "6 N without it + 12 L D S of full attention": flop.matmul_flop(config) + 12 * attention * config.context,
            "computed, with what is computed again": executed_flop(config, self.choice.layout.mode),
        }

    def utilisation(self) -> dict[str, float]:
        """Share of the GPU's peak by each of them."""
        return {name: each * self.rate / self.gpu.flops for name, each in self.flop_per_token().items()}

    def as_json(self) -> dict[str, Any]:
        layout, step, memory = self.choice
        used = self.energy
        return {
            "format": FORMAT,
            "recipe": self.name,
            "gpu": self.gpu.name,
            "gpus": self.gpus,
            "parameters": shapes.parameters(self.config),
            "tokens": self.tokens,
            "steps": self.steps,
            "windows_per_step": self.windows,
            "flop_per_token": self.flop_per_token(),
            "utilisation": self.utilisation(),
            "mesh": layout.mesh(),
            "layer": layout.mode,
            "micro_batch": layout.micro_batch,
            "reshard": layout.reshard,
            "memory_per_gpu_bytes": memory.total,
            "memory": dict(memory.tensors),
            "memory_peak": memory.peak,
            "saving_bytes": self.saving._asdict(),
            "memory_of_gpu_bytes": self.gpu.memory - RESERVE,
            "seconds_per_step": step.seconds,
            "seconds": step.parts(),
            "tokens_per_second_per_gpu": self.rate,
            "tokens_per_second": self.rate * self.gpus,
            "days": self.days,
            "gpu_hours": self.gpu_hours,
            "watts_per_gpu": self.gpu.watts,
            "pue": PUE,
            "tco2eq_per_mwh": TONNES_PER_MWH,
            "mwh": used.mwh,
            "tco2eq": used.tco2eq,
            "dollars_per_gpu_hour": self.price,
            "priced": self.priced,
            "dollars": self.dollars,
            "gpu_source": self.gpu.source,
        }


def plan(
    recipe: Recipe, gpu: Gpu, gpus: int, *, price: float | None = None, mesh: tuple[int, int, int, int] | None = None
) -> Plan:
    """The plan of `recipe` on that many GPUs; what it says of `train.layer`, `train.micro_batch` and
    the axes of `train.mesh` is kept to.

    price: dollars a GPU hour, else that of gpus.toml, where there is one. mesh: replicate, shard, tensor, pipeline,
    else the recipe's, else the fastest. Raises InputError as `search.best`.
    """
    config = ModelConfig.from_recipe(recipe, recipe.tokenizer.pieces)
    windows = recipes.batch_windows(recipe)
    train = recipe.train
    asked = train.mesh
    if mesh is None and (asked.replicate or asked.shard or asked.tensor or asked.pipeline):
        kept = filled(asked, gpus)
        mesh = kept.replicate, kept.shard, kept.tensor, kept.pipeline
    wanted = Wanted(None if train.layer == "auto" else train.layer, train.micro_batch or None, mesh)
    choice = best(config, windows, gpus, gpu, wanted, where=recipe.name)
    given = gpu.dollars_an_hour if price is None else price
    priced = "" if given is None else (PRICED if price is None else "as given")
    return Plan(recipe.name, config, gpu, gpus, windows, recipes.steps(recipe), choice, given, priced)
