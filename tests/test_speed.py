"""What `puna bench train` tells is what it says: counts, limits, steps that are those of the loop, peers left out."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import made_training
from puna import cli
from puna.errors import InputError
from puna.model import flop
from puna.model.config import ModelConfig
from puna.model.llama import Llama
from puna.model.weights import initialise
from puna.tokens.windows import Windows
from puna.train.optimizer import Optimizer
from puna.train.schedule import learning_rate
from puna.train.speed import bench, limit, memory, table, turns
from puna.train.speed.ours import Ours
from puna.train.speed.peers import PEERS, transformers_names
from puna.train.speed.turns import Turn

aten = torch.ops.aten
CONFIG = ModelConfig(dim=32, heads=4, kv_heads=2, layers=2, hidden=48, vocabulary=60, context=16)
TRAIN = made_training.recipe().train
TOKENS = torch.randint(60, (3, 17), generator=torch.Generator().manual_seed(1))


def test_the_matmuls_that_are_counted_are_those_of_a_step() -> None:
    model = Llama(CONFIG)
    initialise(model, 1)
    made = 0

    class Count(TorchDispatchMode):
        """Two FLOP for each product; torch's FlopCounterMode takes seconds to load its table of operations."""

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal made
            if func.overloadpacket in (aten.mm, aten.addmm, aten.addmm_, aten.bmm):
                left, right = args[-2:]
                made += 2 * left.numel() * right.shape[-1]
            return func(*args, **(kwargs or {}))

    with Count():
        model.loss(TOKENS).nats.backward()
    assert made == flop.matmul_flop(CONFIG) * 3 * 16


def test_weights_in_matmuls_are_all_but_embedding_and_norms() -> None:
    shapes = Llama(CONFIG, device="meta").state_dict()
    wanted = sum(t.numel() for name, t in shapes.items() if t.dim() == 2 and name != "tok_embeddings.weight")
    assert flop.matmul_weights(CONFIG) == wanted


def test_attention_counts_no_masked_score() -> None:
    seen = sum(position + 1 for position in range(16)) / 16  # positions that one sees on average
    forward = 2 * CONFIG.layers * CONFIG.dim * seen * 2  # scores and output, a multiplication and an addition each
    assert flop.token_flop(CONFIG, 16) - flop.matmul_flop(CONFIG) == 3 * forward


@pytest.mark.promise("twins")
def test_a_measured_step_is_that_of_the_training_loop(tmp_path: Path) -> None:
    made_training.make(tmp_path)
    recipe = made_training.recipe("train.steps=3", "train.micro_batch=2")
    made_training.run(tmp_path, "train.steps=3", "train.micro_batch=2", "train.layer=hand", "train.dtype=float32")
    windows = Windows(tmp_path)
    config = ModelConfig.from_recipe(recipe, windows.manifest.vocabulary)
    ours = Ours(config, recipe.train, torch.float32, "hand", compiles=False, seed=recipe.seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        losses = []
        for step in range(3):
            batch = torch.from_numpy(windows.batch(4 * step, 4))
            losses.append(ours(batch, learning_rate(step + 1, 3, recipe.train)))
    finally:
        torch.set_num_threads(threads)
    assert losses == [line["loss"] for line in made_training.metrics(tmp_path)][:3]


@pytest.mark.promise("twins")
def test_both_losses_of_a_step_are_one() -> None:
    chunked, plain = (
        Ours(CONFIG, TRAIN, torch.float32, "reference", compiles=False, plain_loss=each) for each in (False, True)
    )
    assert chunked(TOKENS, 1e-3) == pytest.approx(plain(TOKENS, 1e-3), rel=1e-6)
    assert chunked.loss(TOKENS) == pytest.approx(plain.loss(TOKENS), rel=1e-5)


def test_the_limit_is_the_time_of_each_matmul_as_often_as_a_step_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[int, int, int]] = []

    def second(work) -> Turn:  # type: ignore[no-untyped-def]
        left, right = work.args
        ran.append((*left.shape, right.shape[1]))
        work()
        return Turn(2.0 * left.shape[0] * left.shape[1] * right.shape[1], 1.0)  # as if a FLOP took a second

    monkeypatch.setattr(limit, "clocked", second)
    total = limit.Limit(CONFIG, 48, torch.float32)()
    assert total.processor == flop.matmul_flop(CONFIG) * 48
    assert len(ran) == 3 * len(flop.matmuls(CONFIG))


def test_runs_are_taken_in_turn_and_the_first_is_not_counted() -> None:
    taken: list[tuple[str, int]] = []

    def run(name: str) -> Turn:
        taken.append((name, torch.get_num_threads()))
        return Turn(len(taken), 1.0)

    before = torch.get_num_threads()
    found = turns.in_turn({"a": lambda: run("a"), "b": lambda: run("b")}, 2, [1, 2])
    assert taken == [("a", 1), ("b", 1), ("a", 2), ("b", 2)] * 3
    assert torch.get_num_threads() == before
    assert [turn.processor for turn in found[1]["a"]] == [5, 9]
    assert turns.ratio([Turn(1, 1), Turn(2, 1)], [Turn(3, 1), Turn(2, 1)]) == turns.Spread(2.0, 1.0, 3.0)


def test_the_peak_is_what_was_held_at_once() -> None:
    def work() -> None:
        first = torch.ones(1000, dtype=torch.float64)
        second = first + 1
        del first
        torch.ones(500, dtype=torch.float64).add_(second[:500])

    assert 16_000 <= memory.peak(work) < 16_100  # and two numbers by themselves


@pytest.mark.promise("errors")
def test_a_peer_that_is_missing_is_said_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "find_spec", lambda name: None)
    found = table.table(CONFIG, TRAIN, "float32", ["hand", "selective"], windows=2, peers=tuple(PEERS), rounds=1)
    assert [row.name for row in found.rows] == ["puna hand", "puna selective"]
    assert "transformers-f32: transformers is not installed" in found.left_out
    assert "transformers-f32-compiled: nothing is compiled here" in found.left_out
    assert "litgpt-bf16: this table is of float32" in found.left_out
    assert all(f"left out: {reason}" in found.as_text() for reason in found.left_out)
    assert found.rows[0].faster is None
    assert found.rows[1].faster is not None


def test_the_command_tells_speed_limit_mfu_and_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "made.toml"
    recipe.write_text(
        'name = "made"\nextends = "laptop"\n[tokenizer]\npieces = 300\n[model]\ndim = 32\nheads = 2\nlayers = 2\n'
        '[train]\ncontext = 32\nbatch = 128\nmicro_batch = 0\ncompile = "off"\ndtype = "float32"\n'
    )
    words = ["puna", "bench", "train", str(recipe), "--rounds", "1", "--threads", "1", "--no-peers"]
    for more in ([], ["--json"]):
        monkeypatch.setattr("sys.argv", [*words, *more])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
    text, _, value = capsys.readouterr().out.partition("\n{")
    assert "4 windows of 32 tokens a step, float32" in text
    assert re.search(r"^MFU of puna \w+: \d\.\d\d = ", text, re.MULTILINE)
    assert flop.FORMULA in text
    told = json.loads("{" + value)
    row = told["rows"][0]
    assert row["memory"] > 0
    assert row["mfu"] == pytest.approx(
        told["token_flop"] * row["rate"]["median"] / told["matmul_flops"]["1"]["median"], rel=1e-3
    )


@pytest.mark.promise("errors")
def test_a_model_that_does_not_fit_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.memory, "available", lambda: 10**9)
    with pytest.raises(InputError, match=r"llama-65b: a step of 2,048 tokens takes about .* and 1.0 GB are free"):
        bench.bench("llama-65b")


@pytest.mark.prove
@pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")
@pytest.mark.parametrize("name", ["transformers-f32", "transformers-f32-compiled"])
@pytest.mark.promise("twins")
def test_transformers_takes_the_same_steps_from_the_same_weights(name: str) -> None:
    ours = Ours(CONFIG, TRAIN, torch.float32, "hand", compiles=False)
    theirs = PEERS[name].step(CONFIG, TRAIN, transformers_names(CONFIG, ours.masters()))
    for _ in range(20):
        assert ours(TOKENS, 1e-3) == pytest.approx(theirs(TOKENS, 1e-3), rel=2e-5)
    assert ours.loss(TOKENS) == pytest.approx(theirs.loss(TOKENS), rel=2e-5)


def test_names_for_transformers_move_rows_of_a_head_and_lose_none() -> None:
    model = Llama(CONFIG, dtype=torch.float32)
    initialise(model, 1)
    optimizer = Optimizer(model, torch.float32, TRAIN)
    found = transformers_names(CONFIG, optimizer.masters)
    assert len(found) == len(optimizer.masters)
    masters = optimizer.masters
    own, moved = masters["layers.1.attention.wq.weight"], found["model.layers.1.self_attn.q_proj.weight"]
    assert torch.equal(moved[[0, 1, 4, 5]], own[[0, 2, 1, 3]])  # heads of 8: neighbours go 4 rows apart
    assert torch.equal(found["model.layers.1.mlp.gate_proj.weight"], masters["layers.1.feed_forward.w1.weight"])
