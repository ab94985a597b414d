"""Torch and what it sees: which build, whether it works here, and on which device a run would compute."""

from __future__ import annotations

from typing import Any

from puna.doctor.ask import Answer
from puna.doctor.finding import Finding

CPU_BUILD = "make run TORCH='torch==2.13.0+cpu'"
ON_GPU = "a run computes on it (train.device=auto), as no run of Puna did yet"
ON_CPU = "a run computes on the processor"
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
    if build != "CPU" and not found["gpus"]:
        mend = f"to save space on the disk, take the CPU build: {CPU_BUILD}"
        return [Finding("torch", "note", f"{what}, which sees no GPU: {ON_CPU}", mend)]
    return [Finding("torch", "ok", what)]


def gpus(answer: Answer, nvidia: Answer | None) -> list[Finding]:
    """The GPUs that torch or nvidia-smi name, and whether a run takes one. nvidia: None where there is no
    nvidia-smi."""
    found = facts(answer)
    if seen := found.get("gpus"):
        mend = "train.device=cpu keeps it on the processor; docs/cluster.md tells how several are used"
        return [Finding("GPU", "note", f"{'; '.join(seen)}; {ON_GPU}", mend)]
    listed = [line.strip() for line in nvidia.output.splitlines() if line.strip()] if nvidia else []
    if found.get("metal"):
        what = f"Apple GPU (Metal), which Puna does not use: {ON_CPU}"
        return [Finding("GPU", "note", what, "no mend but another machine")]
    if nvidia and nvidia.problem:
        what = f"nvidia-smi is here and sees none: it said {nvidia.problem!r}; {ON_CPU}"
        return [Finding("GPU", "note", what, "see to the driver, if it is to be used")]
    if listed:
        what = f"{'; '.join(listed)}, which this torch does not see: {ON_CPU}"
        return [Finding("GPU", "note", what, "make run TORCH='torch==2.13.0', which installs the CUDA build")]
    return [Finding("GPU", "ok", f"none: {ON_CPU}")]


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
