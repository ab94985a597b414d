"""Writes the pack for lm-eval's own command.

    python -m puna.evaluate.harness FOLDER --data BENCHMARKS
    lm_eval --model hf --model_args pretrained=... --include_path FOLDER --tasks puna_boolq_0shot,puna_mmlu_5shot

A file for each task and number of examples in the paper, but for those that are judged from outside.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from puna import storage
from puna.evaluate.tasks import PACK
from puna.progress import result


def write(folder: Path, data: Path) -> list[str]:
    """Write the files into `folder`, for release files below `data`; the names of the tasks."""
    names = []
    for task in PACK.values():
        for shots in () if task.needs else task.shots:
            name = f"puna_{task.name}_{shots}shot"
            metadata = {"name": task.name, "shots": shots, "data": str(data.absolute())}
            text = f"task: {name}\nclass: !function puna.evaluate.harness.benchmark.Benchmark\n"
            storage.write(folder / f"{name}.yaml", f"{text}metadata: {json.dumps(metadata)}\n".encode())
            names.append(name)
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where the files go")
    parser.add_argument("--data", metavar="BENCHMARKS", type=Path, required=True, help="holds the release files")
    arguments = parser.parse_args()
    result("\n".join(write(arguments.folder, arguments.data)))


if __name__ == "__main__":
    main()
