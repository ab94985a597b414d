"""Meta's layout: `consolidated.00.pth`, `.01.pth`, ... (one for each rank of model parallelism), `params.json`,
`tokenizer.model`.

A .pth is a zip with a pickle, and a pickle is a program. It is read by torch's own restricted unpickler alone
(`weights_only=True`), which knows tensors, lists and dicts and calls nothing else; before that the zip is looked at
here, so that what it says of its sizes is held against the file. Shards are joined as Meta's code cut them: `wq`, `wk`,
`wv`, `w1`, `w3` and `output` by rows, `wo`, `w2` and the embedding by columns; norms stand in each.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import torch
from torch import Tensor

from puna import storage
from puna.convert import tokenizer_files
from puna.convert.keys import Keys, read_settings
from puna.convert.parts import Parts
from puna.convert.safetensors_file import within
from puna.errors import InputError
from puna.model.config import ModelConfig
from puna.storage import Place
from puna.tokenizer import pieces
from puna.tokenizer.tokenizer_json import JsonTokenizer

BY_COLUMNS = ("tok_embeddings.weight", "attention.wo.weight", "feed_forward.w2.weight")
BY_ROWS = (
    *("attention.wq.weight", "attention.wk.weight", "attention.wv.weight"),
    *("feed_forward.w1.weight", "feed_forward.w3.weight", "output.weight"),
)
BESIDE = "puna.json"  # what params.json has no word for and Meta's code would refuse: the context
MOST_MEMBERS = 1 << 16
MEND = "get the file again from where it came"


def is_one(folder: Place) -> bool:
    return storage.is_file(folder / "params.json")


def read(folder: Place) -> Parts:
    """The parts of a folder; InputError, naming file and key or tensor, for what is damaged, cut otherwise, or would
    run code."""
    where = str(folder / "params.json")
    keys = Keys(read_settings(folder / "params.json"), where)
    names = [name for name in storage.names(folder) if re.fullmatch(r"consolidated\.\d\d\.pth", name)]
    if not names or names != [f"consolidated.{number:02d}.pth" for number in range(len(names))]:
        raise InputError("its consolidated.NN.pth do not count from 00 on", where=str(folder), mend=MEND)
    shards = [_load(within(folder, name, str(folder))) for name in names]
    state = _joined(shards, str(folder))
    freqs = state.pop("rope.freqs", None)
    if "tok_embeddings.weight" not in state or "layers.0.feed_forward.w1.weight" not in state:
        raise InputError("its shards are no LLaMA: tok_embeddings or layers are missing", where=str(folder))
    for name in ("tok_embeddings.weight", "layers.0.feed_forward.w1.weight"):  # sizes are taken from their rows
        if state[name].dim() != 2:
            raise InputError(f"{name} has shape {tuple(state[name].shape)}", where=str(folder), mend=MEND)
    config = _config(keys, state, folder)
    if freqs is not None:
        expected = config.rope_base ** (-torch.arange(0, config.head_dim, 2) / config.head_dim)
        if freqs.shape != expected.shape or not torch.allclose(freqs.float(), expected, rtol=1e-2):
            raise InputError(f"rope.freqs are not what rope_theta = {config.rope_base:g} gives", where=str(folder))
    tokenizer, settings = tokenizer_files.read(folder, config.vocabulary)
    return Parts(config, state, tokenizer, settings, name=folder.name).checked(str(folder))


def write(folder: Place, parts: Parts, *, ranks: int = 1) -> None:
    """Write the parts into `folder`, cut for so many ranks; InputError where the layout cannot hold them."""
    model: bytes = parts.tokenizer.model
    if isinstance(parts.tokenizer, JsonTokenizer):
        found = pieces.from_json(model)
        model = pieces.serialise(found) if found else b""
    if not model:
        mend = "export it as hf or gguf"
        raise InputError("Meta's layout takes a SentencePiece tokenizer, and this model's is none", mend=mend)
    config = parts.config
    for what, size in (("heads", config.kv_heads), ("hidden", config.hidden), ("vocabulary", config.vocabulary)):
        if size % ranks:
            raise InputError(f"its {what} ({size}) cannot be cut for {ranks} ranks", mend="give another number")
    storage.write(folder / "tokenizer.model", model)
    tokenizer_files.write_template(folder, parts)
    storage.write_json(folder / "params.json", _params(config))
    storage.write_json(folder / BESIDE, {"context": config.context})
    state = dict(parts.state)
    if config.tied:
        state["output.weight"] = state["tok_embeddings.weight"]
    for rank in range(ranks):
        with storage.create(folder / f"consolidated.{rank:02d}.pth") as file:
            torch.save({name: _part(name, tensor, rank, ranks) for name, tensor in state.items()}, file)


def _config(keys: Keys, state: dict[str, Tensor], folder: Place) -> ModelConfig:
    keys.only("use_scaled_rope", False, why="scaled rotary angles are not known here")
    beside = folder / BESIDE
    own = Keys(read_settings(beside) if storage.is_file(beside) else {}, str(beside))
    keys.only("moe", why="Puna's model has no experts")
    keys.only("quantization_args", why="quantised weights are read from GGUF only")
    heads = keys.size("n_heads")
    vocabulary = state["tok_embeddings.weight"].shape[0]
    keys.only("vocab_size", -1, vocabulary, why=f"the embedding has {vocabulary} rows")
    # The layout has no word for tied embeddings: the tensor stands twice, and is one again here.
    tied = torch.equal(state.get("output.weight", torch.empty(0)), state["tok_embeddings.weight"])
    if tied:
        del state["output.weight"]
    return keys.config(
        dim=keys.size("dim"),
        heads=heads,
        kv_heads=keys.size("n_kv_heads", heads),
        layers=keys.size("n_layers"),
        hidden=state["layers.0.feed_forward.w1.weight"].shape[0],
        vocabulary=vocabulary,
        context=own.size("context", 2048),
        rope_base=keys.number("rope_theta", 10000.0),
        norm_epsilon=keys.number("norm_eps", 1e-5),
        tied=tied,
    )


def _params(config: ModelConfig) -> dict[str, Any]:
    """What Meta's code takes, which refuses keys that it does not know: those that came later stand only where they say
    something. It finds the hidden size as 2/3 of 4 dim, times ffn_dim_multiplier, rounded up to multiple_of."""
    later: dict[str, Any] = {}
    if config.kv_heads != config.heads:
        later["n_kv_heads"] = config.kv_heads
    if config.rope_base != 10000.0:
        later["rope_theta"] = config.rope_base
    if config.hidden < 8 * config.dim // 3:
        later["ffn_dim_multiplier"] = config.hidden / (8 * config.dim / 3)
    return {
        "dim": config.dim,
        "n_layers": config.layers,
        "n_heads": config.heads,
        "vocab_size": config.vocabulary,
        "multiple_of": config.hidden,
        "norm_eps": config.norm_epsilon,
        **later,
    }


def _load(path: Place) -> dict[str, Tensor]:
    """The tensors of one shard. InputError for anything but a dict of them, and for whatever torch refuses."""
    where = str(path)
    with storage.local_copy(path) as copy, storage.open_read(copy) as file:
        _bounded(file, storage.size(copy), where)
        try:
            found = torch.load(copy, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:
            said = " ".join(str(error).split())
            what = "holds a call that is not for tensors" if "nsupported" in said or "GLOBAL" in said else "is broken"
            raise InputError(f"{what}; nothing in it was run ({said[:120]})", where=where, mend=MEND) from None
        if not isinstance(found, dict):
            raise InputError("is no dict of tensors", where=where, mend=MEND)
        for name, tensor in found.items():
            if not isinstance(name, str) or not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
                raise InputError(f"{str(name)[:100]!r} is no tensor", where=where, mend=MEND)
            if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16) or tensor.device.type != "cpu":
                raise InputError(f"{name[:100]!r} is {tensor.dtype} on {tensor.device}", where=where, mend=MEND)
            if tensor.numel() > tensor.untyped_storage().nbytes() // tensor.itemsize:
                raise InputError(f"{name[:100]!r} says that it is larger than its bytes", where=where, mend=MEND)
        # Many names for the same bytes would each become a copy of them.
        if sum(tensor.nbytes for tensor in found.values()) > storage.size(copy):
            raise InputError("its tensors say that they are larger than its bytes", where=where, mend=MEND)
        return {name: tensor.contiguous().clone() for name, tensor in found.items()}


def _bounded(file: BinaryIO, size: int, where: str) -> None:
    """Refuse a zip that would unfold to more than it is: torch stores its tensors as they are."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        mend = "save it again with a torch of 1.6 or newer where you trust it"
        raise InputError("is no zip, as torch writes it since 1.6, or is cut", where=where, mend=mend) from None
    if len(members) > MOST_MEMBERS or sum(member.file_size for member in members) > size:
        raise InputError("says that it holds more than its bytes", where=where, mend=MEND)
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise InputError("holds compressed members, which torch does not write", where=where, mend=MEND)


def _joined(shards: Sequence[Mapping[str, Tensor]], where: str) -> dict[str, Tensor]:
    """The whole tensors of shards."""
    found = {}
    for name in shards[0]:
        if any(name not in shard for shard in shards):
            raise InputError(f"{name[:100]!r} is not in every shard", where=where, mend=MEND)
        parts = [shard[name] for shard in shards]
        axis = _axis(name)
        if axis is None or len(parts) == 1:
            if any(not torch.equal(part, parts[0]) for part in parts):
                raise InputError(f"{name[:100]!r} differs between shards", where=where, mend=MEND)
            found[name] = parts[0]
            continue
        if any(part.dim() != 2 or part.shape != parts[0].shape or part.dtype != parts[0].dtype for part in parts):
            raise InputError(f"{name[:100]!r} is cut into parts of unequal shape", where=where, mend=MEND)
        found[name] = torch.cat(parts, axis)
    if any(len(shard) != len(found) for shard in shards):
        raise InputError("its shards hold different tensors", where=where, mend=MEND)
    return found


def _part(name: str, tensor: Tensor, rank: int, ranks: int) -> Tensor:
    axis = _axis(name)
    return (tensor if axis is None else tensor.chunk(ranks, axis)[rank]).contiguous().clone()


def _axis(name: str) -> int | None:
    """The dimension along which a tensor is cut; None for one that stands whole in each shard."""
    return 0 if name.endswith(BY_ROWS) else 1 if name.endswith(BY_COLUMNS) else None
