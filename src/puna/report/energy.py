"""The report's account of energy and carbon: each stage of the run, and its row below the paper's Table 15."""

from __future__ import annotations

from collections.abc import Sequence

from puna.cost.carbon import LATER, STAGES, TABLE_15, Account, Stage, fixed
from puna.report.facts import Facts
from puna.report.markup import NONE, Html, absent, element, join, note, seconds, table

OTHERS = {*STAGES.values(), LATER}
"""Stages that are not of the data."""


def spent(facts: Facts) -> Html:
    """What each stage took, and this run below the paper's models."""
    found = facts.carbon
    if found is None or not found.stages:
        return absent("an account of energy", "records/")
    data = [stage for stage in found.stages if stage.name not in OTHERS]
    apart = [stage for stage in found.stages if stage.name in OTHERS]
    lines = [("data, all its stages", data)] if data else []
    lines += [(stage.name, [stage]) for stage in apart]
    told = any(stage.kwh is not None for stage in found.stages)
    head = ["stage", "processor time", *(["kWh", "kg CO2eq", "by"] if told else [])]
    rows = [_row(name, stages, found, told) for name, stages in lines]
    rows.append(_row(element("strong", "all"), found.stages, found, told))
    by_stage = [_row(stage.name, [stage], found, told) for stage in data]
    paper = [[row.model, f"{row.gpu_hours:,}", f"{row.mwh:,}", f"{row.tonnes:,}"] for row in TABLE_15]
    own = ("not known", "not known") if found.kwh is None else _small(found.kwh, found.intensity)
    return join(
        table(head, rows),
        element("details", element("summary", "The data by stage"), table(head, by_stage)) if data else Html(""),
        note(*_how(found)),
        element("h3", "Table 15: energy of training"),
        table(["", "GPU hours", "MWh", "tonnes CO2eq"], [*paper, [element("strong", facts.name), "none", *own]]),
    )


def _how(found: Account) -> list[str]:
    said = [f"PUE {found.pue:g}, {found.intensity:g} kg of CO2 equivalent a kWh, as the recipe says. "]
    if found.how == "formula" and found.watts is not None:
        said.append(f"By the paper's formula: processor time / {found.threads} x {found.watts:g} W x PUE. ")
    if found.unseen:
        said.append(f"Not known, since more computed than was counted: {'; '.join(found.unseen)}. ")
    elif found.kwh is None:
        said.append(
            "Energy is not known, which is no zero, where the machine's counters could not be read and nobody stated "
            "a power, as carbon.watts in the recipe does. "
        )
    if found.gaps:
        said.append(f"Without an account, made by an older Puna: {', '.join(found.gaps)}. ")
    said.append("What was interrupted is not in it, nor what a finetuning took.")
    return said


def _row(name: object, stages: Sequence[Stage], of: Account, told: bool) -> list[object]:
    """Several stages as one; their energy is known as well as that of the one which is known least."""
    time = seconds(sum(stage.cpu_seconds for stage in stages))
    if not told:
        return [name, time]
    known = [stage.kwh for stage in stages if stage.kwh is not None]
    kwh = sum(known) if len(known) == len(stages) else None
    carbon = None if kwh is None else kwh * of.intensity
    return [name, time, _known(kwh), _known(carbon), " and ".join(dict.fromkeys(stage.how for stage in stages))]


def _small(kwh: float, intensity: float) -> tuple[str, str]:
    return fixed(kwh / 1000, 6), fixed(kwh * intensity / 1000, 6)


def _known(value: float | None) -> str:
    return NONE if value is None else fixed(value, 5)
