"""A whole run as one typed document: what is read, how it is cleaned and mixed, the model, its training.

A recipe holds intent only; what a machine decides (threads, kernels, versions) stands in machine.json. Every key is a
field below, documented by the string under it, which is also what docs/recipe.md and errors say. Defaults are the
paper's where it gives a number (section 2, Tables 1 and 2), else those of the reproductions that filled its gaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from puna import recipe_layers, recipe_text
from puna.formats import RECIPE
from puna.recipe_data import Data, Decontaminate, Heldout, LanguageModels, Reference, Tokenizer
from puna.recipe_fetch import Fetch, lay_inputs
from puna.recipe_sources import (
    C4,
    ArXiv,
    Books,
    CommonCrawl,
    GitHub,
    Section,
    Source,
    Sources,
    StackExchange,
    WebPages,
    Wikipedia,
)
from puna.recipe_text import Explained
from puna.recipe_values import (
    Fraction,
    Maybe,
    Minutes,
    Number,
    Positive,
    PositiveNumber,
    PositiveSteps,
    Steps,
    Takes,
    Texts,
    Tokens,
    Whole,
)

__all__ = [
    "C4", "ArXiv", "Books", "CommonCrawl", "Data", "Decontaminate", "Evaluate", "Explained", "Family", "Fetch",
    "GitHub",
    "Heldout", "LanguageModels", "Mesh", "Model", "Recipe", "Reference", "Samples", "Source", "Sources",
    "StackExchange", "Tokenizer", "Train", "Wikipedia",
    "as_json", "as_toml", "batch_tokens", "batch_windows", "chosen", "explain", "key_table", "load", "names", "steps",
]  # fmt: skip


Sizes = Annotated[list[Positive], Field(min_length=1, max_length=16), Takes("a list of whole numbers, one for a size")]


def load(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of that name or file with `section.key=value` overrides laid over it, resolved and validated.

    Raises InputError, always one line: no such recipe, broken TOML, an unknown key, a value of the wrong kind.
    """
    values, origins = recipe_layers.gather(name_or_path, overrides)
    lay_inputs(values, origins)
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise recipe_text.refusal(error, Recipe, origins) from None
    recipe._origins = origins
    return recipe


def names() -> list[str]:
    """The recipes inside the package, sorted."""
    return recipe_layers.names()


def explain(recipe: Recipe) -> list[Explained]:
    """(key, value, origin) of every resolved value; origin: "default", the file as it was named, or "command line"."""
    return recipe_text.explained(recipe, recipe._origins)


def as_toml(recipe: Recipe, *, origins: bool = False) -> str:
    """The resolved recipe as a TOML file: `load` gives the same values back. origins: say in a comment who set each."""
    return f"format = {RECIPE.version}\n" + recipe_text.toml(recipe, recipe._origins if origins else None)


def as_json(recipe: Recipe) -> str:
    """The resolved recipe as one JSON object, sections as in TOML, counts in tokens, steps or bytes, plus `origins`."""
    return recipe_text.json_text(recipe, recipe._origins)


def chosen(recipe: Recipe) -> dict[str, Any]:
    """The values that are not the defaults, as JSON: keys that a later version adds change nothing of it."""
    return recipe.model_dump(mode="json", exclude_defaults=True)


def key_table() -> str:
    """The Markdown table of every key that docs/recipe.md shows."""
    return recipe_text.table(Recipe, shared="sources")


def batch_windows(recipe: Recipe) -> int:
    """Windows a step: `train.batch` tokens rounded down to whole windows of `train.context` tokens, at least one."""
    return max(1, recipe.train.batch // recipe.train.context)


def batch_tokens(recipe: Recipe) -> int:
    """Tokens a step, after that rounding."""
    return batch_windows(recipe) * recipe.train.context


def steps(recipe: Recipe) -> int:
    """The steps asked for: `train.steps`, or ceil(`train.tokens` / tokens a step). Epoch caps may leave fewer."""
    if recipe.train.steps is not None:
        return recipe.train.steps
    assert recipe.train.tokens is not None  # Train holds exactly one of the two
    return -(-recipe.train.tokens // batch_tokens(recipe))


class Model(Section):
    dim: Positive
    """Width of the residual stream (Table 2)."""
    heads: Positive
    """Attention heads; `dim / heads` is the width of one."""
    layers: Positive
    """Transformer layers."""
    kv_heads: Maybe[Positive] = None
    """Key and value heads, shared by equal groups of heads; unset: one each, as in the paper."""
    multiple_of: Positive = 256
    """The feed-forward width, 2/3 of 4 dim, is rounded up to a multiple of this."""
    rope_base: PositiveNumber = 10_000.0
    """Base of the rotary embeddings' wavelengths."""
    norm_epsilon: PositiveNumber = 1e-6
    """Added to the mean square in RMSNorm."""
    tied: bool = False
    """Use the input embedding as the output layer."""

    @property
    def hidden(self) -> int:
        """Width of the feed-forward layer: 2/3 * 4 * dim rounded up to a multiple of `multiple_of`."""
        return -(-(8 * self.dim // 3) // self.multiple_of) * self.multiple_of

    def parameters(self, vocabulary: int) -> int:
        """Weights of the whole model; Table 2's sizes are this at 32,000 pieces, cut to one decimal."""
        kv_dim = self.dim // self.heads * (self.kv_heads or self.heads)
        attention = 2 * self.dim * self.dim + 2 * self.dim * kv_dim
        layer = attention + 3 * self.dim * self.hidden + 2 * self.dim
        return self.layers * layer + self.dim + vocabulary * self.dim * (1 if self.tied else 2)

    @model_validator(mode="after")
    def _divides(self) -> Model:
        if self.dim % (2 * self.heads):
            raise ValueError(
                f"model.dim {self.dim} must be an even multiple of model.heads {self.heads}: heads are turned in pairs"
            )
        if self.kv_heads and self.heads % self.kv_heads:
            raise ValueError(f"model.heads {self.heads} must be a multiple of model.kv_heads {self.kv_heads}")
        return self


class Mesh(Section):
    replicate: Whole = 0
    """Groups of ranks that each hold the whole model and sum their gradients, such as one a node; 0: chosen."""
    shard: Whole = 0
    """Ranks that share weights, gradients and moments (FSDP); 0: chosen, or all that the other axes leave."""
    tensor: Whole = 0
    """Ranks that share heads, hidden columns and the sequence; 0: chosen."""
    pipeline: Whole = 0
    """Groups of ranks that hold a part of the layers each, one after another (1F1B); 0: one."""
    reshard: bool = True
    """Let weights that were gathered for the forward pass go and gather them again for the backward pass."""


class Train(Section):
    context: Positive = 2048
    """Tokens of a window."""
    batch: Annotated[Tokens, Field(gt=0)] = 4_000_000
    """Tokens a step, rounded down to whole windows, at least one."""
    tokens: Maybe[Tokens] = None
    """Tokens to train on; the last step is whole. Exactly one of `tokens` and `steps` is given."""
    steps: Maybe[PositiveSteps] = None
    """Steps to train, instead of `tokens`."""
    learning_rate: PositiveNumber
    """The highest rate, reached after the warm-up."""
    minimum_rate: Fraction = 0.1
    """What is left of it at the end of the cosine, as a share."""
    warmup: Steps = 2000
    """Steps in which the rate rises from 0."""
    weight_decay: Number = 0.1
    """AdamW's decay."""
    beta1: Annotated[Fraction, Field(lt=1), Takes("a number from 0, below 1")] = 0.9
    """AdamW's first moment."""
    beta2: Annotated[Fraction, Field(lt=1), Takes("a number from 0, below 1")] = 0.95
    """AdamW's second moment."""
    epsilon: PositiveNumber = 1e-8
    """AdamW's smallest divisor."""
    clip: PositiveNumber = 1.0
    """Largest norm of the gradient; a larger one is scaled down."""
    layer: Literal["auto", "reference", "selective", "full", "hand", "lean"] = "auto"
    """Which implementation of the transformer layer trains; they differ in memory and time. auto: the fastest that fits
    in free memory."""
    documents: Literal["packed", "masked"] = "packed"
    """Whether the documents of a window see each other: packed, as in the paper, or masked: each sees itself alone."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where training, and what measures its model, computes. auto: on a GPU where torch sees one, else on processors.
    Not run on a GPU yet."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Type of the computation; weights are kept in float32. auto: bfloat16 where the processor or GPU has it."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile. auto: where a C++ compiler is found."""
    micro_batch: Whole = 0
    """Windows in one forward pass of a rank, to bound memory; 0: those that the planner found with the mesh, where it
    chose that, else all that it has of the batch. A pipeline needs at
    least as many passes as it has stages."""
    checkpoint_every: PositiveSteps = 1000
    """Steps between checkpoints."""
    keep: Positive = 2
    """Checkpoints that are kept, the newest ones."""
    keep_every: Maybe[PositiveSteps] = None
    """Checkpoints of every so many steps are made too, and kept for good."""
    save: Literal["beside", "between"] = "beside"
    """Checkpoints are written beside the next steps, from a copy in memory (12 bytes a parameter), or between steps."""
    max_nonfinite: Positive = 10
    """Steps in a row that may be skipped because loss or gradient is not finite, or the loss a spike; one more stops
    the training."""
    spike: Literal["observe", "skip", "rewind"] = "observe"
    """What becomes of a step whose loss is a spike. skip: its gradient is not used. rewind: training goes back to the
    checkpoint before it and passes over what was read since."""
    spike_window: Annotated[PositiveSteps, Field(ge=4), Takes('at least 4 steps, such as "64 steps"', "steps")] = 64
    """Losses before a step by which its own is judged."""
    spike_score: PositiveNumber = 8.0
    """Spreads above their median from which a loss is a spike; a spread is 1.4826 times the median deviation."""
    spike_margin: Maybe[Steps] = None
    """Steps before a spike that a rewind passes over with it; unset: all since the checkpoint."""
    max_rewinds: Positive = 10
    """Rewinds of a training; one more stops it."""
    seed: Maybe[Whole] = None
    """Seed of the first weights and of the order of windows; unset: `seed`, from which the text follows as well."""
    evaluate_every: Maybe[PositiveSteps] = None
    """Steps between measures of held-out loss, each behind a checkpoint of its own; unset: only at the end."""
    evaluate_tokens: Tokens = 100_000
    """Held-out tokens of a source that are read for it at most; whole documents, the first in order of id."""
    hang_minutes: Minutes = 30.0
    """Minutes without progress after which the training ends itself with status 75; 0: never."""
    log_every: Positive = 1
    """Steps between lines of metrics.jsonl."""
    log_to: list[Literal["tensorboard", "wandb", "mlflow"]] = Field(default=[])
    """Where the lines of metrics.jsonl go too; each needs the extra of that name."""
    mesh: Mesh = Field(default_factory=Mesh)
    """How the ranks that torchrun starts share model and batch; one process alone has no use for it."""

    @model_validator(mode="after")
    def _one_length(self) -> Train:
        if (self.tokens is None) == (self.steps is None):
            what = "are both given" if self.tokens is not None else "are both missing"
            raise ValueError(f'train.tokens and train.steps {what}; give exactly one, such as tokens = "1.4T"')
        return self


class Evaluate(Section):
    context: Maybe[Positive] = None
    """Tokens the model sees at once when held-out text is measured; unset: `train.context`."""
    stride: Maybe[Positive] = None
    """Tokens between two such views; unset: half the context."""
    ngram_order: Positive = 5
    """Order of the n-gram model beside which the model is shown."""
    baselines: list[Literal["xz", "zstd", "ngram", "uniform"]] = Field(default=["xz", "zstd", "ngram", "uniform"])
    """What stands beside the model in the table of bits per byte."""
    cloze_items: Whole = 300
    """Cloze items that are made of a source's held-out text at most, and asked at the end; 0: none."""
    benchmarks: Annotated[str, Takes('a folder in quotes, such as "benchmarks", or "" for none')] = "benchmarks"
    """Folder of the paper's benchmarks, as `puna fetch --benchmarks` leaves them: those that lie there when a run ends
    are asked and shown in the paper's tables."""
    benchmark_items: Positive = 200
    """Items of each task that are asked then at most."""


class Samples(Section):
    prompts: Texts = Field(default=[])
    """Prompts that the trained model continues in the report, all of them, unselected."""
    tokens: Positive = 128
    """Tokens of each continuation."""
    temperature: Number = 0.8
    """Sampling temperature; 0 takes the likeliest token."""
    top_p: Annotated[Fraction, Field(gt=0), Takes("a number above 0, at most 1")] = 0.95
    """Sample from the likeliest tokens that hold this share of the probability."""
    seed: Whole = 1
    """Seed of the samples."""


class Family(Section):
    dims: Sizes
    """`model.dim` of each size."""
    heads: Sizes
    """`model.heads` of each size."""
    layers: Sizes
    """`model.layers` of each size."""
    seeds: Sizes
    """How many models of each size are trained; they differ in `train.seed`, from 1 on."""
    rate: PositiveNumber = 0.576
    """The learning rate is this over `model.dim`: 3e-3 at 192, as in `laptop`, and half of it at twice the width, as in
    the paper's Table 2. The batch, `train.batch`, is that of every size there, and here."""
    warmup: Fraction = 0.05
    """The warm-up's share of the steps."""

    @model_validator(mode="after")
    def _one_of_each(self) -> Family:
        if len({len(self.dims), len(self.heads), len(self.layers), len(self.seeds)}) > 1:
            raise ValueError("family.dims, heads, layers and seeds must have one number for each size")
        return self


class Carbon(Section):
    watts: Maybe[PositiveNumber] = None
    """Stated power of the machine's processors together, for machines whose energy cannot be read; unset: unknown."""
    cores: Maybe[Positive] = None
    """Hardware threads that have these watts together; unset: those of the machine that did a step."""
    intensity: Number = 0.385
    """kg of CO2 equivalent a kWh; the paper's is the average of the United States."""
    pue: Annotated[Number, Field(ge=1), Takes("a number from 1")] = 1.1
    """Power usage effectiveness: what the data centre takes for each unit that computes."""


class Recipe(Section):
    name: Annotated[
        str, Field(pattern=r"^\w([\w .-]{0,98}\w)?$"), Takes("a name in quotes of letters, digits, spaces, -, _ and .")
    ]
    """The run's name: its folder is runs/NAME."""
    seed: Whole = 1
    """Every random choice of the run follows from it."""
    sources: Sources
    fetch: Maybe[Fetch] = None
    data: Data = Field(default_factory=Data)
    lm: LanguageModels = Field(default_factory=LanguageModels)
    heldout: Heldout = Field(default_factory=Heldout)
    reference: Reference = Field(default_factory=Reference)
    decontaminate: Decontaminate = Field(default_factory=Decontaminate)
    tokenizer: Tokenizer = Field(default_factory=Tokenizer)
    model: Model
    train: Train
    evaluate: Evaluate = Field(default_factory=Evaluate)
    samples: Samples = Field(default_factory=Samples)
    carbon: Carbon = Field(default_factory=Carbon)
    family: Maybe[Family] = None

    _origins: recipe_layers.Origins = PrivateAttr(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        """Recipes are equal when their values are, wherever those came from."""
        return isinstance(other, Recipe) and self.model_dump() == other.model_dump()

    @property
    def training_seed(self) -> int:
        """Of the first weights and of the order of windows."""
        return self.seed if self.train.seed is None else self.train.seed

    @model_validator(mode="after")
    def _models_are_asked(self) -> Recipe:
        web = [source for _, source in self.sources.items() if isinstance(source, WebPages)]
        asked = {code for source in web if source.perplexity_percentiles for code in source.languages}
        if unasked := sorted(self.lm.models.keys() - asked):
            raise ValueError(f"lm.models names {', '.join(unasked)}, and no source judges such pages by perplexity")
        if self.data.language_model is not None and not any(source.languages for source in web):
            raise ValueError("data.language_model changes nothing: no source of web pages has languages")
        return self

    @model_validator(mode="after")
    def _stride_within_context(self) -> Recipe:
        context = self.evaluate.context or self.train.context
        if self.evaluate.stride and self.evaluate.stride > context:
            raise ValueError(
                f"evaluate.stride {self.evaluate.stride} is more than the context, {context}: text would be skipped"
            )
        return self
