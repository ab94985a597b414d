"""`puna plan` as it is typed: what it shows, what it refuses, and that the pages show the same."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

import typed
from puna import recipe as recipes
from puna.plan import planned, screen
from puna.plan.efficiency import efficiency
from puna.plan.gpus import gpu, gpus, listed
from test_readme import _script

ROOT = Path(__file__).parents[1]
A100 = gpu("A100-80GB")


@pytest.mark.parametrize(
    "name", [*(name for name in recipes.names() if name.startswith(("llama", "gpu-day"))), "laptop", "web"]
)
def test_a_screen_fits_80_columns(name: str) -> None:
    plan = planned.plan(recipes.load(name), A100, 64 if name.startswith("llama") else 1)
    text = screen.as_text(plan)
    assert max(map(len, text.splitlines())) <= 80


def test_a_table_fits_80_columns_and_says_what_does_not_fit() -> None:
    plans = [planned.plan(recipes.load(name), gpu("H100-80GB"), 8_192) for name in ("llama-13b", "llama-33b")]
    text = screen.table([*plans, *plans[:1], "it does not fit"], ["13B", "33B", "13B", "65B"], "four")
    assert max(map(len, text.splitlines())) <= 80
    assert "65B: it does not fit" in text


def test_the_pages_show_what_the_commands_print() -> None:
    bench = _script("benchmarks/plan.py")
    compared = bench.compared()
    page, scale = ((ROOT / "docs" / name).read_text("utf-8") for name in ("plan.md", "scale.md"))
    assert screen.as_text(planned.plan(recipes.load("llama-65b"), A100, 2048)) in page
    for shown in (bench.runs_table(compared), bench.energy_table(), bench.writing_table()):
        assert shown in page
    said = " ".join(page.split())
    assert "17 runs without a star 13 are within 15 %" in said
    assert "reached 0.84 to 1.00 of" in said
    assert "Of the 17 others 13 are within 15 %. The 6 whole runs reached 0.84 to 1.00" in bench.summary(compared)
    assert "0.84 to 1.00" in screen.REACHED
    study = _script("benchmarks/scale.py")
    found = study.study("llama-65b", A100, study.RANKS)
    assert study.rates(found, study.RANKS) in scale
    assert study.shares(found, study.RANKS) in scale


def test_every_kind_of_gpu_has_a_source_and_a_family() -> None:
    for each in gpus().values():
        assert each.source
        assert 0 < efficiency(each.family).matmul < 1
        assert gpu(each.name.lower()) is each
    assert max(map(len, listed().splitlines())) <= 80


PUNA = [sys.executable, "-m", "puna.cli", "plan"]


def _told(*words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PUNA, *words], capture_output=True, text=True, check=False, cwd=folder)


def test_json_holds_what_scripts_ask_for() -> None:
    done = _told("llama-7b", "--gpus", "64", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    for key in ("tokens_per_second_per_gpu", "days", "mwh", "tco2eq", "memory_per_gpu_bytes"):
        assert told[key] > 0
    assert math.prod(told["mesh"].values()) == 64
    assert told["saving_bytes"]["checkpoint"] == 12 * told["parameters"]
    assert sum(told["memory"].values()) == told["memory_per_gpu_bytes"]
    assert told["days"] == pytest.approx(told["gpu_hours"] / 64 / 24)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "RECIPE is missing"),
        (("llama-65b",), "llama-65b: it does not fit on 8 x A100-80GB"),
        (("llama-7b", "--gpu", "A100"), "did you mean A100-"),
        (("llama-7b", "--gpus", "7", "--mesh", "1x7"), "--mesh takes"),
        (("llama-7b", "--mesh", "1x2x2"), "4 ranks, and --gpus are 8"),
        (("llama-7b", "--gpus", "1000000"), "cannot be shared by 1,000,000 GPUs; give fewer --gpus, such as 7,812, or"),
        (
            ("llama-33b", "--gpus", "16384"),
            "cannot be shared by 16,384 GPUs; give fewer --gpus, such as 8,192, or",
        ),
        (
            ("llama-7b", "--gpus", "64", "train.micro_batch=500"),
            "1,953 windows a step in passes of 500; lower",
        ),
        (("llama-7b", "--batch", "4"), "--batch is of --serve"),
        (("--table", "llama-7b"), "llama-7b is no KEY=VALUE"),
        (("llama-7b", "--price", "inf"), "--price takes dollars"),
        (("--table", "--serve"), "--table and --serve do not go together"),
        (("llama-7b", "--serve", "--gpus", "16"), "cannot be shared by 16 GPUs"),
        (("llama-7b", "--serve", "--mesh", "1x1x1"), "--mesh and --serve do not go together"),
        (("--table", "--mesh", "1x1x8"), "--mesh and --table do not go together"),
        (
            ("llama-7b", "--gpus", "64", "--mesh", "1x1x64"),
            "as 1x1x64x1 (replicate x shard x",
        ),
        (("llama-7b", "--gpus", "8", "--mesh", "2x0x4"), "such as 1x64x8, not 2x0x4; a fourth number is the stages"),
        (("llama-7b", "train.mesh.tensor=3"), "train.mesh: shard 2 x tensor 3 is for 6 ranks, and there are 8"),
        (("llama-7b", "train.mesh.shard=1"), "train.mesh: shard 1 is for 1 rank, and there are 8; change an axis"),
        (("llama-7b", "train.mesh.pipeline=64", "--gpus", "64"), "as 1x1x1x64 (replicate x shard x tensor x pipeline)"),
        (("llama-7b", "--gpus", "0"), "greater than or equal to 1; see "),
        (("no-such-recipe",), 'no recipe "no-such-recipe"'),
    ],
)
def test_what_cannot_be_planned_is_one_line(
    words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = typed.said(capsys, "plan", *words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err


def test_a_plan_keeps_to_the_mesh_of_the_recipe() -> None:
    recipe = recipes.load("llama-7b", ["train.mesh.tensor=4", "train.mesh.replicate=2"])
    assert planned.plan(recipe, A100, 64).as_json()["mesh"] == {"replicate": 2, "shard": 8, "tensor": 4, "pipeline": 1}


def test_a_mesh_that_the_search_would_not_try_is_planned_as_it_was_given() -> None:
    plan = planned.plan(recipes.load("llama-7b"), A100, 24, mesh=(1, 8, 1, 3))
    assert plan.choice.layout.mesh() == {"replicate": 1, "shard": 8, "tensor": 1, "pipeline": 3}


def test_a_plan_tells_what_checkpoints_take_of_machines() -> None:
    made = planned.plan(recipes.load("llama-65b"), A100, 2048)
    saving, ranks = made.saving, made.choice.layout.shard * made.choice.layout.tensor
    assert saving.checkpoint == 12 * 65_285_660_672 == 3 * saving.whole
    assert saving.copy * ranks == pytest.approx(saving.checkpoint, rel=1e-3)  # norms stand on each of a tensor group
    assert saving.gathering == 2 * 4 * 32_000 * 8192
    assert planned.plan(recipes.load("gpu-day-1"), A100, 1).saving.gathering == 0


def test_what_fits_in_no_form_is_shown_and_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = typed.said(capsys, "plan", "llama-65b", "--serve", "--gpu", "V100-32GB")
    assert (code, out.count(" no\n")) == (2, 3)
    assert err.startswith("error: llama-65b: it does not fit on 1 x V100-32GB in any form; give more --gpus")


def test_a_plan_loads_no_torch() -> None:
    code = "import sys; from puna.cli import app; app(standalone_mode=False); print('torch' in sys.modules)"
    words = ["plan", "llama-7b", "--gpus", "8"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
