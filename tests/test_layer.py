"""The layer with its backward pass by hand, and the modes beside it, against autograd, up to trained models.

What two ways of summing the same in f32 may differ by: each rounding is at most 2^-24 = 6e-8 of a value, and errors of
both signs mostly cancel, so gradients agree to some 1e-7 of their norm; 1e-6 leaves room for a few layers, and 1e-5 for
compiled loops, which sum in another order and fuse multiplications. In bfloat16 a rounding is at most 2^-9 = 2e-3. Here
autograd rounds behind every operation and the hand-written layer once behind each of its parts, so two gradients may be
as far apart as each of them is from the exact one: what is held is that the hand-written one is not the farther.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from puna.model import modes
from puna.model.attention import attention, softmax_attention
from puna.model.cache import Cache
from puna.model.comm import Comm
from puna.model.config import ModelConfig
from puna.model.documents import segments
from puna.model.hand import hand_layer, kept_bytes
from puna.model.kernels import PLAIN, compiled
from puna.model.layer import LayerWeights, layer, rms_norm
from puna.model.llama import Llama
from puna.model.modes import FUNCTIONS
from puna.model.rotary import Rope, rope_table
from puna.model.weights import initialise
from puna.train import machine
from puna.train.memory import layer_bytes
from thread_ranks import on_ranks

pytestmark = pytest.mark.usefixtures("one_thread")


few = settings(deadline=None, max_examples=15)
GROUPS = [(4, 4), (4, 2), (6, 1)]


def make_layer(
    groups: tuple[int, int] = (4, 2), *, head_dim: int = 4, hidden: int = 22, dtype: torch.dtype = torch.float64
) -> LayerWeights:
    chance = torch.Generator().manual_seed(sum(groups) + hidden)
    heads, kv_heads = groups
    dim, keys = heads * head_dim, kv_heads * head_dim
    sizes = [(dim,), (dim, dim), (keys, dim), (keys, dim), (dim, dim), (dim,), (hidden, dim), (dim, hidden)]
    made = (torch.randn(*size, generator=chance, dtype=torch.float64) for size in [*sizes, (hidden, dim)])
    scaled = (tensor * 0.3 + (tensor.dim() == 1) for tensor in made)
    return LayerWeights(*(tensor.to(dtype).requires_grad_() for tensor in scaled))


def make_input(length: int, weights: LayerWeights, head_dim: int = 4, batch: int = 2) -> tuple[Tensor, Rope]:
    norm = weights.attention_norm
    x = torch.randn(batch, length, len(norm), dtype=torch.float64, generator=torch.Generator().manual_seed(length))
    return x.to(norm.dtype).requires_grad_(), rope_table(length, head_dim, 100.0)


def make_segments(length: int, batch: int = 2) -> Tensor:
    """Documents of unequal lengths, other ones in each row."""
    ends = torch.rand(batch, length, generator=torch.Generator().manual_seed(length)) < 0.15
    return segments(ends.long(), 1)


def make_model(mode: Any, dtype: torch.dtype = torch.float32, compiles: bool = False, **changes: Any) -> Llama:
    values = {"dim": 32, "heads": 4, "kv_heads": 2, "layers": 2, "hidden": 44, "vocabulary": 60, "context": 32}
    values["norm_epsilon"] = 0.01  # large enough to be missed where it is not handed on
    model = Llama(ModelConfig(**(values | changes)), dtype=dtype)
    initialise(model, 1)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            tensor.copy_(tensor + 0.3 * tensor.roll(1, 0) if name.endswith("norm.weight") else 5 * tensor)
    modes.use(model, mode, compiles=compiles)
    return model


def gradients(model: Llama, tokens: Tensor, masked: Tensor | None = None) -> dict[str, Tensor]:
    model.zero_grad()
    loss = model.loss(tokens, masked)
    torch.autograd.backward(loss.nats / loss.tokens)
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def farthest(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The greatest ||a - b|| / ||b|| of all parameters."""
    assert found.keys() == expected.keys()
    pairs = ((found[name].double(), expected[name].double()) for name in expected)
    return max(float((a - b).norm() / b.norm()) for a, b in pairs)


@pytest.mark.parametrize("groups", [(2, 2), (2, 1), (3, 1)])
@pytest.mark.parametrize("masked", [False, True])
def test_the_gradients_by_hand_are_the_slopes_of_the_layer(groups: tuple[int, int], masked: bool) -> None:
    weights = make_layer(groups, head_dim=2, hidden=3)
    x, rope = make_input(3, weights, 2)
    documents = torch.tensor([[0, 0, 1], [0, 1, 1]]) if masked else None

    def function(x: Tensor, *tensors: Tensor) -> Tensor:
        return hand_layer(x, LayerWeights(*tensors), rope, documents, epsilon=0.3)

    assert torch.autograd.gradcheck(function, (x, *weights))


def test_each_kernel_s_gradient_is_autograd_s() -> None:
    chance = torch.Generator().manual_seed(1)
    x, past, a, b, pull = (
        torch.randn(7, 8, generator=chance, dtype=torch.float64, requires_grad=True) for _ in range(5)
    )
    weight = torch.randn(8, generator=chance, dtype=torch.float64, requires_grad=True)
    normed = PLAIN.norm(x, weight, 1e-6)
    torch.testing.assert_close(normed, rms_norm(x, weight, 1e-6))
    expected = torch.autograd.grad(normed, (x, weight), pull)
    torch.testing.assert_close(
        PLAIN.norm_gradient(pull, x, weight, past, 1e-6), (past + expected[0], expected[1]), msg=str
    )
    product = PLAIN.gate(a, b)
    torch.testing.assert_close(product, torch.nn.functional.silu(a) * b)
    torch.testing.assert_close(PLAIN.gate_gradient(pull, a, b), (product, *torch.autograd.grad(product, (a, b), pull)))


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("length", [5, 13, 32])
def test_by_hand_and_by_selective_checkpoints_gradients_agree_in_float32(
    groups: tuple[int, int], tied: bool, masked: bool, length: int
) -> None:
    changes = {"dim": 8 * groups[0], "heads": groups[0], "kv_heads": groups[1], "tied": tied}
    tokens = torch.randint(60, (3, length + 1), generator=torch.Generator().manual_seed(length))
    documents = make_segments(length, 3) if masked else None
    found, expected = (gradients(make_model(mode, **changes), tokens, documents) for mode in ("hand", "selective"))
    assert farthest(found, expected) <= 1e-6


@pytest.mark.promise("twins")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("masked", [False, True])
def test_what_the_lean_layer_computes_again_has_the_same_bits(dtype: torch.dtype, masked: bool) -> None:
    tokens = torch.randint(60, (3, 14), generator=torch.Generator().manual_seed(1))
    documents = make_segments(13, 3) if masked else None
    found, expected = (gradients(make_model(mode, dtype), tokens, documents) for mode in ("lean", "hand"))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("masked", [False, True])
def test_in_bfloat16_the_gradients_by_hand_are_no_farther_from_the_exact_ones(
    groups: tuple[int, int], masked: bool
) -> None:
    changes = {"dim": 8 * groups[0], "heads": groups[0], "kv_heads": groups[1]}
    documents = make_segments(31, 4) if masked else None
    narrow = {mode: make_model(mode, torch.bfloat16, **changes) for mode in ("hand", "selective")}
    exact = make_model("reference", torch.float64, **changes)
    exact.load_state_dict(narrow["hand"].state_dict())
    off: dict[str, list[float]] = {mode: [] for mode in narrow}
    # Which is farther on one batch is chance: products round differently from processor to processor.
    for seed in range(4):
        tokens = torch.randint(60, (4, 32), generator=torch.Generator().manual_seed(seed))
        expected = gradients(exact, tokens, documents)
        for mode, model in narrow.items():
            off[mode].append(farthest(gradients(model, tokens, documents), expected))
    assert sum(off["hand"]) <= sum(off["selective"])
    assert max(off["hand"]) <= 0.05


@pytest.mark.parametrize("mode", ["selective", "full", "hand", "lean"])
def test_every_mode_gives_the_logits_and_gradients_of_the_reference(mode: str) -> None:
    tokens = torch.randint(60, (2, 20), generator=torch.Generator().manual_seed(1))
    documents = make_segments(19)
    ours, reference = (make_model(each, torch.float64) for each in (mode, "reference"))
    torch.testing.assert_close(ours.logits(tokens[:, 1:], documents), reference.logits(tokens[:, 1:], documents))
    assert farthest(gradients(ours, tokens, documents), gradients(reference, tokens, documents)) < 1e-13


@pytest.mark.parametrize("mode", ["selective", "full", "hand", "lean"])
def test_every_mode_decodes_on_a_cache_as_the_reference(mode: str) -> None:
    ours, reference = make_model(mode), make_model("reference")
    tokens = torch.arange(9)[None]
    with torch.no_grad():
        parts = [
            torch.cat([model.logits(part, cache=cache) for part in tokens.split([5, 1, 3], 1)], 1)
            for model, cache in ((ours, Cache(ours.config, 1, 9)), (reference, Cache(reference.config, 1, 9)))
        ]
    assert torch.equal(*parts)


def kept_by(function: Any, x: Tensor, weights: LayerWeights, rope: Rope) -> int:
    """Bytes that autograd is handed to keep, but for weights and the table of angles."""
    held = {tensor.untyped_storage().data_ptr() for tensor in (*weights, *rope)}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = function(x, weights, rope)
    del result
    return sum(kept.values())


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_bytes_kept_are_those_of_the_formula(groups: tuple[int, int], dtype: torch.dtype, proved: Any) -> None:
    weights = make_layer(groups, dtype=dtype)
    x, rope = make_input(13, weights)
    heads, kv_heads = groups
    formula = kept_bytes(4 * heads, heads, 4 * kv_heads, 22, dtype)
    assert kept_by(hand_layer, x, weights, rope) == formula * 26
    lean = kept_bytes(4 * heads, heads, 4 * kv_heads, 22, dtype, lean=True)
    assert kept_by(modes.FUNCTIONS["lean"], x, weights, rope) == lean * 26
    assert formula - lean == 22 * dtype.itemsize
    assert formula == dtype.itemsize * (16 * heads + 8 * kv_heads + 44) + max(4, dtype.itemsize) * heads
    reference = kept_by(layer, x, weights, rope)
    config = ModelConfig(dim=4 * heads, heads=heads, kv_heads=kv_heads, layers=1, hidden=22, vocabulary=9)
    assert reference == layer_bytes(config, dtype, "reference") * 26
    proved(f"{heads}/{kv_heads} heads, {dtype}: {formula} bytes kept of a token by hand, {reference // 26} by autograd")


@pytest.mark.promise("twins")
@given(
    groups=st.sampled_from([(1, 1), (4, 2), (6, 2)]),
    rows=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), min_size=1, max_size=3),
    alike=st.booleans(),
)
@few
def test_attention_within_documents_agrees_with_its_softmax_twin(
    groups: tuple[int, int], rows: list[list[int]], alike: bool
) -> None:
    chance = torch.Generator().manual_seed(len(rows))
    length = min(sum(row) for row in rows)
    numbers = [list(itertools.chain(*([n] * count for n, count in enumerate(row))))[:length] for row in rows]
    documents = torch.tensor([numbers[0]] * 2 if alike else numbers)
    q, k, v = (
        torch.randn(len(documents), heads, length, 6, generator=chance, requires_grad=True)
        for heads in (groups[0], groups[1], groups[1])
    )
    fast, slow = (function(q, k, v, documents) for function in (attention, softmax_attention))
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-5)
    pull = torch.randn(fast[0].shape, generator=chance)
    found = [torch.autograd.grad(output, (q, k, v), pull) for output, _ in (fast, slow)]
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_segments_that_come_again_are_refused() -> None:
    q = torch.zeros(1, 1, 3, 2)
    with pytest.raises(ValueError, match="stand apart"):
        attention(q, q, q, torch.tensor([[0, 1, 0]]))


@given(rows=st.lists(st.lists(st.integers(0, 3), min_size=6, max_size=6), min_size=1, max_size=3))
@few
def test_a_document_s_end_belongs_to_it_and_the_next_token_to_another(rows: list[list[int]]) -> None:
    found = segments(torch.tensor(rows), 2).tolist()
    assert found == [[row[:place].count(2) for place in range(len(row))] for row in rows]


@pytest.mark.promise("twins")
@pytest.mark.parametrize("mode", ["reference", "selective", "full", "hand", "lean"])
@pytest.mark.parametrize(("size", "length"), [(2, 8), (2, 2), (2, 10)])
def test_ranks_with_a_part_of_the_heads_each_give_the_whole_layer_s_gradients(
    mode: str, size: int, length: int
) -> None:
    whole = make_layer()
    x, rope = make_input(length, whole)
    masked = (torch.arange(length) // 3).expand(len(x), -1) if length == 10 else None
    pull = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    expected_output = layer(x, whole, rope, masked)
    expected = torch.autograd.grad(expected_output, (x, *whole), pull)

    def work(comm: Comm) -> Any:
        own = LayerWeights(*(cut_of(name, tensor, comm) for name, tensor in whole._asdict().items()))
        part = x.chunk(size, 1)[comm.rank].detach().requires_grad_()
        given = FUNCTIONS[mode](part, own, rope, masked, comm)
        gradients = torch.autograd.grad(given, (part, *own), pull.chunk(size, 1)[comm.rank])
        with torch.no_grad():
            torch.testing.assert_close(FUNCTIONS[mode](part, own, rope, masked, comm), given)
        return given.detach(), gradients

    results = on_ranks(size, work)
    torch.testing.assert_close(torch.cat([given for given, _ in results], 1), expected_output.detach())
    torch.testing.assert_close(torch.cat([gradients[0] for _, gradients in results], 1), expected[0])
    for number, name in enumerate(LayerWeights._fields, 1):
        found = [gradients[number] for _, gradients in results]
        # Of a norm's weight each rank saw its own positions; the other weights are cut.
        joined = sum(found) if name.endswith("norm") else torch.cat(found, 1 if name in ("wo", "w2") else 0)
        torch.testing.assert_close(joined, expected[number], msg=lambda m, n=name: f"{n}: {m}")


def cut_of(name: str, tensor: Tensor, comm: Comm) -> Tensor:
    if not name.endswith("norm"):
        tensor = tensor.chunk(comm.size, 1 if name in ("wo", "w2") else 0)[comm.rank]
    return tensor.detach().clone().requires_grad_()


@pytest.mark.prove
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_kernels_give_what_the_plain_ones_give(dtype: torch.dtype) -> None:
    if machine.why_not_compiled():
        pytest.skip(f"kernels cannot be compiled: {machine.why_not_compiled()}")
    tokens = torch.randint(60, (2, 14), generator=torch.Generator().manual_seed(1))
    documents = make_segments(13)
    models = [make_model("hand", dtype, compiles) for compiles in (True, False)]
    for masked in (None, documents):
        found, expected = (gradients(model, tokens, masked) for model in models)
        assert farthest(found, expected) <= (1e-5 if dtype == torch.float32 else 0.05)
    assert compiled() is compiled()


@pytest.mark.prove
@pytest.mark.parametrize("mode", ["reference", "selective", "full"])
def test_the_other_modes_compile_and_agree_with_the_layer_by_hand(mode: str) -> None:
    if machine.why_not_compiled():
        pytest.skip(f"kernels cannot be compiled: {machine.why_not_compiled()}")
    tokens = torch.randint(60, (2, 14), generator=torch.Generator().manual_seed(1))
    ours, other = make_model("hand"), make_model(mode, compiles=True)
    for masked in (None, make_segments(13)):
        assert farthest(gradients(ours, tokens, masked), gradients(other, tokens, masked)) <= 1e-5


@pytest.mark.prove
def test_from_every_state_of_a_training_both_backward_passes_agree_and_left_alone_the_losses_do(proved: Any) -> None:
    chance = torch.Generator().manual_seed(1)
    # Tokens with an order to be learned: each is the one before it plus one or two.
    steps = torch.randint(1, 3, (200, 4, 25), generator=chance).cumsum(2) % 60
    ours, theirs, other = (make_model(mode) for mode in ("hand", "selective", "selective"))
    optimizers = [torch.optim.AdamW(model.parameters(), lr=3e-4) for model in (ours, theirs)]
    apart, losses_apart, first, last = 0.0, 0.0, 0.0, 0.0
    for tokens in steps:
        other.load_state_dict(ours.state_dict())
        found = gradients(ours, tokens)
        apart = max(apart, farthest(found, gradients(other, tokens)))
        gradients(theirs, tokens)
        with torch.no_grad():
            pair = [float(model.loss(tokens).nats) / 96 for model in (ours, theirs)]
        losses_apart = max(losses_apart, abs(pair[0] - pair[1]))
        first, last = first or pair[0], pair[0]
        for optimizer in optimizers:
            optimizer.step()
    assert apart <= 5e-6
    assert losses_apart <= 1e-5
    assert last < first - 1
    proved(f"200 states: gradients at most {apart:.1e} apart; 200 steps: losses at most {losses_apart:.1e} apart")
