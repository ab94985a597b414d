"""The energy and carbon of a run, stage by stage, and the paper's Table 15 with its row (section 6).

Three ways, the first that is there: measured (records hold what meter.py read); by the paper's formula, with the stated
power of the processor in place of a GPU's, by the processor time that was used; unknown, where nobody said a power. The
paper's formula is Wh = hours x watts x PUE, and tonnes are MWh x 0.385; measured energy is multiplied by PUE as well,
since RAPL sees the processor alone.

What computed and was not seen (GPUs that NVML does not count, ranks and tasks on other machines) is told by the record,
and leaves the energy of its stage unknown.

Not in it: attempts that were interrupted, whose records were never ended; the rest of the machine (memory without RAPL,
disks, fans) but for what PUE stands for; and what is done outside of a run's steps, but for `puna evaluate`, whose
results.json tells what each call took. A finetuning keeps the same of its measures and its training.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from puna import cost, records, run, storage
from puna.finetune import ENERGY, parts_taken
from puna.plan.energy import TONNES_PER_MWH, energy
from puna.recipe import Carbon
from puna.storage import Place

FORMAT = 1  # of the JSON
How = Literal["measured", "formula", "unknown"]
WATTS = 400  # of an A100-80GB, for every model of Table 15
RESULTS = "evaluations/benchmarks/*/results.json"  # of puna evaluate, for each checkpoint of a run
OF_FINETUNED = "model/benchmarks/results.json"  # and for a finetuned model
STAGES = {
    "train": "training",
    **dict.fromkeys(("baselines", "cloze_items", "evaluate", "cloze", "samples", "tables"), "evaluation"),
    "report": "report",
}
ASKED, LATER = "asked", "benchmarks asked later"  # what stands in place of a step for them, and their stage


@dataclass(frozen=True)
class Published:
    """A row of Table 15, as printed."""

    model: str
    gpu_hours: int
    mwh: int
    tonnes: int
    note: str = ""

    def again(self) -> tuple[float, float]:
        """MWh and tonnes by the paper's formula, not rounded."""
        found = energy(self.gpu_hours, WATTS)
        return found.mwh, found.tco2eq


TABLE_15 = (
    Published("OPT-175B", 809_472, 356, 137),
    Published("BLOOM-175B", 1_082_880, 475, 183, "the formula gives 476.47, where the paper prints 475"),
    Published("LLaMA-7B", 82_432, 36, 14),
    Published("LLaMA-13B", 135_168, 59, 23),
    Published("LLaMA-33B", 530_432, 233, 90),
    Published("LLaMA-65B", 1_022_362, 449, 173, "the formula gives 449.84, which the paper cuts to 449"),
)


@dataclass
class Stage:
    name: str
    cpu_seconds: float = 0.0
    kwh: float | None = 0.0
    """With PUE; None where it is unknown."""
    how: How = "measured"

    def as_json(self, intensity: float) -> dict[str, Any]:
        return {**asdict(self), "kg_co2eq": None if self.kwh is None else self.kwh * intensity}


@dataclass(frozen=True)
class Account:
    """What a run took."""

    stages: tuple[Stage, ...]
    intensity: float
    pue: float
    watts: float | None
    cores: int | None
    """Hardware threads among which the watts were shared; None where steps ran on machines with different numbers."""
    gaps: tuple[str, ...]
    """Steps that tell nothing of their processor time."""
    unseen: tuple[str, ...] = ()
    """Steps in which more computed than was counted, with what."""

    @property
    def kwh(self) -> float | None:
        known = [stage.kwh for stage in self.stages]
        return None if not known or None in known else sum(each for each in known if each is not None)

    @property
    def threads(self) -> str:
        return f"{self.cores} hardware threads" if self.cores else "the hardware threads of each step's machine"

    @property
    def how(self) -> How:
        kinds = {stage.how for stage in self.stages}
        return "unknown" if not kinds or "unknown" in kinds else "formula" if "formula" in kinds else "measured"

    def as_json(self) -> dict[str, Any]:
        kwh = self.kwh
        return {
            "format": FORMAT,
            "how": self.how,
            "kwh": kwh,
            "kg_co2eq": None if kwh is None else kwh * self.intensity,
            "cpu_hours": sum(stage.cpu_seconds for stage in self.stages) / 3600,
            "intensity": self.intensity,
            "pue": self.pue,
            "watts": self.watts,
            "cores": self.cores,
            "stages": [stage.as_json(self.intensity) for stage in self.stages],
            "gaps": list(self.gaps),
            "unseen": list(self.unseen),
            "table_15": [_row(each) for each in TABLE_15],
        }


def account(folder: Place, *, watts: float | None = None, cores: int | None = None) -> Account:
    """Of the run in `folder`, or of a finetuning. watts, cores: in place of the recipe's, which a finetuning does not
    have. InputError when it is neither."""
    if storage.is_file(folder / ENERGY):
        return of_records(Carbon(), _finetuned(folder), watts=watts, cores=cores)
    recipe = run.read_recipe(folder)
    done = {**records.read_records(folder), **asked_later(folder)}
    return of_records(recipe.carbon, done, watts=watts, cores=cores)


def _finetuned(folder: Place) -> dict[str, Any]:
    """What a finetuning took, in the form of records."""
    steps = parts_taken(folder)
    return {f"{each.get('step')}.{number}": each for number, each in enumerate(steps)} | asked_later(
        folder, OF_FINETUNED
    )


def asked_later(folder: Place, files: str = RESULTS) -> dict[str, Any]:
    """What calls of `puna evaluate` took that wrote into the run, each in the form of a record. A call that was stopped
    tells nothing, and one with --out tells it there alone. files: where such calls wrote, as a pattern."""
    found = {}
    for file in storage.listing(folder, files):
        told = storage.read_json(file)
        calls = told.get("energy") if isinstance(told, dict) else None
        for number, taken in enumerate(calls if isinstance(calls, list) else []):
            found[f"{ASKED}.{file.parent.name}.{number}"] = {"energy": taken}
    return found


def of_records(
    said: Carbon, done: Mapping[str, Any], *, watts: float | None = None, cores: int | None = None
) -> Account:
    """said: the recipe's intensity, PUE and power. done: records by step, which tell how many hardware threads their
    machine has; those of an older Puna do not, and this machine's are taken."""
    watts = watts if watts is not None else said.watts
    cores = cores or said.cores
    shared: set[int] = set()
    stages: dict[str, Stage] = {}
    gaps, unseen = [], []
    for step, record in done.items():
        taken = record.get("energy")
        used = taken.get("cpu_seconds") if isinstance(taken, dict) else None
        if not isinstance(used, int | float):
            gaps.append(step)
            continue
        if told := _unseen(taken):
            unseen.append(f"{step} ({', '.join(told)})")
        name, own = _stage(step), taken.get("threads")
        among = cores or (own if isinstance(own, int) and own > 0 else None) or os.cpu_count() or 1
        shared.add(among)
        _add(stages.setdefault(name, Stage(name)), taken, float(used), said.pue, watts, among)
    order = [*dict.fromkeys(cost.LABELS.values()), "training", "evaluation", "report", LATER]
    ranked = sorted(stages.values(), key=lambda stage: order.index(stage.name) if stage.name in order else len(order))
    one = shared.pop() if len(shared) == 1 else cores
    aside = tuple(sorted(gaps)), tuple(sorted(unseen))
    return Account(tuple(ranked), said.intensity, said.pue, watts, one, *aside)


def _unseen(taken: Mapping[str, Any]) -> list[str]:
    told = taken.get("unseen")
    return [str(each) for each in told] if isinstance(told, list) else []


def _stage(step: str) -> str:
    stage = step.partition(".")[0]
    if stage == ASKED:
        return LATER
    return STAGES.get(stage) or cost.LABELS.get(stage, stage)


def _add(stage: Stage, taken: Mapping[str, Any], used: float, pue: float, watts: float | None, cores: int) -> None:
    """Add one step's energy to its stage; a stage is known as well as the step that is known least."""
    stage.cpu_seconds += used
    package, share, gpu = (taken.get(name) for name in ("package_joules", "share", "gpu_joules"))
    joules: float | None = None
    how: How = "unknown"
    counted = not _unseen(taken)
    if counted and isinstance(package, int | float) and isinstance(share, int | float):
        joules, how = package * share, "measured"
    elif counted and watts is not None:
        joules, how = watts * used / cores, "formula"
    if joules is not None and isinstance(gpu, int | float):
        joules += gpu
    ranks: tuple[How, ...] = ("measured", "formula", "unknown")
    stage.how = max(stage.how, how, key=ranks.index)
    stage.kwh = None if joules is None or stage.kwh is None else stage.kwh + joules * pue / 3.6e6


def as_text(found: Account) -> str:
    """The account as lines for people."""
    lines = [f"{'stage':26}{'processor hours':>16}{'kWh':>12}{'kg CO2eq':>12}  by"]
    lines += [_line(stage.name, stage.cpu_seconds, stage.kwh, found.intensity, stage.how) for stage in found.stages]
    whole = sum(stage.cpu_seconds for stage in found.stages)
    lines.append(_line("all", whole, found.kwh, found.intensity, found.how))
    lines.append("")
    if found.kwh is None and not found.unseen:
        lines.append(
            "The energy is unknown: the machine's counters could not be read (RAPL is for root), and nobody said the"
        )
        lines.append("power of its processors: give --watts, or before a run carbon.watts in its recipe.")
    if found.unseen:
        lines.append(f"Unknown, since more computed than was counted: {'; '.join(found.unseen)}.")
    if found.how == "formula":
        lines.append(f"By the formula: processor time / {found.threads} x {found.watts:g} W x PUE {found.pue:g}.")
    if found.gaps:
        lines.append(f"Without an account of processor time, made by an older Puna: {', '.join(found.gaps)}.")
    lines.append("Not in it: attempts that were interrupted, whose steps were done again or went on.")
    lines += ["", "Table 15, recomputed: Wh = GPU hours x 400 W x PUE 1.1, tCO2eq = MWh x 0.385", ""]
    lines.append(f"{'':12}{'GPU hours':>12}{'MWh':>8}{'again':>9}{'tCO2eq':>9}{'again':>9}")
    for row in TABLE_15:
        mwh, tonnes = row.again()
        note = f"  {row.note}" if row.note else ""
        lines.append(f"{row.model:12}{row.gpu_hours:>12,}{row.mwh:>8}{mwh:>9.2f}{row.tonnes:>9}{tonnes:>9.2f}{note}")
    own = (
        "unknown"
        if found.kwh is None
        else f"{fixed(found.kwh / 1000, 6)} MWh, {fixed(found.kwh * found.intensity / 1000, 6)} tCO2eq"
    )
    lines.append(f"{'this run':12}{'none':>12}   {own}, on processors, {found.how}")
    return "\n".join(lines)


def fixed(value: float, places: int) -> str:
    """With so many decimals; by its power of ten where they would make a zero of what is none."""
    return f"{value:.1e}" if 0 < value < 10 ** (1 - places) else f"{value:.{places}f}"


def _line(name: str, seconds: float, kwh: float | None, intensity: float, how: str) -> str:
    known = ("unknown", "unknown") if kwh is None else (fixed(kwh, 5), fixed(kwh * intensity, 5))
    return f"{name:26}{fixed(seconds / 3600, 4):>16}{known[0]:>12}{known[1]:>12}  {how}"


def _row(row: Published) -> dict[str, Any]:
    mwh, tonnes = row.again()
    return {**asdict(row), "watts": WATTS, "mwh_again": mwh, "tonnes_again": tonnes, "intensity": TONNES_PER_MWH}
