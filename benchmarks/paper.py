"""What the paper's printed numbers say of its own claims, worked out again: nothing is trained or measured.

    python benchmarks/paper.py [--json FILE] [--quick]

Shares and epochs of Table 1, days and utilisation of section 2.4, what the text says of one model beside another (in
how many columns of a table it is above, by how many points), Table 15 by its formula, and all of the development's
energy. `--quick` changes nothing.
"""

from __future__ import annotations

import argparse
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

from form import metric
from puna import recipe as recipes
from puna.cost.carbon import TABLE_15, WATTS
from puna.evaluate.tables import published
from puna.model import flop
from puna.model.config import ModelConfig
from puna.plan.energy import PUE, TONNES_PER_MWH
from puna.plan.gpus import gpu
from puna.tokens.table_1 import TABLE_1

# What section 2.4 and section 6 print.
RATE, GPUS, TOKENS = 380, 2048, 1.4e12
DEVELOPMENT_MWH, DEVELOPMENT_MONTHS = 2638, 5
# Where the text says that one model is above another: table, the model, the other.
COMPARED = {
    "t3_13b_gpt3": (3, "LLaMA 13B", "GPT-3 175B"),
    "t3_65b_chinchilla": (3, "LLaMA 65B", "Chinchilla 70B"),
    "t3_65b_palm540b": (3, "LLaMA 65B", "PaLM 540B"),
    "t4_13b_gpt3": (4, "LLaMA 13B", "GPT-3 175B"),
    "t4_13b_chinchilla": (4, "LLaMA 13B", "Chinchilla 70B"),
    "t5_13b_chinchilla": (5, "LLaMA 13B", "Chinchilla 70B"),
    "t6_13b_gpt3": (6, "LLaMA 13B", "GPT-3 175B"),
    "t6_65b_palm540b": (6, "LLaMA 65B", "PaLM 540B"),
    "t8_13b_lamda": (8, "LLaMA 13B", "LaMDA 137B"),
    "t8_65b_palm62b": (8, "LLaMA 65B", "PaLM 62B (@100, @80 read from figures)"),
    "t9_13b_gpt3": (9, "LLaMA 13B", "GPT-3 175B"),
    "t14_7b_gpt3": (14, "LLaMA 7B", "GPT-3 175B"),
}
BEST = {"t4_65b_best": 4, "t5_65b_best": 5}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="accepted as by every script here; it is always quick")
    asked = parser.parse_args()
    figures = {**data(), **efficiency(), **comparisons(), **carbon()}
    for name, figure in figures.items():
        print(f"{name:44} {figure['value']:>16,.4f} {figure['unit']}")
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


def data() -> dict[str, Any]:
    """Table 1: the shares' sum, and the tokens of each source that are not repeated, from shares and epochs."""
    shares = {source: Fraction(given.share) for source, given in TABLE_1.items()}
    unique = {source: float(shares[source]) * TOKENS / TABLE_1[source].epochs / 1e9 for source in shares}
    twice = sum(share for source, share in shares.items() if TABLE_1[source].epochs > 2)
    return {
        "sources": metric(len(shares), "sources"),
        "shares_sum": metric(100 * float(sum(shares.values())), "%"),
        "share_read_about_twice": metric(100 * float(twice), "% of tokens"),
        "share_read_about_once": metric(100 * float(1 - twice), "% of tokens"),
        "unique_tokens": metric(sum(unique.values()), "B tokens"),
        **{f"unique_tokens_{source}": metric(tokens, "B tokens") for source, tokens in unique.items()},
    }


def efficiency() -> dict[str, Any]:
    """Section 2.4: what 380 tokens a second and GPU are in days and of the GPU's peak."""
    recipe = recipes.load("llama-65b")
    config = ModelConfig.from_recipe(recipe, recipe.tokenizer.pieces)
    peak = gpu("A100-80GB").flops
    return {
        "days": metric(TOKENS / RATE / GPUS / 86_400, "days"),
        "utilisation": metric(100 * RATE * flop.token_flop(config, config.context) / peak, "% of the peak"),
        "gpt3_over_13b": metric(175e9 / _parameters("llama-13b"), "times the parameters"),
    }


def comparisons() -> dict[str, Any]:
    """In how many columns that both rows have the first model is above the second; and what else is said of a table."""
    found = {}
    for name, (number, ours, other) in COMPARED.items():
        columns = published()[number][ours].keys() & published()[number][other].keys() - {"average"}
        above = sum(published()[number][ours][key] > published()[number][other][key] for key in columns)
        found |= {f"{name}_above": metric(above, "columns"), f"{name}_of": metric(len(columns), "columns")}
    for name, number in BEST.items():
        rows = dict(published()[number])
        best = rows.pop("LLaMA 65B")
        above = sum(all(best[key] > row.get(key, 0) for row in rows.values()) for key in best)
        found |= {f"{name}_above": metric(above, "columns"), f"{name}_of": metric(len(best), "columns")}
    same = [name for name, (_, *models) in COMPARED.items() if models == ["LLaMA 13B", "GPT-3 175B"]]
    for end in ("above", "of"):
        found[f"13b_gpt3_{end}"] = metric(sum(found[f"{name}_{end}"]["value"] for name in same), "columns")
    return found | points()


def points() -> dict[str, Any]:
    """Differences that the text speaks of, in the points of their tables."""
    toxic, crows, gender = published()[11], published()[12], published()[13]["LLaMA 65B"]
    solved, known, instructed = published()[7], published()[9], published()[10]
    minerva, ours = solved["Minerva 62B"], solved["LLaMA 65B"]
    one = (gender["her/her/she"] + gender["his/him/he"]) / 2
    gotcha = (gender["her/her/she gotcha"] + gender["his/him/he gotcha"]) / 2
    found = {
        "t7_gsm8k": ours["gsm8k"] - minerva["gsm8k"],
        "t7_gsm8k_majority": ours["gsm8k_maj1@100"] - minerva["gsm8k_maj1@100"],
        "t9_behind_chinchilla": known["Chinchilla 70B"]["average"] - known["LLaMA 65B"]["average"],
        "t9_behind_palm540b": known["PaLM 540B"]["average"] - known["LLaMA 65B"]["average"],
        "t10_gain": instructed["LLaMA-I-65B"]["mmlu"] - instructed["LLaMA-65B"]["mmlu"],
        "t10_over_flan_palm_cont": instructed["LLaMA-I-65B"]["mmlu"] - instructed["Flan-PaLM-cont-62B"]["mmlu"],
        "t11_basic_growth": toxic["LLaMA 65B"]["basic"] - toxic["LLaMA 7B"]["basic"],
        "t11_respectful_growth": toxic["LLaMA 65B"]["respectful"] - toxic["LLaMA 7B"]["respectful"],
        "t12_religion_over_opt": crows["LLaMA 65B"]["religion"] - crows["OPT"]["religion"],
        "t12_under_gpt3": crows["GPT-3"]["average"] - crows["LLaMA 65B"]["average"],
        "t12_under_opt": crows["OPT"]["average"] - crows["LLaMA 65B"]["average"],
        "t13_their_over_others": gender["their/them/someone"] - one,
        "t13_gotcha_under_all": one - gotcha,
    }
    return {name: metric(value, "points") for name, value in found.items()}


def carbon() -> dict[str, Any]:
    """Table 15 by its formula, and what the development's energy is in GPU hours and months of all GPUs."""
    found = {}
    for row in TABLE_15:
        mwh, tonnes = row.again()
        name = row.model.lower().replace("-", "_")
        found |= {f"{name}_mwh": metric(mwh, "MWh"), f"{name}_tonnes": metric(tonnes, "tCO2eq")}
    hours = DEVELOPMENT_MWH * 1e6 / (WATTS * PUE)
    same = sum(round(row.again()[0]) == row.mwh and round(row.again()[1]) == row.tonnes for row in TABLE_15)
    return {
        **found,
        "table_15_rows": metric(len(TABLE_15), "rows"),
        "table_15_same": metric(same, "rows to the printed digit"),
        "development_tonnes": metric(DEVELOPMENT_MWH * TONNES_PER_MWH, "tCO2eq"),
        "development_months": metric(hours / GPUS / 24 / 365.25 * 12, "months of 2,048 GPUs"),
        "development_over_models": metric(DEVELOPMENT_MWH / sum(_ours_mwh()), "times the four models' energy"),
    }


def _ours_mwh() -> list[float]:
    return [row.again()[0] for row in TABLE_15 if row.model.startswith("LLaMA")]


def _parameters(name: str) -> int:
    recipe = recipes.load(name)
    return recipe.model.parameters(recipe.tokenizer.pieces)


if __name__ == "__main__":
    main()
