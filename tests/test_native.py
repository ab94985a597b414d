"""The compiled kernel agrees with torch's operators, gives a token the same bits in any company, and may be missing."""

from __future__ import annotations

import ctypes
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import made_model
from puna.errors import InputError
from puna.generate import native
from puna.generate.forward import Span, forward
from puna.generate.graphed import GraphedStep
from puna.generate.packed import Linear, Packed, pack, quantised
from puna.generate.slots import Slots
from puna.model.rotary import rope_table

KERNEL = native.kernel()
DTYPES = ("f32", "bf16", "int8")
# Of the largest output. f32 sums in another order; with int8 the kernel's input is rounded to 15 bits and a sign.
TOLERANCE = {"f32": 2e-6, "bf16": 2e-6, "int8": 1e-4}

compiled = pytest.mark.skipif(KERNEL is None, reason="no C++ compiler is there")


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@compiled
@given(
    outputs=st.integers(1, 70),
    inputs=st.integers(1, 200),
    tokens=st.integers(1, native.MOST),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 9),
)
@settings(deadline=None, max_examples=60)
def test_a_matrix_gives_what_torch_gives_and_each_row_the_same_bits_alone(
    outputs: int, inputs: int, tokens: int, dtype: str, seed: int
) -> None:
    chance = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, inputs, generator=chance)
    m = quantised(torch.randn(outputs, inputs, generator=chance), dtype, KERNEL)  # type: ignore[arg-type]
    twin = Linear(m.weight, m.scale, m.outputs, m.inputs)
    found, expected = m(x), twin(x)
    assert (found - expected).abs().max() <= TOLERANCE[dtype] * max(1.0, float(expected.abs().max())) * inputs**0.5
    for row in range(tokens):
        assert torch.equal(m(x[row : row + 1])[0], found[row])


def test_eight_bits_are_within_half_a_step_of_the_weights() -> None:
    weight = torch.randn(5, 130, generator=torch.Generator().manual_seed(1))
    weight[2] = 0
    m = quantised(weight, "int8")
    assert m.scale is not None
    steps = m.scale.transpose(1, 2).flatten(0, 1).repeat_interleave(64, dim=1)[:5, :130]
    assert ((m.dense() - weight).abs() <= steps / 2 + 1e-7).all()
    assert m.dense().shape == (5, 130)
    assert (quantised(weight, "bf16").dense() - weight).abs().max() <= weight.abs().max() / 256
    assert torch.equal(quantised(weight, "f32").dense(), weight)


@compiled
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [{}, {"dim": 40, "heads": 4, "kv_heads": 1, "hidden": 88}, {"kv_heads": 4, "tied": True}]
)
def test_layers_give_what_torch_gives_and_each_token_the_same_bits_in_any_company(
    dtype: str, shape: dict[str, int], threads: None
) -> None:
    model = made_model.llama(**shape)
    ours, twin = pack(model, dtype), pack(model, dtype, compiled=False)
    assert ours.native is not None
    assert twin.native is None
    # Three texts of which the second reads several tokens at once, and then each token by itself.
    first = [
        ([5, 6, 7, 8], [Span(0, 0, 1), Span(1, 0, 3)]),
        ([9, 10, 11, 12], [Span(0, 1, 1), Span(1, 3, 1), Span(2, 0, 2)]),
    ]
    spans = [*((0, 0), (1, 0), (1, 1), (1, 2)), *((0, 1), (1, 3), (2, 0), (2, 1))]
    one_by_one = [([5 + number], [Span(*place, 1)]) for number, place in enumerate(spans)]
    together, alone, expected = (
        _read(packed, steps) for packed, steps in ((ours, first), (ours, one_by_one), (twin, first))
    )
    assert torch.equal(together, alone)
    assert (together - expected).abs().max() < (3e-3 if dtype == "int8" else 1e-4)


def _read(packed: Packed, steps: list[tuple[list[int], list[Span]]]) -> torch.Tensor:
    config = packed.config
    slots = Slots(config, 3)
    rope = rope_table(slots.context, config.head_dim, config.rope_base)
    return torch.cat([forward(packed, slots, rope, tokens, spans) for tokens, spans in steps])


@pytest.mark.parametrize("through", ["plain", pytest.param("compiled", marks=pytest.mark.prove)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_step_of_one_shape_gives_what_a_step_of_any_shape_gives(dtype: str, through: str) -> None:
    packed = pack(made_model.llama(), dtype, compiled=False)
    config = packed.config
    rope = rope_table(config.context, config.head_dim, config.rope_base)
    ours, twin = Slots(config, 4), Slots(config, 4)
    for slots in (ours, twin):  # three texts, of which the second rests in the steps that are compared
        forward(packed, slots, rope, [5, 6, 7, 8, 9, 10], [Span(0, 0, 2), Span(1, 0, 3), Span(3, 0, 1)])
    step = GraphedStep(packed, ours, rope, compiled=through == "compiled")
    for number in range(3):
        found = step([11 + number, 12], [3, 0], [1 + number, 2 + number])
        expected = forward(packed, twin, rope, [11 + number, 12], [Span(3, 1 + number, 1), Span(0, 2 + number, 1)])
        assert (found - expected).abs().max() < 1e-4
    assert torch.equal(ours.keys[:, 1], twin.keys[:, 1])
    assert (ours.values - twin.values).abs().max() < 1e-4


@compiled
def test_scores_that_are_no_numbers_stay_that() -> None:
    model = made_model.llama()
    with torch.no_grad():
        model.tok_embeddings.weight[77] = torch.inf
    for dtype in DTYPES:
        packed = pack(model, dtype)
        hidden = _read(packed, [([77, 5], [Span(0, 0, 1), Span(1, 0, 1)])])
        assert not packed.output(hidden)[0].isfinite().any()
        assert packed.output(hidden)[1].isfinite().all()


def test_without_a_compiler_decoding_goes_on_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(native, "compiler", lambda: "")
    assert native.kernel.__wrapped__() is None
    assert "install g++" in capsys.readouterr().err
    monkeypatch.setattr(native, "compiler", lambda: "false 1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native.kernel.__wrapped__() is None
    assert "without its compiled kernel" in capsys.readouterr().err
    assert list((tmp_path / "puna").iterdir()) == []  # nothing half-made is left
    (tmp_path / "puna").chmod(0o777)
    assert native.kernel.__wrapped__() is None
    assert "chmod go-w" in capsys.readouterr().err
    assert pack(made_model.llama(), compiled=False).native is None


@compiled
def test_a_damaged_library_in_the_cache_is_made_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library = tmp_path / "puna" / f"decoding-{native._digest(native.compiler())}.so"
    library.parent.mkdir(mode=0o700)
    library.write_bytes(b"\x7fELF cut short")
    assert native.kernel.__wrapped__() is not None
    assert library.stat().st_size > 1000


@compiled
@pytest.mark.prove
@pytest.mark.skipif(platform.machine() != "x86_64", reason="names processors of one kind")
def test_it_is_right_without_wide_vectors_and_compiles_for_wider_ones(tmp_path: Path) -> None:
    program = native.compiler().split()[0]
    for target in ("icelake-server", "x86-64"):
        made = tmp_path / f"{target}.so"
        command = [program, *native.OPTIONS, f"-march={target}", "-Wno-psabi", str(native.SOURCE), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    plain = ctypes.CDLL(str(made))
    x, weight = (torch.randn(shape, generator=torch.Generator().manual_seed(1)) for shape in ((5, 200), (70, 200)))
    for dtype in DTYPES:
        m = quantised(weight, dtype, plain)  # type: ignore[arg-type]
        twin = Linear(m.weight, m.scale, m.outputs, m.inputs)
        assert (m(x) - twin(x)).abs().max() <= TOLERANCE[dtype] * 14 * float(twin(x).abs().max())


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(InputError, match="f32, bf16, int8"):
        pack(made_model.llama(), "f16")
