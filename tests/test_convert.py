"""An export is read back and says what the model says, or nothing of it is left and the reason is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import made_parts
import puna
import tiny
from puna import convert, storage
from puna.cli import converting
from puna.convert import (
    Mismatch,
    comparison,
    foreign,
    gguf,
    huggingface,
    meta,
    names,
    own,
    passages,
    quants,
    tokenizer_files,
)
from puna.convert.parts import Parts
from puna.errors import InputError

WRITERS: dict[str, Any] = {"hf": huggingface, "gguf": gguf, "meta": meta}


@pytest.fixture
def by_us(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but Puna is there to read what is written: its own programs take seconds to start."""
    monkeypatch.setattr(foreign, "installed", lambda form: None)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_parts.folder(tmp_path_factory.mktemp("models") / "a model", made_parts.made(tied=True))


@given(heads=st.sampled_from([1, 2, 3, 8]), half=st.integers(1, 5), columns=st.integers(1, 4))
@settings(deadline=None, max_examples=30)
def test_the_two_rotary_layouts_undo_each_other(heads: int, half: int, columns: int) -> None:
    weight = torch.arange(heads * half * 2 * columns).reshape(heads * half * 2, columns)
    split = names.half_split(weight, heads)
    assert torch.equal(names.interleaved(split, heads), weight)
    for head in range(heads):
        for element in range(half):  # the pair (2i, 2i + 1) of Meta is (i, i + half) of Hugging Face
            first = head * 2 * half
            assert torch.equal(split[first + element], weight[first + 2 * element])
            assert torch.equal(split[first + half + element], weight[first + 2 * element + 1])


@pytest.mark.parametrize("form", WRITERS)
@given(
    tied=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    heads=st.sampled_from([(1, 1), (4, 1), (4, 2), (6, 3), (2, 2)]),
)
@settings(deadline=None, max_examples=8)
def test_every_arrow_there_and_back_is_exact(
    form: str, tied: bool, dtype: torch.dtype, heads: tuple[int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    parts = made_parts.made(tied=tied, dtype=dtype, heads=heads[0], kv_heads=heads[1])
    place = tmp_path_factory.mktemp("there")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(foreign, "installed", lambda form: None)
        convert.export(made_parts.folder(place / "own", parts), form, place / "out")
        convert.take(place / "out", place / "back")
    back = own.read(place / "back")
    assert back.config == parts.config
    assert (form != "gguf") or (place / "out").is_file()
    assert back.tokenizer.digest == parts.tokenizer.digest
    for name, tensor in parts.state.items():
        assert back.state[name].dtype == tensor.dtype
        assert torch.equal(back.state[name], tensor)


@pytest.mark.usefixtures("by_us")
@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("fault", made_parts.FAULTS)
def test_a_fault_in_an_export_is_refused_with_the_reason(
    form: str, fault: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, reason = made_parts.FAULTS[fault]
    right = WRITERS[form].write
    monkeypatch.setattr(WRITERS[form], "write", lambda place, parts, **how: right(place, change(parts), **how))
    with pytest.raises(Mismatch) as refused:
        convert.export(model, form, tmp_path / "out")
    assert reason in str(refused.value)
    assert refused.value.exit_status == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.prove
@pytest.mark.parametrize("fault", made_parts.FAULTS)
def test_the_logits_of_another_program_show_each_fault_alone(
    fault: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a writer and a reader of ours have wrong together is found too."""
    pytest.importorskip("transformers", reason="transformers is not installed")
    change, _ = made_parts.FAULTS[fault]
    right = huggingface.write
    monkeypatch.setattr(huggingface, "write", lambda place, parts, **how: right(place, change(parts), **how))
    monkeypatch.setattr(comparison, "by_parts", lambda wanted, back: None)
    with pytest.raises(Mismatch, match="transformers"):
        convert.export(model, "hf", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_transformers_reads_an_export_and_says_the_same(tmp_path: Path, model: Path) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    done = tiny.puna(
        "export", model, "--to", "hf", "--out", tmp_path / "out", "--require-reader", "--shard-size", "99 KB"
    )
    assert done.returncode == 0, done.stderr
    assert "read by transformers" in done.stdout
    assert storage.is_file(tmp_path / "out" / "model.safetensors.index.json")
    assert len(storage.listing(tmp_path / "out", "model-*.safetensors")) > 1


@pytest.mark.usefixtures("by_us")
def test_an_imported_model_generates_what_it_did_before(tmp_path: Path, model: Path) -> None:
    convert.export(model, "hf", tmp_path / "out")
    convert.take(tmp_path / "out", tmp_path / "back")
    before, after = (
        puna.load(place).generate("the cat", tokens=12, temperature=0) for place in (model, tmp_path / "back")
    )
    assert before == after
    assert storage.read_json(tmp_path / "back" / "origin.json")["from"] == "hf"


@pytest.mark.usefixtures("by_us")
def test_what_cannot_be_exported_is_refused_before_anything_is_written(tmp_path: Path, model: Path) -> None:
    (tmp_path / "there").mkdir()
    for out, how, said in (
        ("there", {}, "is there already"),
        ("new", {"dtype": "q8_0"}, "not written as q8_0"),
        ("new", {"require_reader": True}, "transformers, is not installed"),
    ):
        with pytest.raises(InputError, match=said):
            convert.export(model, "hf", tmp_path / out, **how)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_value_that_a_dtype_cannot_hold_is_refused_by_name(tmp_path: Path) -> None:
    parts = made_parts.made()
    parts.state["layers.1.feed_forward.w2.weight"][3, 4] = 1e20
    place = made_parts.folder(tmp_path / "large", parts)
    with pytest.raises(InputError, match=r"layers.1.feed_forward.w2.weight holds values that f16 cannot hold"):
        convert.export(place, "hf", tmp_path / "out", dtype="f16")


CHANGED = {
    "hidden_act": "gelu",
    "attention_bias": True,
    "mlp_bias": True,
    "sliding_window": 4096,
    "partial_rotary_factor": 0.5,
    "quantization_config": {"bits": 4},
    "head_dim": 32,
    "model_type": "gpt2",
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0},
    "rope_parameters": {"rope_type": "yarn", "rope_theta": 20000.0},
    "rope_theta": 5.0,
    "num_attention_heads": 2**62,
    "num_hidden_layers": 2**30,
    "hidden_size": "64",
    "vocab_size": -1,
    "rms_norm_eps": None,
}


@pytest.mark.parametrize("key", CHANGED)
def test_a_config_that_is_no_llama_is_refused_by_key(key: str, tmp_path: Path) -> None:
    huggingface.write(tmp_path, made_parts.made())
    path = tmp_path / "config.json"
    value = storage.read_json(path)
    storage.write_json(path, {**value, key: CHANGED[key]})
    if key == "rms_norm_eps":  # then it is transformers' own default
        assert huggingface.read(tmp_path).config.norm_epsilon == 1e-6
        return
    with pytest.raises(InputError) as refused:
        huggingface.read(tmp_path)
    said = {"num_hidden_layers": "says 1073741824 layers", "rope_theta": "rotary bases"}.get(key, key)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("key", ["sliding_window", "num_key_value_heads"])
def test_a_mistral_that_leaves_its_own_default_unsaid_is_refused(key: str, tmp_path: Path) -> None:
    huggingface.write(tmp_path, made_parts.made())
    path = tmp_path / "config.json"
    said = {**storage.read_json(path), "model_type": "mistral", "sliding_window": None}
    storage.write_json(path, said)
    assert huggingface.read(tmp_path).config.kv_heads == 2
    storage.write_json(path, {name: value for name, value in said.items() if name != key})
    with pytest.raises(InputError, match=key):
        huggingface.read(tmp_path)


@pytest.mark.parametrize("changed", [{"num_attention_heads": 3, "head_dim": None}, {"num_key_value_heads": 3}])
def test_heads_that_do_not_fit_are_refused_with_the_file(changed: dict[str, int], tmp_path: Path) -> None:
    huggingface.write(tmp_path, made_parts.made())
    path = tmp_path / "config.json"
    storage.write_json(path, {**storage.read_json(path), **changed})
    with pytest.raises(InputError, match=r"config.json: .*heads = 3"):
        huggingface.read(tmp_path)


def test_angles_of_a_part_of_a_head_are_refused_where_transformers_5_keeps_them(tmp_path: Path) -> None:
    huggingface.write(tmp_path, made_parts.made())
    path = tmp_path / "config.json"
    value = storage.read_json(path)
    value["rope_parameters"]["partial_rotary_factor"] = 0.5
    storage.write_json(path, value)
    with pytest.raises(InputError, match=r"rope_parameters: partial_rotary_factor = 0.5"):
        huggingface.read(tmp_path)


@pytest.mark.parametrize("passage", [0, 4])
def test_logits_that_are_no_numbers_are_never_the_same(
    passage: int, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = own.read(model)

    def ask(form: str, path: Path, texts: list[str], read: list[list[int]]) -> tuple[Any, Any]:
        found = comparison.logits(wanted, read)
        found[passage][0, 0] = np.nan
        return [wanted.tokenizer.encode(text) for text in texts], found

    monkeypatch.setattr(foreign, "installed", lambda form: "a program")
    monkeypatch.setattr(foreign, "ask", ask)
    with pytest.raises(Mismatch, match=f"in passage {passage + 1}"):
        convert.export(model, "hf", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_tied_model_with_another_output_is_refused(tmp_path: Path) -> None:
    parts: Parts = made_parts.made()
    huggingface.write(tmp_path, parts)
    path = tmp_path / "config.json"
    storage.write_json(path, {**storage.read_json(path), "tie_word_embeddings": True})
    with pytest.raises(InputError, match=r"lm_head.weight is not the embedding"):
        huggingface.read(tmp_path)


@pytest.mark.parametrize("dtype", ["q8_0", "q4_0"])
@pytest.mark.usefixtures("by_us")
def test_a_quantised_export_comes_back_as_it_was_rounded(dtype: str, model: Path, tmp_path: Path) -> None:
    convert.export(model, "gguf", tmp_path / "out.gguf", dtype=dtype)
    convert.take(tmp_path / "out.gguf", tmp_path / "back")
    wanted = gguf.rounded(own.read(model), dtype)
    back = own.read(tmp_path / "back").state
    assert all(torch.equal(back[name], tensor) for name, tensor in wanted.items())


@given(
    st.lists(st.floats(-(2.0**12), 2.0**12, width=32), min_size=32, max_size=32),
    st.sampled_from(["Q8_0", "Q4_0", "BF16", "F16", "F32"]),
)
@settings(deadline=None, max_examples=60)
def test_our_blocks_are_those_of_the_gguf_package(values: list[float], name: str) -> None:
    package = pytest.importorskip("gguf", reason="gguf is not installed")
    tensor, kind = torch.tensor([values, values[::-1]]), quants.BY_NAME[name]
    theirs = package.quants.quantize(tensor.numpy(), package.GGMLQuantizationType(kind.number))
    ours = quants.encode(tensor, kind)
    assert ours.tobytes() == theirs.tobytes()
    back = package.quants.dequantize(theirs, package.GGMLQuantizationType(kind.number))
    assert torch.equal(quants.decode(ours, kind, (2, 32), "").float(), torch.from_numpy(back.reshape(2, 32)))


@given(st.binary(min_size=40, max_size=40))
@settings(deadline=None, max_examples=60)
def test_q4_1_is_read_as_the_gguf_package_reads_it(data: bytes) -> None:
    package = pytest.importorskip("gguf", reason="gguf is not installed")
    blocks = np.frombuffer(data, dtype=np.uint8).copy()
    theirs = package.quants.dequantize(blocks.reshape(2, 20), package.GGMLQuantizationType.Q4_1)
    ours = quants.decode(blocks, quants.BY_NAME["Q4_1"], (2, 32), "")
    assert torch.equal(ours.nan_to_num(), torch.from_numpy(theirs.reshape(2, 32)).nan_to_num())


@pytest.mark.prove
@pytest.mark.parametrize("dtype", gguf.DTYPES)
def test_llama_cpp_reads_an_export_and_says_the_same(dtype: str, tmp_path: Path, model: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    said = convert.export(model, "gguf", tmp_path / "out.gguf", dtype=dtype, require_reader=True)
    assert "read by llama.cpp" in said


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.usefixtures("by_us")
def test_shards_of_model_parallelism_are_cut_and_joined(ranks: int, tmp_path: Path) -> None:
    parts = made_parts.made(heads=4, kv_heads=4)
    convert.export(made_parts.folder(tmp_path / "own", parts), "meta", tmp_path / "out", ranks=ranks)
    first = torch.load(tmp_path / "out" / "consolidated.01.pth", weights_only=True)
    assert first["layers.0.attention.wo.weight"].shape == (64, 64 // ranks)
    assert first["layers.0.attention.wq.weight"].shape == (64 // ranks, 64)
    # As in Meta's own files, where readers of others join them so: the embedding by columns, the output by rows.
    whole, cut = parts.state, {"tok_embeddings": 1, "output": 0}
    cut |= {f"layers.0.feed_forward.{name}": dim for name, dim in (("w1", 0), ("w2", 1), ("w3", 0))}
    for name, dim in cut.items():
        assert torch.equal(first[f"{name}.weight"], whole[f"{name}.weight"].chunk(ranks, dim)[1]), name
    back = meta.read(tmp_path / "out")
    assert all(torch.equal(back.state[name], tensor) for name, tensor in parts.state.items())


def test_the_commands_say_what_is_wrong_in_one_line(tmp_path: Path, model: Path) -> None:
    for words, said in (
        (("export", model, "--to", "hf", "--dtype", "q8_0"), "hf is not written as q8_0"),
        (("export", model, "--to", "hf", "--shard-size", "5 bananas"), "--shard-size 5 bananas is no size"),
        (("export", model, "--to", "meta", "--ranks", "3"), "cannot be cut for 3 ranks"),
        (("import", Path(__file__)), "no model in a form that is known"),
    ):
        done = tiny.puna(*words, "--out", tmp_path / "out")
        assert done.returncode == 2
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_what_the_commands_offer_is_what_there_is() -> None:
    assert [form.value for form in converting.From] == list(convert.FORMS)
    assert [form.value for form in converting.To] == [*convert.FORMS, "dataset"]
    dtypes = {dtype for form in convert.FORMS.values() for dtype in form.dtypes}
    assert {dtype.value for dtype in converting.Written} == dtypes
    assert [dtype.value for dtype in converting.Stored] == list(convert.FORMS["puna"].dtypes)


@pytest.mark.usefixtures("by_us")
@pytest.mark.parametrize(
    ("form", "rows"), [("hf", 0), ("gguf", 0), ("meta", 0), ("puna", 0), ("hf", 448), ("puna", 448)]
)
def test_a_tokenizer_of_others_goes_through_every_form(form: str, rows: int, tmp_path: Path) -> None:
    parts = made_parts.theirs(rows=rows)
    convert.export(made_parts.folder(tmp_path / "own", parts), form, tmp_path / "out")
    convert.take(tmp_path / "out", tmp_path / "back")
    back = own.read(tmp_path / "back")
    assert back.config == parts.config
    for text in (*passages.PASSAGES, *passages.SPELLINGS, *passages.CONTROLS):
        assert back.tokenizer.begin(text) == parts.tokenizer.begin(text)
    loaded = puna.load(tmp_path / "back")
    assert loaded.generate("the cat", tokens=4, temperature=0)


@pytest.mark.usefixtures("by_us")
@pytest.mark.parametrize("form", ["hf", "gguf", "meta", "puna"])
def test_a_chat_template_goes_along(form: str, tmp_path: Path) -> None:
    parts = replace(
        made_parts.made(), settings={"chat_template": "{% for m in messages %}<s>{{ m.content }}{% endfor %}"}
    )
    convert.export(made_parts.folder(tmp_path / "own", parts), form, tmp_path / "out")
    convert.take(tmp_path / "out", tmp_path / "back")
    assert own.read(tmp_path / "back").chat_template == parts.chat_template


def test_the_template_of_several_by_name_is_the_default_whatever_else_is_named(tmp_path: Path) -> None:
    named = [{"name": ["x"], "template": "a"}, 3, {"name": "default", "template": "b"}]
    storage.write_json(tmp_path / "tokenizer_config.json", {"chat_template": named})
    assert tokenizer_files.settings(tmp_path) == {"chat_template": "b"}


def test_of_two_exports_to_one_name_the_first_stays(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "one.gguf"
    left = tmp_path / ".part-one.gguf-999999999-1"
    left.write_text("of a process that was killed")
    real = convert.verify

    def slow(*values: Any) -> str:
        target.write_text("the first")
        return real(*values)

    monkeypatch.setattr(convert, "verify", slow)
    with pytest.raises(InputError, match="is there already"):
        convert.export(model, "gguf", target)
    assert [path.name for path in tmp_path.iterdir()] == ["one.gguf"]
    assert target.read_text() == "the first"
