"""Which mode trains the layer, how documents are kept apart, and which matmuls multiply: chosen and kept."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import made_training as made
from puna import recipe as recipes
from puna import storage
from puna.model.attention import attention, attention_gradient
from puna.model.config import ModelConfig
from puna.model.flash import flash
from puna.model.llama import Llama
from puna.tokens.windows import Windows
from puna.train import machine, memory, onednn
from puna.train.callbacks import Callback, Step, Training
from puna.train.result import of_the_result

MODES = ["reference", "selective", "full", "hand", "lean"]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.make(tmp_path_factory.mktemp("tokens"))


@pytest.fixture
def folder(tokens: Path, tmp_path: Path) -> Path:
    """A run that has its tokens and no training."""
    return Path(shutil.copytree(tokens, tmp_path / "run"))


class Killed(BaseException):
    pass


class DieAt(Callback):
    def __init__(self, number: int) -> None:
        self.number = number

    def step(self, training: Training, step: Step) -> None:
        if step.number == self.number:
            raise Killed


def make_config(name: str = "llama-7b") -> ModelConfig:
    return ModelConfig.from_recipe(recipes.load(name), 32000)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_fastest_mode_that_fits_in_free_memory_is_chosen_and_said(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config()
    needed = {mode: memory.step_bytes(config, 8192, dtype, mode) for mode in MODES}
    assert needed["full"] < needed["lean"] < needed["hand"] < needed["selective"] < needed["reference"]
    for free, mode, why in [
        (needed["hand"], "hand", "the fastest: a step takes about"),
        (needed["hand"] - 1, "lean", "the fastest that fits: a step"),
        (needed["lean"] - 1, "full", "the fastest that fits: a step"),
        (needed["full"] - 1, "full", r"do not hold: lower train\.micro_batch"),
        (None, "hand", "not known"),
    ]:
        choice = memory.choose(config, 8192, dtype, free)
        assert choice.mode == mode
        assert why.replace("\\", "") in choice.why


def test_a_step_is_counted_as_its_formula_says() -> None:
    config = ModelConfig(dim=8, heads=2, kv_heads=1, layers=3, hidden=16, vocabulary=11)
    parameters = 2 * 11 * 8 + 8 + 3 * (2 * 64 + 2 * 32 + 3 * 128 + 16)
    layer = 4 * (4 * 8 + 2 * 4 + 2 * 16) + 4 * 2
    reference = 4 * (10 * 8 + 4 * 16) + 4 * (2 + 2)
    logits = 100 * 11 * 4  # in float32 nothing is widened
    expected = 20 * parameters + 100 * (3 * layer + reference + 8 * 32) + logits + 11 * 8 * 12
    assert memory.step_bytes(config, 100, torch.float32, "hand") == expected


def test_the_documented_bytes_are_those_of_the_formula() -> None:
    page = (Path(__file__).parents[1] / "docs" / "train.md").read_text("utf-8")
    shapes = [
        (ModelConfig(dim=288, heads=6, kv_heads=6, layers=6, hidden=768, vocabulary=9), torch.float32),
        (ModelConfig(dim=768, heads=12, kv_heads=12, layers=12, hidden=2048, vocabulary=9), torch.bfloat16),
        (make_config(), torch.bfloat16),
    ]
    for mode in MODES:
        row = next(line for line in page.splitlines() if re.match(rf"\| `{mode}`[^|]*\| \d", line))
        stated = [int(cell.replace(",", "")) for cell in row.split("|")[2:-1]]
        assert stated == [memory.layer_bytes(config, dtype, mode) for config, dtype in shapes], mode


def test_free_memory_is_what_system_and_control_group_leave(tmp_path: Path) -> None:
    assert memory.available(tmp_path) is None
    group = tmp_path / "sys/fs/cgroup/job"
    for path, text in {
        tmp_path / "proc/meminfo": "MemTotal: 9000 kB\nMemAvailable: 8000 kB\n",
        tmp_path / "proc/self/cgroup": "0::/job\n",
        group / "memory.max": "5000000\n",
        group / "memory.current": "4000000\n",
        group / "memory.stat": "anon 1\nactive_file 100\ninactive_file 20\n",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert memory.available(tmp_path) == 1_000_120
    (group / "memory.max").write_text("max\n")
    assert memory.available(tmp_path) == 8_192_000


def test_every_mode_trains_to_the_same_losses_but_for_rounding(tokens: Path, tmp_path: Path) -> None:
    losses: dict[str, Any] = {}
    for mode in MODES:
        folder = Path(shutil.copytree(tokens, tmp_path / mode))
        made.run(folder, f"train.layer={mode}", "train.dtype=float32")
        losses[mode] = [line["loss"] for line in made.metrics(folder)]
        assert storage.read_json(folder / "machine.json")[0]["kernels"].startswith(f"{mode} layer, ")
    for mode in MODES:
        assert losses[mode] == pytest.approx(losses["reference"], rel=1e-5), mode


@pytest.mark.promise("resume")
def test_a_training_that_goes_on_keeps_the_mode_it_began_with(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory, "available", lambda: 0)
    with pytest.raises(Killed):
        made.run(folder, callbacks=[DieAt(5)])
    assert "full layer: a step takes about" in capsys.readouterr().err
    monkeypatch.undo()
    made.run(folder)
    assert "full layer: as it was when this training began" in capsys.readouterr().err
    assert {entry["kernels"][:11] for entry in storage.read_json(folder / "machine.json")} == {"full layer,"}


@pytest.mark.promise("formats")
def test_a_training_of_an_earlier_version_is_not_done_again_for_packed_documents() -> None:
    own = made.recipe().model_dump()["train"]
    assert own["layer"] == "auto"
    values = of_the_result(own)
    assert "documents" not in values
    assert of_the_result({**own, "layer": "hand", "documents": "masked"})["documents"] == "masked"


def test_masked_documents_are_those_of_the_window(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = Path(shutil.copytree(folder, folder.parent / "packed"))
    seen: list[torch.Tensor] = []
    loss = Llama.loss

    def spy(model: Llama, tokens: torch.Tensor, segments: torch.Tensor, scored: torch.Tensor | None = None) -> Any:
        seen.extend(segments)
        return loss(model, tokens, segments, scored)

    monkeypatch.setattr(Llama, "loss", spy)
    made.run(folder, "train.documents=masked")
    windows = Windows(folder)
    for number, row in enumerate(seen):
        parts = windows.documents(number)
        borders = [part.first for part in parts if 0 < part.first < windows.context]
        assert [place for place in range(1, len(row)) if row[place] != row[place - 1]] == borders
    assert max(int(row.max()) for row in seen) > 0
    monkeypatch.undo()
    made.run(packed)
    ours, theirs = ([line["loss"] for line in made.metrics(run)] for run in (folder, packed))
    assert ours[0] == pytest.approx(theirs[0], rel=0.01)
    assert ours != theirs


class Processor:
    """A processor of our choosing, and how oneDNN does on it."""

    def __init__(self, patch: pytest.MonkeyPatch, *features: str, exact: bool = True, faster: bool = True) -> None:
        patch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(features, True))
        patch.setattr(onednn, "exact", lambda: exact)
        patch.setattr(onednn, "faster", lambda: faster)

    @staticmethod
    def chosen(earlier: str = "", dtype: str = "float32") -> bool:
        train = made.recipe(f"train.dtype={dtype}").train
        return onednn.NAME in machine.choose(train, 1, earlier={"kernels": earlier} if earlier else None).kernels


def test_float32_goes_to_onednn_only_where_it_is_exact_and_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        assert Processor(patch, "avx2", "avx512_f").chosen()
        assert not Processor.chosen(dtype="bfloat16")
        assert not Processor.chosen("hand layer, AVX512, not compiled")  # it began without
        assert not Processor(patch, "avx2").chosen()
        assert not Processor(patch, "avx512_f", "amx_tile").chosen()
        assert not Processor(patch, "avx512_f", exact=False).chosen()
        assert not Processor(patch, "avx512_f", faster=False).chosen()
        assert Processor.chosen(
            f"hand layer, AVX512, {onednn.NAME}, not compiled"
        )  # it began so, and was measured then


def test_the_setting_of_float32_matmuls_holds_for_the_training_and_is_put_back() -> None:
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    for name, within in ((onednn.NAME, "bf16"), ("AVX2", before)):
        with machine.settled(machine.Machine("2", 1, "float32", f"hand layer, {name}")):
            assert matmul.fp32_precision == within
        assert matmul.fp32_precision == before
    onednn.exact()
    assert isinstance(onednn.faster(), bool)
    assert matmul.fp32_precision == before


def test_the_gradient_for_cuda_takes_and_gives_the_right_shapes() -> None:
    with FakeTensorMode():
        q = torch.empty(2, 4, 8, 16, dtype=torch.bfloat16, device="cuda")
        k, v = (torch.empty(2, 2, 8, 16, dtype=torch.bfloat16, device="cuda") for _ in range(2))
        found = attention_gradient(q, q, k, v, *attention(q, k, v))
        assert [tensor.shape for tensor in found] == [q.shape, k.shape, v.shape]


@pytest.mark.parametrize("width", [12, 264])
def test_widths_that_the_kernel_for_cuda_does_not_take_go_to_the_twin(width: int) -> None:
    with FakeTensorMode():
        assert flash(torch.empty(1, 1, 4, width, dtype=torch.bfloat16, device="cuda")) is None
        assert flash(torch.empty(1, 1, 4, 64, dtype=torch.bfloat16, device="cuda")) is not None


def test_where_there_is_no_kernel_the_gradient_is_the_twin_s(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = torch.randn(3, 2, 4, 7, 6, generator=torch.Generator().manual_seed(1)).unbind()
    output, logsumexp = attention(q, k, v)
    expected = attention_gradient(q, q, k, v, output, logsumexp)
    monkeypatch.setattr("puna.model.attention.flash", lambda q: None)
    torch.testing.assert_close(attention_gradient(q, q, k, v, output, logsumexp), expected)
