"""What the machine decides about a training, and not the recipe: type of the computation, threads, kernels, compiler.

Two trainings give the same bits when these agree, so they are fixed before the first step, recorded in machine.json
(one entry a segment: a segment is what one process trained) and in every checkpoint, and compared when one is resumed.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from puna import storage
from puna.compiler import compiler
from puna.engine import usable_cpus
from puna.errors import InputError
from puna.formats import MACHINE
from puna.model.config import ModelConfig
from puna.model.device import CPU
from puna.model.modes import Mode
from puna.parallel.mesh import ALONE, Mesh
from puna.progress import say
from puna.recipe import Train
from puna.storage import Place
from puna.train import memory, onednn

# Processors whose bfloat16 torch's matmul uses, as seen to be faster than float32 there. ARM has such instructions too,
# but torch's builds for it were not measured.
BFLOAT16_FEATURES = ("avx512_bf16", "amx_bf16")


ONE_RANK = str(ALONE)


@dataclass(frozen=True)
class Machine:
    """What the bits of weights and losses depend on, beside recipe and tokens."""

    torch: str
    threads: int
    dtype: str
    """Type of the computation: "bfloat16" or "float32". Master weights, moments and losses are always float32."""
    kernels: str
    """Which layer, instruction set, matmuls and compiler, such as "hand layer, AVX512, compiled by g++ 12.2.0"."""
    mesh: str = ONE_RANK
    """How ranks share the model, such as "shard 4 x tensor 2"."""
    device: str = CPU.type
    """Where it computes: "cpu", or "cuda", of which `kernels` names the kind."""

    @property
    def compiles(self) -> bool:
        return "compiled by" in self.kernels

    @property
    def layer(self) -> Mode:
        return _layer(self.kernels) or "reference"


def choose(
    train: Train,
    threads: int | None,
    config: ModelConfig | None = None,
    *,
    windows: int = 1,
    earlier: Mapping[str, Any] | None = None,
    mesh: Mesh = ALONE,
    device: torch.device = CPU,
) -> Machine:
    """Decide for this machine. threads: None takes every usable CPU, shared with the other ranks of this machine.

    config, windows: the model, and the windows of one forward pass, whose memory decides what `train.layer` "auto" is.
    earlier: the machine of the checkpoint that is gone on from; what was found by looking at free memory or by
    measuring stays as it was then, since looking again may find something else. device: `device.chosen`'s.
    Says what was chosen against a recipe's `auto` and why. InputError when `train.compile` is "on" and cannot be.
    """
    before = str((earlier or {}).get("kernels", ""))
    threads = threads or max(1, usable_cpus() // local_ranks(mesh))
    dtype = train.dtype
    if dtype == "auto":
        dtype = "bfloat16" if has_bfloat16(device) else "float32"
    mode, why = train.layer, ""
    if mode == "auto":
        mode, why = _mode(train, config, windows, getattr(torch, dtype), before, mesh, device)
    on_cpu = device.type == "cpu"
    kind = torch.backends.cpu.get_cpu_capability() if on_cpu else torch.cuda.get_device_name()
    path = f"{mode} layer, {kind}"
    if on_cpu and dtype == "float32" and onednn.allowed() and onednn.exact():
        as_before = onednn.NAME in before
        path += f", {onednn.NAME}" if as_before or (not before and onednn.faster()) else ""
    kernels = f"{path}, not compiled"
    if train.compile != "off":
        reason = why_not_compiled(device.type)
        if not reason:
            kernels = f"{path}, compiled by {compiler() if on_cpu else 'Triton'}"
        elif train.compile == "on":
            mend = "install a C++ compiler (g++) and Python's headers, or set train.compile=auto"
            mend = mend if on_cpu else "see that Triton works on this GPU, or set train.compile=auto"
            raise InputError(f"kernels cannot be compiled here: {reason}", where="train.compile", mend=mend)
        else:
            say(f"kernels are not compiled, since {reason}; training is slower")
    machine = Machine(torch.__version__, threads, dtype, kernels, str(mesh), device.type)
    first = "; the first step takes longer, since it compiles them" if machine.compiles else ""
    shared = "" if mesh.alone else f"{mesh.layout.ranks} ranks ({mesh}), "
    say(f"training in {dtype}, {shared}threads: {threads}, {kernels}{first}")
    if why:
        say(f"{mode} layer: {why}")
    return machine


def differences(then: Mapping[str, Any], now: Machine) -> list[str]:
    """What differs from the recorded machine, in words: "threads 2 (here 1)". Another mesh is not another machine, and
    on one the number of threads, which goes with it, is none either."""
    left_out = {"mesh"} if _mesh(then) == now.mesh else {"mesh", "threads"}
    told = {name: value for name, value in asdict(now).items() if name not in left_out}
    before = {"device": CPU.type, **then}  # earlier versions knew no other
    return [f"{name} {before.get(name)} (here {value})" for name, value in told.items() if before.get(name) != value]


def moved(then: Mapping[str, Any], now: Machine) -> str:
    """What is said of a training that goes on on another mesh; "" on the same one."""
    if _mesh(then) == now.mesh:
        return ""
    return f"it was made on {_mesh(then)}, and goes on on {now.mesh}: losses differ by rounding from here on"


def local_ranks(mesh: Mesh) -> int:
    """Ranks of this training on this machine."""
    return 1 if mesh.alone else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def record(folder: Place, machine: Machine, start: int, fingerprint: str) -> None:
    """Add the entry of a segment, which begins after step `start`, to machine.json in the run `folder`. Each entry has
    a format of its own: one training may go on under another version."""
    path = folder / "machine.json"
    features = torch.cpu.get_capabilities()
    entry = {
        "format": MACHINE.version,
        "start_step": start,
        "fingerprint": fingerprint,
        "cpu": cpu_name(),
        "cpus": usable_cpus(),
        "features": sorted(name for name, value in features.items() if value is True),
        "torch": machine.torch,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "threads": machine.threads,
        "dtype": machine.dtype,
        "kernels": machine.kernels,
        "mesh": machine.mesh,
        "device": machine.device,
        "compiler": compiler(),
    }
    earlier = storage.read_json(path) if storage.exists(path) else []
    storage.write_json(path, [*earlier, entry])


def mend_record(folder: Place, then: Mapping[str, Any] | None, fingerprint: str) -> None:
    """See that machine.json can be added to, and begins with the training that goes on from a checkpoint.

    then: the machine in that checkpoint, or None without one. A file that is lost or broken is no reason to lose
    weights: what the checkpoint tells takes its place, marked `rebuilt`, and that is said.
    Raises InputError: the file was written by a newer Puna.
    """
    path = folder / "machine.json"
    MACHINE.refuse_newer_file(path)
    segments = _segments(path)
    begun = any(one["start_step"] == 0 and one["fingerprint"] == fingerprint for one in segments or [])
    if segments is None:
        storage.remove(path)
    if then is None or begun:
        return
    say(f"{path} does not tell how this training began: what its checkpoint tells of the machine is written there")
    entry = {"format": MACHINE.version, "start_step": 0, "fingerprint": fingerprint, "rebuilt": True, **then}
    storage.write_json(path, [*(segments or []), entry])


def _segments(path: Place) -> list[dict[str, Any]] | None:
    """The entries of machine.json; None when it is not there, or no list of entries."""
    try:
        segments = storage.read_json(path)
    except InputError:
        return None
    named = {"start_step", "fingerprint"}
    if isinstance(segments, list) and all(isinstance(one, dict) and named <= one.keys() for one in segments):
        return segments
    return None


@contextmanager
def settled(machine: Machine) -> Iterator[None]:
    """Hold torch to the machine's threads, matmuls and deterministic algorithms; put everything back at the end."""
    threads = torch.get_num_threads()
    strict = torch.are_deterministic_algorithms_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.set_num_threads(machine.threads)
    torch.use_deterministic_algorithms(True)
    # It fills every fresh tensor with NaN: no result reads one, and it costs a pass over memory each time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        with onednn.used() if onednn.NAME in machine.kernels else nullcontext():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


def _mesh(then: Mapping[str, Any]) -> str:
    return str(then.get("mesh", ONE_RANK))


def _mode(
    train: Train,
    config: ModelConfig | None,
    windows: int,
    dtype: torch.dtype,
    before: str,
    mesh: Mesh,
    device: torch.device,
) -> tuple[Mode, str]:
    """What "auto" is, and why."""
    if mode := _layer(before):
        return mode, "as it was when this training began"
    if config is None:
        return memory.ORDER[0], ""
    parts, stages = mesh.layout.shard * mesh.layout.tensor, mesh.layout.pipeline
    free, sharing = memory.available(), local_ranks(mesh)
    if device.type == "cuda":  # a rank has a GPU of its own
        free, sharing = torch.cuda.mem_get_info()[0], 1
    tokens = windows * train.context
    return memory.choose(config, tokens, dtype, free, parts=parts, stages=stages, ranks=sharing)


def _layer(kernels: str) -> Mode | None:
    """The mode that a machine's `kernels` begins with."""
    return next((mode for mode in get_args(Mode) if kernels.startswith(f"{mode} layer")), None)


def has_bfloat16(device: torch.device = CPU) -> bool:
    """Whether this processor or GPU multiplies bfloat16 matrices in hardware; elsewhere that type is slower than
    float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    features = torch.cpu.get_capabilities()
    return any(features.get(name) for name in BFLOAT16_FEATURES)


@cache
def why_not_compiled(device: str = CPU.type) -> str:
    """Why torch.compile gives no kernel here, in words that follow "since"; "" when a trial gave one."""
    if device == "cpu" and not compiler():
        return "no C++ compiler was found"
    if any(character.isspace() for character in torch.__file__):
        return "torch lies in a folder with a space in its path, which its calls of the compiler cannot take"
    _set_up_inductor()
    try:
        torch.compile(lambda x: x.exp() + 1, dynamic=False)(torch.zeros(64, device=device))
    except Exception as error:  # whatever a half-installed compiler raises: the answer is the same
        last = (str(error).strip() or type(error).__name__).splitlines()[0]
        return f"{compiler() if device == 'cpu' else 'Triton'} gave no kernel ({last[:200]})"
    return ""


@cache
def cpu_name() -> str:
    """The processor's model as the system names it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _set_up_inductor() -> None:
    """One compile worker, within this process (more would each hold torch in memory), and the compiler we named."""
    import torch._inductor.config as inductor

    inductor.compile_threads = 1
    inductor.cpp.cxx = (None, compiler().rsplit(" ", 1)[0])
