"""What tests do in the middle of a training: something after one step or with its gradients, and real kills."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from puna.train.callbacks import Callback, Step, Training


class At(Callback):
    """Does something after one step, or with its gradients."""

    def __init__(self, number: int, *, step: Any = None, gradients: Any = None) -> None:
        self.number, self.on_step, self.on_gradients = number, step, gradients

    def gradients(self, training: Training) -> None:
        if self.on_gradients and training.position.step + 1 == self.number:
            self.on_gradients(training)

    def step(self, training: Training, step: Step) -> None:
        if self.on_step and step.number == self.number:
            self.on_step(training)


class Killed(BaseException):
    pass


def die(training: Training) -> None:
    raise Killed


# Torch is loaded once, and each attempt is a child of that process.
SWEEP = """
import json, os, pathlib, random, signal, sys
import made_training
from puna import storage
folder, most, chance = pathlib.Path(sys.argv[1]), int(sys.argv[2]), random.Random(7)
kills = 0
while True:
    child = os.fork()
    if not child:
        left = chance.randint(4, 100) if kills < most else 10**9
        def border(event, location):
            global left
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
        storage.border = border
        try:
            made_training.run(folder, *sys.argv[3:])
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    chance.random()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == -signal.SIGKILL:
        kills += 1
    else:
        print(json.dumps([status, kills]))
        break
"""


def killed_at_random(folder: Path, most: int, *overrides: str) -> int:
    """Train, killed with SIGKILL at a random border of durable bytes, again and again until it has ended; at most so
    often, and then undisturbed. How often it was killed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SWEEP, str(folder), str(most), *overrides]
    child = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    status, kills = json.loads(child.stdout.splitlines()[-1])
    assert status == 0, child.stderr
    return int(kills)
