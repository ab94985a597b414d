"""The reference LLaMA computes what the paper says, beside an independent and plainer writing of it."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from puna import recipe
from puna.errors import InputError
from puna.model.attention import attention, softmax_attention
from puna.model.cache import Cache
from puna.model.config import ModelConfig
from puna.model.llama import Llama
from puna.model.rotary import rope_table, rotate
from puna.model.weights import initialise, shapes

few = settings(deadline=None, max_examples=20)


def make_config(**changes: Any) -> ModelConfig:
    values = {"dim": 16, "heads": 4, "kv_heads": 2, "layers": 2, "hidden": 24, "vocabulary": 50, "context": 32}
    return ModelConfig(**(values | changes))


def make_model(config: ModelConfig, dtype: torch.dtype = torch.float32, seed: int = 3) -> Llama:
    """A model whose weights are large enough that every part of it shows in the logits."""
    model = Llama(config, dtype=dtype)
    initialise(model, seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            tensor.copy_(tensor + 0.3 * tensor.roll(1, 0) if name.endswith("norm.weight") else 10 * tensor)
    return model


def plain_logits(state: dict[str, Tensor], config: ModelConfig, tokens: Tensor) -> Tensor:
    """The paper's section 2.2 as formulas: one head at a time, complex rotations, softmax attention."""

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return x / ((x**2).mean(-1, keepdim=True) + config.norm_epsilon) ** 0.5 * weight

    width, length = config.head_dim, tokens.shape[1]
    angles = torch.tensor(
        [[m * config.rope_base ** (-2 * i / width) for i in range(width // 2)] for m in range(length)],
        dtype=torch.float64,
    )
    turn = torch.polar(torch.ones_like(angles), angles)

    def rotated(x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(x.double().reshape(*x.shape[:-1], -1, 2)) * turn
        return torch.view_as_real(pairs).flatten(-2).to(x.dtype)

    x = state["tok_embeddings.weight"][tokens]
    for number in range(config.layers):
        own = {name.removeprefix(f"layers.{number}."): tensor for name, tensor in state.items()}
        h = norm(x, own["attention_norm.weight"])
        heads = []
        for head in range(config.heads):
            shared = head // (config.heads // config.kv_heads)
            q = rotated(h @ own["attention.wq.weight"][head * width : (head + 1) * width].T)
            k = rotated(h @ own["attention.wk.weight"][shared * width : (shared + 1) * width].T)
            v = h @ own["attention.wv.weight"][shared * width : (shared + 1) * width].T
            scores = q @ k.transpose(1, 2) / width**0.5
            scores = scores + torch.full((length, length), -torch.inf).triu(1)
            heads.append(scores.softmax(-1) @ v)
        x = x + torch.cat(heads, -1) @ own["attention.wo.weight"].T
        h = norm(x, own["ffn_norm.weight"])
        gate = h @ own["feed_forward.w1.weight"].T
        x = x + (gate * gate.sigmoid() * (h @ own["feed_forward.w3.weight"].T)) @ own["feed_forward.w2.weight"].T
    output = state["tok_embeddings.weight" if config.tied else "output.weight"]
    return norm(x, state["norm.weight"]) @ output.T


@pytest.mark.promise("twins")
@given(
    groups=st.sampled_from([(1, 1), (4, 4), (4, 2), (6, 3), (4, 1)]),
    head_dim=st.sampled_from([2, 6, 8]),
    layers=st.integers(1, 3),
    batch=st.integers(1, 3),
    length=st.integers(1, 19),
    tied=st.booleans(),
    base=st.sampled_from([10000.0, 100.0]),
)
@few
def test_logits_and_gradients_equal_those_of_the_formulas(
    groups: tuple[int, int], head_dim: int, layers: int, batch: int, length: int, tied: bool, base: float
) -> None:
    config = make_config(
        dim=groups[0] * head_dim, heads=groups[0], kv_heads=groups[1], layers=layers, tied=tied, rope_base=base
    )
    # In float64, so that only a difference of formulas can show: two orders of summation differ by 1e-5 in float32.
    model = make_model(config).double()
    tokens = torch.randint(config.vocabulary, (batch, length + 1), generator=torch.Generator().manual_seed(length))
    state = {name: tensor.detach().clone().requires_grad_() for name, tensor in model.state_dict().items()}
    expected = plain_logits(state, config, tokens[:, :-1])
    torch.testing.assert_close(model.logits(tokens[:, :-1]), expected, rtol=1e-5, atol=1e-5)

    nats = torch.nn.functional.cross_entropy(expected.flatten(0, 1), tokens[:, 1:].flatten(), reduction="sum")
    loss = model.loss(tokens)
    assert loss.tokens == batch * length
    torch.testing.assert_close(loss.nats, nats, rtol=1e-5, atol=1e-5)
    (nats / loss.tokens).backward()
    (loss.nats / loss.tokens).backward()
    for name, tensor in model.named_parameters():
        torch.testing.assert_close(
            tensor.grad, state[name].grad, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_the_names_and_shapes_are_metas() -> None:
    found = shapes(make_config(layers=1))
    assert found == {
        "tok_embeddings.weight": (50, 16),
        "layers.0.attention.wq.weight": (16, 16),
        "layers.0.attention.wk.weight": (8, 16),
        "layers.0.attention.wv.weight": (8, 16),
        "layers.0.attention.wo.weight": (16, 16),
        "layers.0.feed_forward.w1.weight": (24, 16),
        "layers.0.feed_forward.w2.weight": (16, 24),
        "layers.0.feed_forward.w3.weight": (24, 16),
        "layers.0.attention_norm.weight": (16,),
        "layers.0.ffn_norm.weight": (16,),
        "norm.weight": (16,),
        "output.weight": (50, 16),
    }
    assert "output.weight" not in shapes(make_config(tied=True))


@pytest.mark.parametrize(("size", "billions"), [("7b", 6.7), ("13b", 13.0), ("33b", 32.5), ("65b", 65.2)])
def test_the_papers_models_have_the_papers_parameters(size: str, billions: float) -> None:
    chosen = recipe.load(f"llama-{size}")
    config = ModelConfig.from_recipe(chosen, 32000)
    weights = sum(int(np.prod(shape)) for shape in shapes(config).values())
    assert weights == chosen.model.parameters(32000)
    assert int(weights / 1e8) / 10 == billions
    assert config.context == 2048


def test_a_later_token_changes_no_earlier_logits() -> None:
    model = make_model(make_config())
    tokens = torch.arange(11)[None] % 50
    changed = tokens.clone()
    changed[0, 7] = 49
    with torch.no_grad():
        before, after = model.logits(tokens), model.logits(changed)
    torch.testing.assert_close(before[:, :7], after[:, :7], rtol=0, atol=1e-6)
    assert (before[:, 7:] - after[:, 7:]).abs().amax(-1).min() > 1e-3


def test_bfloat16_follows_float32_and_keeps_the_gradient_of_a_frequent_piece() -> None:
    config = make_config(vocabulary=4)
    wide, narrow = make_model(config), make_model(config, torch.bfloat16)
    tokens = torch.full((64, 33), 2)
    for model in (wide, narrow):
        loss = model.loss(tokens)
        (loss.nats / loss.tokens).backward()
    expected, found = (model.tok_embeddings.weight.grad.float() for model in (wide, narrow))
    assert (found - expected).norm() < 0.1 * expected.norm()


@pytest.mark.promise("twins")
@given(
    batch=st.integers(1, 3),
    groups=st.sampled_from([(1, 1), (4, 2), (6, 2)]),
    length=st.integers(1, 33),
    past=st.sampled_from([0, 0, 1, 7]),
    head_dim=st.sampled_from([2, 5, 16]),
)
@few
def test_the_fast_attention_agrees_with_its_softmax_twin(
    batch: int, groups: tuple[int, int], length: int, past: int, head_dim: int
) -> None:
    chance = torch.Generator().manual_seed(length)
    q, k, v = (
        torch.randn(batch, heads, positions, head_dim, generator=chance, requires_grad=True)
        for heads, positions in ((groups[0], length), (groups[1], past + length), (groups[1], past + length))
    )
    fast, slow = attention(q, k, v), softmax_attention(q, k, v)
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-5)
    pull = torch.randn(fast[0].shape, generator=chance)
    gradients = [torch.autograd.grad(output, (q, k, v), pull) for output, _ in (fast, slow)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)


@pytest.mark.promise("twins")
def test_few_queries_over_many_keys_are_the_last_rows_of_the_whole() -> None:
    q, k, v = torch.randn(3, 2, 4, 9, 8, generator=torch.Generator().manual_seed(1)).unbind()
    whole = softmax_attention(q, k, v)
    for queries in (1, 2, 8, 9):
        output, logsumexp = attention(q[:, :, -queries:], k, v)
        torch.testing.assert_close(output, whole[0][:, :, -queries:])
        torch.testing.assert_close(logsumexp, whole[1][:, :, -queries:])


def test_documents_of_a_window_do_not_see_each_other_where_segments_are_given() -> None:
    model = make_model(make_config())
    tokens = torch.arange(1, 10)[None]
    segments = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 2, 2]])
    with torch.no_grad():
        together = model.logits(tokens, segments)
        for first, last in ((0, 3), (3, 7), (7, 9)):
            # Rotary angles matter only by their differences, so a document reads the same wherever it stands.
            torch.testing.assert_close(
                together[:, first:last], model.logits(tokens[:, first:last]), rtol=1e-4, atol=1e-5
            )
        one = model.logits(tokens, torch.zeros_like(segments))
        torch.testing.assert_close(one, model.logits(tokens), rtol=1e-4, atol=1e-5)
        assert (one - together)[:, 3:].abs().max() > 1e-2


@pytest.mark.parametrize("queries", [1, 8])
def test_the_kernel_for_cuda_takes_and_gives_the_same_shapes(queries: int) -> None:
    with FakeTensorMode():
        q = torch.empty(2, 4, queries, 16, dtype=torch.bfloat16, device="cuda")
        k, v = (torch.empty(2, 2, 8, 16, dtype=torch.bfloat16, device="cuda") for _ in range(2))
        output, logsumexp = attention(q, k, v)
        assert (output.shape, output.dtype, output.device.type) == (q.shape, torch.bfloat16, "cuda")
        assert (logsumexp.shape, logsumexp.dtype) == ((2, 4, queries), torch.float32)


@pytest.mark.promise("twins")
def test_reading_in_parts_on_the_cache_gives_the_logits_of_reading_at_once() -> None:
    config = make_config()
    model = make_model(config)
    tokens = torch.randint(50, (3, 20), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = model.logits(tokens)
        cache = Cache(config, 3, 20)
        parts = [model.logits(part, cache=cache) for part in tokens.split([7, 1, 1, 5, 6], dim=1)]
        torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-5, atol=1e-5)
        with pytest.raises(ValueError, match="holds 20 positions"):
            model.logits(tokens[:, :1], cache=cache)
        cache.clear()
        torch.testing.assert_close(model.logits(tokens[:, :4], cache=cache), whole[:, :4], rtol=1e-5, atol=1e-5)


def test_far_positions_keep_their_angles() -> None:
    """In float32 an angle of a million is off by up to 0.03."""
    rope = rope_table(1, 8, 10000.0, start=1_000_003)
    for pair in range(4):
        angle = 1_000_003 * 10000.0 ** (-2 * pair / 8)
        assert rope.cos_LF[0, pair].item() == pytest.approx(math.cos(angle), abs=1e-6)
        assert rope.sin_LF[0, pair].item() == pytest.approx(math.sin(angle), abs=1e-6)


def test_a_part_of_a_window_turns_as_in_the_whole() -> None:
    x = torch.randn(1, 12, 2, 8, generator=torch.Generator().manual_seed(1))
    whole = rotate(x, rope_table(12, 8, 10000.0))
    torch.testing.assert_close(rotate(x[:, 5:9], rope_table(4, 8, 10000.0, start=5)), whole[:, 5:9])
    torch.testing.assert_close(whole.norm(dim=-1), x.norm(dim=-1))


def test_a_model_is_made_without_memory_and_filled_with_given_tensors() -> None:
    config = make_config()
    source = make_model(config)
    model = Llama(config, device="meta")
    assert all(tensor.is_meta for tensor in model.parameters())
    assert model.logits(torch.zeros(2, 5, dtype=torch.long, device="meta")).shape == (2, 5, 50)
    model.load_state_dict(source.state_dict(), assign=True)
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        torch.testing.assert_close(model.logits(tokens), source.logits(tokens), rtol=0, atol=0)
    assert all(tensor.requires_grad for tensor in model.parameters())


@pytest.mark.promise("formats")
def test_a_config_survives_its_json() -> None:
    config = make_config(rope_base=5e5, tied=True)
    value = json.loads(json.dumps(config.to_json()))
    assert ModelConfig.from_json({**value, "tokenizer": "xxh3:00"}) == config
    assert value["rotary"] == "interleaved"


@pytest.mark.promise("errors")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 18}, "even width; make dim a multiple of 8"),
        ({"kv_heads": 3}, "not a multiple of kv_heads"),
        ({"layers": 0}, "at least 1"),
        ({"rotary": "halves"}, "only 'interleaved'"),
        ({"norm_epsilon": 0.0}, "norm_epsilon = 0.0"),
        ({"rope_base": float("nan")}, "rope_base = nan"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_config(**changes)
    with pytest.raises(InputError, match=f"^here: .*{message[:12]}"):
        ModelConfig.from_json({**make_config().to_json(), **changes}, where="here")


@pytest.mark.promise("formats")
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "is not a model's config"),
        ({}, "no format number"),
        ({**make_config().to_json(), "format": 99}, "newer Puna .format 99.*update puna"),
        ({**make_config().to_json(), "dim": "16"}, "dim = '16'"),
        ({"format": 1, "dim": 16}, "not a whole config"),
    ],
)
def test_what_is_no_config_is_refused_by_name(value: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^config.json: .*{message}"):
        ModelConfig.from_json(value)
