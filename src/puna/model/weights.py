"""Names of a model's tensors, their first values, and their files.

The first value of an element depends on nothing but the seed, the tensor's name and the element's index, so any mesh of
processes can make its own part and all start alike. On disk a model is `model.safetensors`, tensors under Meta's names,
and `config.json`; a checkpoint of a training run adds `checkpoint.json`, written last, with size and digest of every
file. Generating reads weights from here and so never imports training. Nothing is ever unpickled.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import safetensors
import torch
import xxhash
from torch import Tensor

from puna import storage
from puna.errors import InputError
from puna.formats import CHECKPOINT, CONFIG, STATE
from puna.model.config import ModelConfig
from puna.model.llama import Llama
from puna.storage import Place

STANDARD_DEVIATION = 0.02
BLOCK = 1 << 20  # elements made at a time
_DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


@functools.cache
def shapes(config: ModelConfig) -> Mapping[str, tuple[int, ...]]:
    """Name and shape of every tensor of a model, in the order of its state dict."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in Llama(config).state_dict().items()}


def initial(
    config: ModelConfig, name: str, seed: int, *, start: int = 0, stop: int | None = None
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """First values of rows start .. stop - 1 of the tensor `name`, f32.

    | tensor                                    | shape                      | first values                          |
    |-------------------------------------------|----------------------------|---------------------------------------|
    | tok_embeddings.weight                     | vocabulary, dim            | normal, 0.02                          |
    | layers.N.attention_norm.weight            | dim                        | 1                                     |
    | layers.N.attention.wq.weight              | dim, dim                   | normal, 0.02                          |
    | layers.N.attention.wk.weight, wv          | kv_heads * head_dim, dim   | normal, 0.02                          |
    | layers.N.attention.wo.weight              | dim, dim                   | normal, 0.02 / sqrt(2 * layers)       |
    | layers.N.ffn_norm.weight                  | dim                        | 1                                     |
    | layers.N.feed_forward.w1.weight, w3       | hidden, dim                | normal, 0.02                          |
    | layers.N.feed_forward.w2.weight           | dim, hidden                | normal, 0.02 / sqrt(2 * layers)       |
    | norm.weight                               | dim                        | 1                                     |
    | output.weight (unless tied)               | vocabulary, dim            | normal, 0.02                          |

    The paper does not say how LLaMA was initialised; this is GPT-2's way, where what adds to the residual stream is
    made smaller, so that the stream does not grow with depth.
    Element e of a tensor is standard normal by Box and Muller from the two halves of splitmix64's output number e + 1
    from the state xxh3_64(name, seed).
    """
    shape = shapes(config)[name]
    rows = slice(start, stop).indices(shape[0])
    row = int(np.prod(shape[1:]))
    if name.endswith("norm.weight"):
        return np.ones((rows[1] - rows[0], *shape[1:]), dtype=np.float32)
    scale = STANDARD_DEVIATION
    if name.endswith(("attention.wo.weight", "feed_forward.w2.weight")):
        scale /= (2 * config.layers) ** 0.5
    key = xxhash.xxh3_64_intdigest(name.encode(), seed=seed % 2**64)
    values = np.empty((rows[1] - rows[0]) * row, dtype=np.float32)
    for first in range(0, len(values), BLOCK):
        block = values[first : first + BLOCK]
        block[:] = scale * _normal(key, rows[0] * row + first, len(block))
    return values.reshape(-1, *shape[1:])


def initialise(model: Llama, seed: int) -> None:
    """Fill every tensor of `model` with its first values, in the model's dtype."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            tensor.copy_(torch.from_numpy(initial(model.config, name, seed)))


def _normal(key: int, first: int, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Standard normal numbers first .. first + count - 1 of the stream `key`."""
    bits = np.arange(first + 1, first + count + 1, dtype=np.uint64)
    bits *= np.uint64(0x9E3779B97F4A7C15)
    bits += np.uint64(key)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits ^= bits >> np.uint64(shift)
        bits *= np.uint64(factor)
    bits ^= bits >> np.uint64(31)
    high, low = bits >> np.uint64(32), bits & np.uint64(0xFFFFFFFF)
    radius = np.sqrt(-2.0 * np.log((high + 0.5) * 2.0**-32))
    return np.asarray(radius * np.cos(2.0 * np.pi * (low * 2.0**-32)))


def digest(state: Mapping[str, Tensor]) -> str:
    """Tells tensors in memory from others, by names and bytes. One tensor at a time is looked at."""
    hashed = xxhash.xxh3_128()
    for name in sorted(state):
        hashed.update(name.encode())
        hashed.update(state[name].contiguous().view(torch.uint8).flatten().numpy().data)
    return f"xxh3:{hashed.hexdigest()}"


def write_model(
    folder: Place,
    config: ModelConfig,
    state: Mapping[str, Tensor],
    *,
    tokenizer: str = "",
    advance: Callable[[], object] = lambda: None,
    whole: Callable[[str], Tensor] | None = None,
    adapters: bool = False,
) -> str:
    """Write `model.safetensors` and `config.json` into `folder`; `tokenizer` is the digest of its tokenizer's file.
    advance: called with every tensor. whole: see `write_tensors`. adapters: `state` is what learns beside such a model.

    Returns the digest of what was written as `model.safetensors`.
    Raises ValueError when `state` is not a whole state dict of a model of this config.
    """
    wrong = "" if adapters else difference(state, config)
    if wrong:
        raise ValueError(wrong)
    digest = write_tensors(folder / "model.safetensors", state, advance=advance, whole=whole)
    storage.write_json(folder / "config.json", {**config.to_json(), "tokenizer": tokenizer})
    return digest


def write_tensors(
    location: storage.Location,
    tensors: Mapping[str, Tensor],
    *,
    advance: Callable[[], object] = lambda: None,
    whole: Callable[[str], Tensor] | None = None,
) -> str:
    """Write tensors as one safetensors file, one after another, so that no copy of them all is made; equal tensors are
    equal bytes. advance: called with every tensor. whole: gives each by its name when it is its turn, in the order of
    names; `tensors` are then no more than shapes and types (device "meta"). Returns the digest of what was written, as
    `storage.digest` gives it."""
    whole = whole or tensors.__getitem__
    names = sorted(tensors)
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        tensor = tensors[name]
        start, end = end, end + tensor.nbytes
        entries[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    written = xxhash.xxh3_128()
    with storage.create(location) as file:
        parts: Iterator[Any] = (_bytes(whole(name)) for name in names)
        for data in itertools.chain((len(header).to_bytes(8, "little"), header), parts):
            file.write(data)
            written.update(data)
            del data  # before the next one is put together
            advance()
    return f"xxh3:{written.hexdigest()}"


def read_tensors(
    path: Place, region: Callable[[str, Sequence[int]], tuple[slice, ...]] | None = None
) -> dict[str, Tensor]:
    """All tensors of a safetensors file; InputError, naming it, when it is missing or broken. region: the part of each
    that is read, by its name and shape; None: all of it."""
    try:
        with storage.local_copy(path) as copy, safetensors.safe_open(copy, framework="pt") as file:
            found = {}
            for name in file.keys():  # noqa: SIM118
                part = file.get_slice(name)
                tensor = file.get_tensor(name) if region is None else part[region(name, part.get_shape())]
                found[name] = tensor.clone()  # so that nothing reads through to a file that may be replaced or cut
            return found
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise InputError(f"is broken ({error})", where=str(path), mend=_MEND) from None


def load_checkpoint(
    folder: Place, *, dtype: torch.dtype | None = torch.float32, device: torch.device | str = "cpu"
) -> Llama:
    """The model of a checkpoint folder, in `dtype` (None: as stored).

    Raises InputError, naming the file, when one is missing, broken, of a newer format, not what checkpoint.json says,
    or when its tensors are not those of its config.
    """
    verify(folder)
    config, _ = read_config(folder)
    path = folder / "model.safetensors"
    state = read_tensors(path)
    wrong = difference(state, config)
    if wrong:
        raise InputError(f"does not fit its config.json: {wrong}", where=str(path), mend=_MEND)
    model = Llama(config, device="meta")
    model.load_state_dict({name: tensor.to(device, dtype) for name, tensor in state.items()}, assign=True)
    return model


def read_config(folder: Place) -> tuple[ModelConfig, str]:
    """The config of a checkpoint folder, and the digest of the tokenizer its ids are of ("" when it is not said)."""
    location = folder / "config.json"
    value = storage.read_json(location)
    config = ModelConfig.from_json(value, where=str(location))
    return config, str(value.get("tokenizer", ""))


def verify(folder: Place) -> None:
    """Compare every file that checkpoint.json lists with the size and digest there; InputError names the first that
    differs. A folder without checkpoint.json, such as an exported model, has nothing to compare."""
    marker = folder / "checkpoint.json"
    if not storage.is_file(marker):
        return
    refuse_newer(folder)
    value = storage.read_json(marker)
    if not _is_record(value):
        raise InputError("is not a checkpoint's record", where=str(marker), mend=_MEND)
    for name, record in sorted(value["files"].items()):
        path = folder / name
        if not storage.is_file(path):
            raise InputError("is missing", where=str(path), mend=_MEND)
        if storage.size(path) != record["size"]:
            what = f"is {storage.size(path)} bytes, but was written with {record['size']}"
            raise InputError(what, where=str(path), mend=_MEND)
        if storage.digest(path) != record["digest"]:
            raise InputError("does not have the digest it was written with", where=str(path), mend=_MEND)


def refuse_newer(folder: Place) -> None:
    """Raise Newer when a file of the checkpoint in `folder` is of a newer format: before its digest is looked at, since
    what is newer is not damaged."""
    for format in (CHECKPOINT, CONFIG, STATE):
        for pattern in format.files:
            format.refuse_newer_file(folder / pattern.rpartition("/")[2])


def _bytes(tensor: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The tensor's own bytes, in order."""
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    return plain.view(torch.uint8).numpy()


def latest_checkpoint(run_folder: Place) -> Place:
    """The newest whole checkpoint of a run; InputError when it has none, OSError when its folder cannot be read."""
    folder = run_folder / "checkpoints"
    names = storage.names(folder) if storage.is_folder(folder) else []
    steps = [folder / name for name in names if re.fullmatch(r"step-\d+", name)]
    whole = [path for path in steps if storage.is_file(path / "checkpoint.json")]
    if whole:
        return max(whole, key=lambda path: int(path.name.removeprefix("step-")))
    aside = run_folder / "superseded"
    if storage.is_folder(aside) and any(name.startswith("train-") for name in storage.names(aside)):
        mend = "what earlier values made lies in superseded/: puna run with those values takes it up again"
        raise InputError("has no checkpoint of its present values", where=str(run_folder), mend=mend)
    if steps:
        what = "holds no whole checkpoint: checkpoint.json, which is written last, is in none of them"
        raise InputError(what, where=str(folder), mend="copy it again from where it is whole, or train again")
    raise InputError("has no checkpoint yet", where=str(run_folder), mend="train it first: puna train RECIPE")


_MEND = "use another checkpoint, or remove this one and train again"


def _is_record(value: Any) -> bool:
    """Whether `value` has the form of a checkpoint.json: {"format": 1, "files": {name: {"size": .., "digest": ..}}}."""
    files = value.get("files") if isinstance(value, dict) and isinstance(value.get("format"), int) else None
    return isinstance(files, dict) and all(
        isinstance(record, dict) and {"size", "digest"} <= record.keys() for record in files.values()
    )


def difference(state: Mapping[str, Tensor], config: ModelConfig) -> str:
    """What keeps `state` from being a state dict of a model of this config; "" when it is one."""
    # A config may ask for more than could even be listed.
    if config.layers > len(state):
        return f"layers = {config.layers}, but there are {len(state)} tensors"
    widest = max((size for tensor in state.values() for size in tensor.shape), default=0)
    for name in ("dim", "hidden", "vocabulary"):
        if getattr(config, name) > widest:
            return f"{name} = {getattr(config, name)}, but the tensors are at most {widest} wide"
    expected = shapes(config)
    for name in sorted(expected.keys() | state.keys()):
        if name not in state:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} is not a tensor of such a model"
        if tuple(state[name].shape) != expected[name]:
            return f"{name} has shape {tuple(state[name].shape)}, not {expected[name]}"
    return ""
