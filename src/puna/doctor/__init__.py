"""`puna doctor`: what this machine has, what is missing, and what to do about it.

It must work where nothing else does. So it imports no package but those it looks at within a probe; what may crash or
hang (torch, compiled packages, the compiler, drivers) is asked in processes of their own with a time limit; and a probe
that fails is a finding. It writes nothing that stays, but for the link by which torch.compile works in a folder with
a space (compiler.py), and reaches no network but, under torchrun, the other ranks.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from puna.doctor import disk, isolation, kernels, machine, ranks, software, surroundings, torch_build
from puna.doctor.ask import Question, looked, python
from puna.doctor.finding import Finding, as_json, as_text, worst

if TYPE_CHECKING:
    from puna.storage import Location

__all__ = ["Finding", "as_json", "as_text", "examine", "meet", "ranks", "worst"]

LOADING, COMPILING, NVIDIA = 30, 15, 5  # seconds in which each process must have answered
NVIDIA_SMI = ("--query-gpu=name,memory.total", "--format=csv,noheader")


def examine(folder: Location) -> list[Finding]:
    """Look at everything. folder: where runs go; it need not exist."""
    try:
        Path.cwd()
    except OSError as error:  # torch does not even load from a folder that was removed
        what = f"the folder from which this was started cannot be found any more ({error.strerror})"
        return [Finding("folder", "error", what, "cd to a folder that is there")]
    with ExitStack() as stack:

        def ask(command: list[str], seconds: float) -> Question:
            return stack.enter_context(Question(command, seconds))

        torch = ask(python("torch_loads.py"), LOADING)
        compiler = ask(python("compiler_works.py"), COMPILING)
        packages = ask(python("package_loads.py", *_modules()), LOADING)
        smi = shutil.which("nvidia-smi")
        nvidia = ask([smi, *NVIDIA_SMI], NVIDIA) if smi else None
        return [
            *looked("system", machine.system),
            *looked("Python", software.interpreter),
            *looked("Puna", software.itself),
            *looked("packages", lambda: software.packages(packages.answer()), LOADING + 5),
            *looked("torch", lambda: torch_build.torch(torch.answer()), LOADING + 5),
            *looked("C++ compiler", lambda: kernels.compiler(compiler.answer()), COMPILING + 5),
            *looked("processor", lambda: machine.processor(torch_build.features(torch.answer()))),
            *looked("cores", machine.cores),
            *looked("GPU", lambda: torch_build.gpus(torch.answer(), nvidia.answer() if nvidia else None)),
            *looked("memory", machine.memory),
            *looked("disk", lambda: disk.space(folder)),
            *looked("file system", lambda: disk.file_system(folder)),
            *looked("temporary files", disk.temporary),
            *looked("workers", machine.workers),
            *looked("open files", machine.open_files),
            *looked("text", surroundings.text),
            *looked("terminal", surroundings.terminal),
            *looked("isolation", isolation.isolated),
            *looked("extras", software.extras),
            *looked("lmplz", software.lmplz),
        ]


def meet(folder: Location) -> list[Finding]:
    """On a rank that torchrun started: look at this host, then at all ranks together, which takes a minute or two when
    some do not come. What is found is rank 0's to tell: other ranks find nothing, unless they do not reach it."""
    own = examine(folder) if ranks.looks() else []
    limit = ranks.MEETING + ranks.MEASURING
    with Question(python("ranks_meet.py", *ranks.arguments(str(folder), own)), limit) as question:
        answer = question.answer()
    return [*own, *ranks.together(answer, own)] if ranks.first() else ranks.alone(answer)


def _modules() -> list[str]:
    try:
        return software.modules()
    except Exception:  # why it fails is said where the packages are told of
        return []
