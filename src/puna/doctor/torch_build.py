"""Torch and what it sees: which build, whether it works here, and GPUs, on which this version does not train."""

from __future__ import annotations

from typing import Any

from puna.doctor.ask import Answer
from puna.doctor.finding import Finding

CPU_BUILD = "make run TORCH='torch==2.13.0+cpu'"
NO_GPU = "this version does not train on GPUs yet"
INSTALL = "install it anew: rm -r .venv, then make run (TORCH= chooses the build)"


def torch(answer: Answer) -> list[Finding]:
    """Version and build, from what torch_loads.py printed."""
    found = facts(answer)
    if answer.problem or not found:
        what = f"cannot be used: importing it {_told(answer.problem) if answer.problem else 'printed nothing'}"
        return [Finding("torch", "error", what, _mend(answer.problem))]
    build = f"CUDA {found['cuda']}" if found["cuda"] else f"ROCm {found['rocm']}" if found["rocm"] else "CPU"
    kernels = found["kernels"]
    what = f"{found['version']}, {build} build, {found['threads']} threads, {kernels} kernels"
    if found["wrong"]:
        what = f"{what}; wrong results in {', '.join(found['wrong'])}"
        return [Finding("torch", "error", what, INSTALL)]
    if build != "CPU":
        mend = f"to save space on the disk, take the CPU build: {CPU_BUILD}"
        return [Finding("torch", "note", f"{what}; {NO_GPU}", mend)]
    return [Finding("torch", "ok", what)]


def gpus(answer: Answer, nvidia: Answer | None) -> list[Finding]:
    """The GPUs that torch or nvidia-smi name. nvidia: None where there is no nvidia-smi."""
    found = facts(answer)
    listed = [line.strip() for line in nvidia.output.splitlines() if line.strip()] if nvidia else []
    names = listed if listed and nvidia and not nvidia.problem else found.get("gpus", [])
    if found.get("metal"):
        names = [*names, "Apple GPU (Metal)"]
    mend = "nothing to do: training takes the processor"
    if names:
        return [Finding("GPU", "note", f"{'; '.join(names)}; {NO_GPU}", mend)]
    if nvidia and nvidia.problem:
        what = f"nvidia-smi is here and sees none: it said {nvidia.problem!r}; {NO_GPU}"
        return [Finding("GPU", "note", what, mend)]
    return [Finding("GPU", "ok", f"none found, and none is missed: {NO_GPU}")]


def features(answer: Answer) -> list[str]:
    """What torch calls the features of this processor."""
    return list(facts(answer).get("features", []))


def facts(answer: Answer) -> dict[str, Any]:
    """What torch_loads.py printed; empty when it came to nothing."""
    value = answer.last_json()
    return value if isinstance(value, dict) and not answer.problem else {}


def _told(problem: str) -> str:
    return problem if problem.startswith(("was ", "did ", "could ")) else f"ended with: {problem}"


def _mend(problem: str) -> str:
    if "No module named 'torch'" in problem:
        return "make run, which installs it (TORCH= chooses the build)"
    if "SIGILL" in problem:
        return f"this build does not fit the processor: {INSTALL}"
    if "SIGKILL" in problem:
        return "most often memory ran out: end other programs and ask again"
    if "did not answer" in problem:
        return "ask again: the first import after a start reads it all from the disk; then see whether that disk hangs"
    return INSTALL
