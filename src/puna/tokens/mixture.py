"""How many training windows a run has, and how they are shared among the sources (Table 1: shares and epochs).

Shares are exact: they become whole weights, whose sum is the period of the turns that `turns.py` deals out. A source
that may not be read more than so many epochs lowers the number of windows before the first step; shares never change
midway. A source without tokens is left out, and the other shares grow in proportion; both are said, and so is a source
that is read so often that its text wears out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cached_property
from math import lcm
from typing import Any

from puna import recipe as recipes
from puna import storage
from puna.errors import InputError
from puna.formats import MIXTURE
from puna.progress import say
from puna.storage import Place
from puna.tokens.manifest import Manifest, folder_of
from puna.tokens.turns import Turns

NAME = "mixture.json"
LONGEST_PERIOD = 100_000
MEND = "run `puna tokens` again"


@dataclass(frozen=True)
class Ration:
    """What one source gives. share: as the recipe has it. weight: its turns in a period. epoch_windows: windows that
    it holds. windows: those read in training; epochs: how often that is all of them. max_epochs: the recipe's cap, the
    source's own or that of all."""

    share: str
    weight: int
    epoch_windows: int
    windows: int
    epochs: float
    max_epochs: float | None


@dataclass(frozen=True)
class Mixture:
    """The plan of a run's windows. sources: in order of name, which the turns depend on. manifest: digest of the
    tokens it was made for. context: tokens of a window, less the one that only is predicted. asked: windows that the
    recipe asks for; windows: those there are, whole steps. capped_by: the source whose epochs made them fewer.
    missing: sources that the recipe has and the tokens have not, with their shares."""

    manifest: str
    seed: int
    context: int
    batch_windows: int
    asked: int
    windows: int
    steps: int
    capped_by: str | None
    missing: Mapping[str, str]
    sources: Mapping[str, Ration]

    @cached_property
    def turns(self) -> Turns:
        return Turns.of([ration.weight for ration in self.sources.values()])


def plan(recipe: recipes.Recipe, manifest: Manifest) -> Mixture:
    """The mixture of a recipe over the tokens there are; says what differs from what was asked.

    InputError when shares cannot be kept exactly in a period of 100,000 windows, when a source is shorter than one
    window, or when an epoch cap leaves not one step.
    """
    present, missing = _present(recipe, manifest)
    context, batch = recipe.train.context, recipes.batch_windows(recipe)
    weights = weights_of({name: Fraction(source.share) for name, source in present.items()})
    sizes = {name: _epoch_windows(name, manifest.sources[name].tokens, context) for name in present}
    turns = Turns.of(list(weights.values()))
    asked = recipes.steps(recipe) * batch
    windows, capped_by = asked, None
    limits = caps(recipe, present)
    for number, name in enumerate(present):
        limit = limits[name]
        if limit is not None:
            allowed = int(Fraction(str(limit)) * sizes[name])
            first_too_many = turns.index(number, allowed)
            if first_too_many < windows:
                windows, capped_by = first_too_many, name
    steps = windows // batch
    if steps == 0:
        own = capped_by is not None and recipe.sources[capped_by].max_epochs is not None
        key = f"sources.{capped_by}.max_epochs" if own else "data.max_epochs"
        raise InputError(
            f"{key} leaves {windows} windows, and one step takes {batch}",
            where="" if own else str(capped_by),
            mend=f"more text, a higher {key}, or a smaller train.batch",
        )
    windows = steps * batch
    rations = {}
    for number, (name, source) in enumerate(present.items()):
        count = turns.count(number, windows)
        rations[name] = Ration(
            share=str(source.share),
            weight=weights[name],
            epoch_windows=sizes[name],
            windows=count,
            epochs=count / sizes[name],
            max_epochs=limits[name],
        )
    mixture = Mixture(
        manifest=manifest.digest,
        seed=recipe.training_seed,
        context=context,
        batch_windows=batch,
        asked=asked,
        windows=windows,
        steps=steps,
        capped_by=capped_by,
        missing=missing,
        sources=rations,
    )
    for line in [*differences(mixture), *worn(mixture, recipe.data.warn_epochs)]:
        say(line)
    return mixture


def caps(recipe: recipes.Recipe, names: Iterable[str]) -> dict[str, float | None]:
    """How often each source may be read: its own `max_epochs`, else `data.max_epochs`; None: without limit."""
    own = {name: recipe.sources[name].max_epochs for name in names}
    return {name: recipe.data.max_epochs if cap is None else cap for name, cap in own.items()}


def differences(mixture: Mixture) -> list[str]:
    """In words, where the mixture differs from what the recipe asks for."""
    lines = []
    if mixture.missing:
        names = ", ".join(f"{name} ({share})" for name, share in mixture.missing.items())
        lines.append(f"no tokens from {names}: the other shares grow in proportion")
    if mixture.capped_by:
        ration = mixture.sources[mixture.capped_by]
        lines.append(
            f"{mixture.windows * mixture.context:,} training tokens instead of {mixture.asked * mixture.context:,}: "
            f"{mixture.capped_by} is read {ration.max_epochs:g} times at most"
        )
    return lines


def worn(mixture: Mixture, often: float | None) -> list[str]:
    """A warning of each source that is read more than `often` times; none where that is None."""
    return [
        f"{name} is read {ration.epochs:.2f} times, and text read more than {often:g} times (data.warn_epochs) "
        f"teaches less and less; give it more text, a smaller share, fewer train.tokens, or a sources.{name}.max_epochs"
        for name, ration in mixture.sources.items()
        if often is not None and ration.epochs > often
    ]


def write(run: Place, mixture: Mixture) -> None:
    """Write tokens/mixture.json."""
    storage.write_json(folder_of(run) / NAME, {"format": MIXTURE.version, **asdict(mixture)})


def read(run: Place) -> Mixture:
    """The mixture of a run; InputError when there is none or it is of a newer format."""
    path = folder_of(run) / NAME
    if not storage.exists(path):
        raise InputError("no mixture of tokens yet", where=str(run), mend="run `puna tokens` first")
    value: dict[str, Any] = storage.read_json(path)
    try:
        MIXTURE.refuse_newer(value.pop("format"), path)
        rations = {name: Ration(**ration) for name, ration in sorted(value.pop("sources").items())}
        return Mixture(sources=rations, **value)
    except (KeyError, TypeError, AttributeError):
        raise InputError("not a mixture of tokens", where=str(path), mend=MEND) from None


def weights_of(shares: Mapping[str, Fraction]) -> dict[str, int]:
    """The smallest whole weights in the proportion of `shares`, which need not sum to 1."""
    total = sum(shares.values())
    parts = {name: share / total for name, share in shares.items()}
    period = lcm(*(part.denominator for part in parts.values()))
    if period > LONGEST_PERIOD:
        raise InputError(
            f"the shares of {', '.join(shares)} come out even only every {period:,} windows",
            mend=f"give shares with fewer decimals, so that it is {LONGEST_PERIOD:,} at most",
        )
    return {name: int(part * period) for name, part in parts.items()}


def _present(recipe: recipes.Recipe, manifest: Manifest) -> tuple[dict[str, recipes.Source], dict[str, str]]:
    """The recipe's sources that have tokens, by name, and the shares of those that have none."""
    present, missing = {}, {}
    for name, source in sorted(recipe.sources.items()):
        if name in manifest.sources and manifest.sources[name].tokens:
            present[name] = source
        else:
            missing[name] = str(source.share)
    if not present:
        raise InputError("none of the recipe's sources has any tokens", mend="give at least one of them some inputs")
    return present, missing


def _epoch_windows(source: str, tokens: int, context: int) -> int:
    windows = (tokens - 1) // context
    if windows < 1:
        raise InputError(
            f"{source} has {tokens} tokens, less than one window of {context + 1}",
            mend=f"more text, a shorter train.context, or no sources.{source}",
        )
    return windows
