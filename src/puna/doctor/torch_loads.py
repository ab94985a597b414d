"""Run as a program: import torch, multiply, and print what this build is as one line of JSON.

In a process of its own, since a build that does not fit the machine may end it or never come back.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main() -> None:
    sys.path[:] = json.loads(sys.argv[1])
    import torch

    ones = torch.ones(64, 64)
    works = {
        "float32": bool((ones @ ones == 64).all()),
        "bfloat16": bool((ones.bfloat16() @ ones.bfloat16() == 64).all()),
        "numpy": bool(ones.numpy().sum() == 4096),
    }
    found: dict[str, Any] = {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "rocm": torch.version.hip,
        "threads": torch.get_num_threads(),
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "features": sorted(name for name, value in torch.cpu.get_capabilities().items() if value is True),
        "wrong": sorted(name for name, right in works.items() if not right),
        "gpus": [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())],
        "metal": torch.backends.mps.is_available(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
