"""A model starts alike everywhere, and its files come back as they were or are refused by name."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from puna import storage
from puna.errors import InputError
from puna.model import weights
from puna.model.config import ModelConfig
from puna.model.llama import Llama

CONFIG = ModelConfig(dim=16, heads=4, kv_heads=2, layers=2, hidden=24, vocabulary=50, context=32)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as training leaves it; tests that break one break a copy."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints" / "step-000002"
    model = Llama(CONFIG)
    weights.initialise(model, 1)
    weights.write_model(folder, CONFIG, model.state_dict(), tokenizer="xxh3:0123")
    files = {
        name: {"size": storage.size(folder / name), "digest": storage.digest(folder / name)}
        for name in ("model.safetensors", "config.json")
    }
    storage.write_json(folder / "checkpoint.json", {"format": 1, "step": 2, "files": files})
    return folder


@pytest.mark.promise("order")
@given(
    name=st.sampled_from(sorted(weights.shapes(CONFIG))),
    seed=st.integers(-3, 2**64),
    rows=st.tuples(st.integers(0, 50), st.integers(0, 50)),
    block=st.sampled_from([1, 7, 1 << 20]),
)
@settings(deadline=None, max_examples=40)
def test_any_rows_made_alone_are_those_of_the_whole(name: str, seed: int, rows: tuple[int, int], block: int) -> None:
    whole = weights.initial(CONFIG, name, seed)
    assert whole.shape == weights.shapes(CONFIG)[name]
    start, stop = sorted(min(row, len(whole)) for row in rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "BLOCK", block)
        part = weights.initial(CONFIG, name, seed, start=start, stop=stop)
    np.testing.assert_array_equal(part, whole[start:stop])


@pytest.mark.promise("twins")
def test_first_values_are_these_forever() -> None:
    """Part of the format: another mesh or version must start from the same weights."""
    found = weights.initial(CONFIG, "layers.1.attention.wo.weight", 1).ravel()
    expected = [-0.00043391052, 0.012055907, -0.012033108, -0.0057514058]
    np.testing.assert_allclose(found[:4], expected, rtol=1e-6)
    np.testing.assert_allclose(found, [one_value("layers.1.attention.wo.weight", 1, e) for e in range(256)], rtol=1e-6)


def one_value(name: str, seed: int, element: int) -> float:
    """The readable twin of `initial`, for one element of an output projection."""
    mask = 2**64 - 1
    bits = (xxhash.xxh3_64_intdigest(name.encode(), seed=seed) + (element + 1) * 0x9E3779B97F4A7C15) & mask
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & mask
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & mask
    bits ^= bits >> 31
    high, low = divmod(bits, 2**32)
    normal = math.sqrt(-2 * math.log((high + 0.5) / 2**32)) * math.cos(2 * math.pi * low / 2**32)
    return 0.02 / math.sqrt(2 * CONFIG.layers) * normal


@pytest.mark.promise("paper")
def test_first_values_have_the_spread_of_the_table() -> None:
    config = ModelConfig(dim=256, heads=4, kv_heads=2, layers=8, hidden=512, vocabulary=1000)
    for name, spread in {
        "tok_embeddings.weight": 0.02,
        "output.weight": 0.02,
        "layers.3.attention.wk.weight": 0.02,
        "layers.3.attention.wo.weight": 0.005,
        "layers.3.feed_forward.w2.weight": 0.005,
        "layers.3.feed_forward.w3.weight": 0.02,
    }.items():
        values = weights.initial(config, name, 1).astype(np.float64).ravel()
        error = 4 / len(values) ** 0.5
        assert abs(values.mean()) < error * spread
        assert values.std() == pytest.approx(spread, rel=error)
        assert (np.abs(values) > 2 * spread).mean() == pytest.approx(0.0455, abs=error)
        assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < error
    for name in ("norm.weight", "layers.0.ffn_norm.weight", "layers.7.attention_norm.weight"):
        assert (weights.initial(config, name, 1) == 1).all()


def test_seeds_and_names_give_other_values() -> None:
    first = weights.initial(CONFIG, "layers.0.attention.wq.weight", 1)
    for name, seed in (("layers.0.attention.wq.weight", 2), ("layers.1.attention.wq.weight", 1)):
        assert abs(np.corrcoef(first.ravel(), weights.initial(CONFIG, name, seed).ravel())[0, 1]) < 0.3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_is_filled_in_its_dtype(dtype: torch.dtype) -> None:
    model = Llama(CONFIG, dtype=dtype)
    weights.initialise(model, 5)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, torch.from_numpy(weights.initial(CONFIG, name, 5)).to(dtype))


@pytest.mark.parametrize(("dtype", "expected"), [(None, torch.bfloat16), (torch.float32, torch.float32)])
def test_a_model_comes_back_from_its_files(tmp_path: Path, dtype: torch.dtype | None, expected: torch.dtype) -> None:
    tied = ModelConfig(dim=16, heads=4, kv_heads=2, layers=2, hidden=24, vocabulary=50, tied=True)
    model = Llama(tied, dtype=torch.bfloat16)
    weights.initialise(model, 1)
    weights.write_model(tmp_path / "a folder ü", tied, model.state_dict())
    loaded = weights.load_checkpoint(tmp_path / "a folder ü", dtype=dtype)
    assert loaded.config == tied
    assert loaded.dtype == expected
    assert all(tensor.requires_grad for tensor in loaded.parameters())
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name].to(expected))


def test_equal_models_are_equal_bytes_that_others_can_read(checkpoint: Path, tmp_path: Path) -> None:
    state = weights.read_tensors(checkpoint / "model.safetensors")
    weights.write_model(tmp_path, CONFIG, dict(reversed(state.items())), tokenizer="xxh3:0123")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / name).read_bytes() == (checkpoint / name).read_bytes()
    assert safetensors.torch.load_file(tmp_path / "model.safetensors").keys() == weights.shapes(CONFIG).keys()
    assert weights.read_config(checkpoint) == (CONFIG, "xxh3:0123")


def test_a_state_that_is_not_the_configs_is_not_written(tmp_path: Path) -> None:
    state = Llama(CONFIG).state_dict()
    for wrong, message in (
        ({**state, "extra": torch.zeros(1)}, "extra is not a tensor"),
        ({**state, "norm.weight": torch.zeros(3)}, "norm.weight has shape"),
        ({name: tensor for name, tensor in state.items() if name != "norm.weight"}, "norm.weight is missing"),
    ):
        with pytest.raises(ValueError, match=message):
            weights.write_model(tmp_path / "out", CONFIG, wrong)
    assert not (tmp_path / "out").exists()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def change(**values: object) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return apply


@pytest.mark.parametrize(
    ("name", "harm", "message"),
    [
        ("model.safetensors", cut, "was written with"),
        ("model.safetensors", flip, "does not have the digest"),
        ("model.safetensors", Path.unlink, "is missing"),
        ("config.json", flip, "does not have the digest"),
        ("checkpoint.json", change(format=2), "update puna"),
        ("checkpoint.json", change(files={"model.safetensors": 1}), "not a checkpoint's record"),
    ],
)
def test_a_broken_checkpoint_is_refused_by_the_name_of_its_file(
    checkpoint: Path, tmp_path: Path, name: str, harm: Callable[[Path], None], message: str
) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "step-000002")
    harm(folder / name)
    with pytest.raises(InputError, match=message) as error:
        weights.load_checkpoint(folder)
    assert str(error.value).startswith(str(folder / name))


@pytest.mark.parametrize(
    ("name", "harm", "message"),
    [
        ("model.safetensors", cut, "is broken"),
        ("model.safetensors", lambda path: path.write_bytes(b"\0" * 40), "is broken"),
        ("model.safetensors", Path.unlink, "no such file"),
        ("config.json", lambda path: path.write_text("{"), "not valid JSON"),
        ("config.json", change(format=2), "update puna"),
        ("config.json", Path.unlink, "no such file"),
    ],
)
def test_a_broken_model_without_digests_is_refused_too(
    checkpoint: Path, tmp_path: Path, name: str, harm: Callable[[Path], object], message: str
) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "model")
    (folder / "checkpoint.json").unlink()
    harm(folder / name)
    with pytest.raises(InputError, match=message) as error:
        weights.load_checkpoint(folder)
    assert str(error.value).startswith(str(folder / name))


@pytest.mark.promise("formats")
@pytest.mark.parametrize(("name", "value"), [("layers", 10**9), ("hidden", 2**62), ("vocabulary", 2**62)])
def test_a_config_that_asks_for_more_than_there_is_is_refused_at_once(
    checkpoint: Path, tmp_path: Path, name: str, value: int
) -> None:
    copy = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    (copy / "checkpoint.json").unlink()
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, name: value}))
    with pytest.raises(InputError, match=f"does not fit its config.json: {name} = {value}"):
        weights.load_checkpoint(copy)


def test_tensors_of_another_config_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "model")
    (folder / "checkpoint.json").unlink()
    change(layers=3)(folder / "config.json")
    with pytest.raises(InputError, match=r"model.safetensors: does not fit .* layers.2.attention.wk.weight is missing"):
        weights.load_checkpoint(folder)


def test_the_newest_whole_checkpoint_is_taken(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no checkpoint yet; .*puna train"):
        weights.latest_checkpoint(tmp_path)
    for name in ("step-000010", "step-1000000", "step-999999"):
        shutil.copytree(checkpoint, tmp_path / "checkpoints" / name)
    for name in ("step-2000000", ".part-step-3000000-1-1", "step-3000000-old"):
        (tmp_path / "checkpoints" / name).mkdir()
    assert weights.latest_checkpoint(tmp_path).name == "step-1000000"
