"""kernel.cpp, compiled for this machine the first time it is needed, and called without torch's operators between.

The library is kept in the user's cache (XDG_CACHE_HOME, else ~/.cache), under a name that says what it was made of: the
source, the compiler, its options and the processor. Where there is no compiler, decoding goes on with torch's own
operators, and says why it is slower.
"""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import xxhash
from torch import Tensor

from puna.compiler import compiler
from puna.progress import say

if TYPE_CHECKING:
    from puna.generate.packed import Linear, Packed
    from puna.generate.slots import Slots
    from puna.model.rotary import Rope

SOURCE = Path(__file__).with_name("kernel.cpp")
OPTIONS = ("-O3", "-std=c++17", "-fopenmp", "-shared", "-fPIC", "-ffp-contract=fast", "-fno-math-errno")
BLOCK = 64  # inputs that share a scale, and to whose multiple rows are padded; as in kernel.cpp
GROUP = 8  # rows that lie together in bfloat16 and int8; as in kernel.cpp
MOST = 16  # tokens; for more a matmul is faster
LONGEST = 120.0  # seconds for a compiler
_KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2}


class Matrix(ctypes.Structure):
    _fields_ = (
        ("weight", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("kind", ctypes.c_int64),
        ("outputs", ctypes.c_int64),
        ("width", ctypes.c_int64),
    )


class LayerWeights(ctypes.Structure):
    _fields_ = (
        ("attention_norm", ctypes.c_void_p),
        ("qkv", Matrix),
        ("wo", Matrix),
        ("ffn_norm", ctypes.c_void_p),
        ("w13", Matrix),
        ("w2", Matrix),
    )


class Shape(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("dim", "heads", "kv_heads", "head_dim", "hidden", "layers")),
        *((name, ctypes.c_int64) for name in ("slots", "context", "widest")),
        ("epsilon", ctypes.c_float),
    )


def linear(kernel: Any, m: Linear, x_NI: Tensor) -> Tensor:
    """`m` of x_NI, f32 and at most MOST rows."""
    x_NI = x_NI.contiguous()
    y_NO = torch.empty(len(x_NI), m.outputs)
    entry = matrix(m)
    threads = torch.get_num_threads()
    kernel.puna_linear(
        ctypes.byref(entry), _at(x_NI), *map(ctypes.c_int64, x_NI.shape[::-1]), _at(y_NO), ctypes.c_int64(threads)
    )
    return y_NO


class Layers:
    """All layers of a model over a few tokens, as one call. Keeps the weights that it points to."""

    def __init__(self, kernel: Any, model: Packed) -> None:
        self._kernel, self._model = kernel, model
        self._layers = (LayerWeights * len(model.layers))(
            *(
                LayerWeights(
                    layer.attention_norm_D.data_ptr(),
                    matrix(layer.qkv),
                    matrix(layer.wo),
                    layer.ffn_norm_D.data_ptr(),
                    matrix(layer.w13),
                    matrix(layer.w2),
                )
                for layer in model.layers
            )
        )
        self._widest = max(m.width for layer in model.layers for m in (layer.qkv, layer.wo, layer.w2))

    def __call__(self, x_ND: Tensor, slots: Slots, rope: Rope, at: Sequence[int], positions: Sequence[int]) -> None:
        """Replace x_ND, f32 and contiguous. at, positions: slot and position of each token, those of a slot in order;
        keys and values are written there."""
        config, count = self._model.config, len(x_ND)
        shape = Shape(
            config.dim,
            config.heads,
            config.kv_heads,
            config.head_dim,
            config.hidden,
            config.layers,
            slots.keys.shape[1],
            slots.context,
            self._widest,
            config.norm_epsilon,
        )
        fused = (config.heads + 2 * config.kv_heads) * config.head_dim
        room = torch.empty(count * (fused + config.dim + config.hidden))
        where = (ctypes.c_int64 * (2 * count))(*at, *positions)
        places = ctypes.addressof(where)
        self._kernel.puna_layers(
            ctypes.byref(shape),
            self._layers,
            _at(x_ND),
            ctypes.c_int64(count),
            ctypes.c_void_p(places),
            ctypes.c_void_p(places + 8 * count),
            _at(slots.keys),
            _at(slots.values),
            _at(rope.cos_LF),
            _at(rope.sin_LF),
            _at(room),
            ctypes.c_int64(torch.get_num_threads()),
        )


def matrix(m: Linear) -> Matrix:
    scale = None if m.scale is None else m.scale.data_ptr()
    return Matrix(m.weight.data_ptr(), scale, _KINDS[m.weight.dtype], m.outputs, m.width)


@cache
def kernel() -> Any:
    """The library; None, once it was said why, where none can be made."""
    try:
        return _loaded()
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:  # RuntimeError: there is no home
        said = getattr(error, "stderr", None) or str(error)
        say(f"decoding without its compiled kernel, at about half the speed: {said.strip().splitlines()[0]}")
        return None


def _loaded() -> Any:
    found = compiler()
    if not found:
        raise OSError("no C++ compiler is there: install g++")
    folder = _folder()
    name = f"decoding-{_digest(found)}.so"
    try:
        return ctypes.CDLL(str(folder / name))
    except OSError:  # not made yet, or damaged
        _compile(found.split()[0], folder / name)
        return ctypes.CDLL(str(folder / name))


def _compile(program: str, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made = Path(scratch, target.name)
        native = "-mcpu=native" if platform.machine() in ("aarch64", "arm64", "ppc64le") else "-march=native"
        command = [program, *OPTIONS, native, str(SOURCE), "-o", str(made)]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=LONGEST)
        made.replace(target)


def _folder() -> Path:
    """The user's own, since what lies in it is run."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "puna"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise OSError(f"others may write to {folder}: chmod go-w it")
    return folder


def _digest(found: str) -> str:
    made_of = [SOURCE.read_text("utf-8"), found, *OPTIONS, platform.machine(), *_processor()]
    return xxhash.xxh3_64_hexdigest("\0".join(made_of).encode())


def _processor() -> list[str]:
    """What it can do: a library made for one processor, in a home that several machines share, may end another."""
    found = sorted(map(str, torch.cpu.get_capabilities().items()))
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        found += sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    return found


def _at(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
