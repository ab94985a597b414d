"""Ends a training that hangs, so that a supervisor can start it again, and leaves where each thread was.

A thread looks whether anything moved on: every part of a batch, every group of held-out windows, and every tensor and
file of a checkpoint says so. When nothing did for `hang_minutes` (three times that in the first step, which compiles;
and never less than ten times the longest step so far) the stacks of all threads go into hang.txt of the run folder, one
line is said, and the process ends at once with status 75, which sysexits.h calls a failure that another try may not
have. What a kill leaves is left, so the same command goes on.

Time in which this thread did not run either does not count: the process was stopped (Ctrl-Z, SIGSTOP) or the machine
asleep, and training goes on when it is woken. Code that holds the interpreter's lock for ever is not noticed; torch
gives the lock back while it computes.
"""

from __future__ import annotations

import faulthandler
import os
import tempfile
import threading
import time
from contextlib import suppress

from puna import storage
from puna.progress import say, seconds
from puna.train.callbacks import Callback, Step, Training

STATUS = 75  # EX_TEMPFAIL
NAME = "hang.txt"
FIRST = 3.0  # times the limit: the first step compiles
LONGEST = 10.0  # times the longest pause so far
LOOKS = 20  # times that it looks within the limit


class Watchdog(Callback):
    def start(self, training: Training) -> None:
        self._training = training
        self._limit = 60 * training.settings.hang_minutes
        self._first, self._longest = True, 0.0
        self._still, self._beat = 0.0, training.beat
        self._ended = threading.Event()
        training.alive()
        if self._limit:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def step(self, training: Training, step: Step) -> None:
        self._first = False
        self._longest = max(self._longest, step.seconds)

    def end(self, training: Training) -> None:
        self._ended.set()

    def limit(self) -> float:
        """Seconds without progress after which it hangs."""
        return max(self._limit * (FIRST if self._first else 1.0), LONGEST * self._longest)

    def still(self, seconds: float) -> float:
        """Seconds without progress, at a look that comes `seconds` after the one before."""
        beat = self._training.beat
        # A look that comes late says that this whole process was stopped.
        self._still = 0.0 if beat != self._beat else self._still + min(seconds, 2 * self._limit / LOOKS)
        self._beat = beat
        return self._still

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._ended.wait(self._limit / LOOKS):
            now = time.monotonic()
            still, looked = self.still(now - looked), now
            if still > self.limit():
                self._leave(still)

    def _leave(self, still: float) -> None:
        training = self._training
        rank = training.mesh.rank
        path = training.folder / (NAME if not rank else f"hang-{rank}.txt")
        with suppress(Exception):  # on a disk that hangs, too, the process must end
            storage.write(path, _stacks())
        with suppress(Exception):
            what = f"training hangs: nothing moved on for {seconds(still)} behind step {training.position.step}"
            say(f"{what}; where each thread was stands in {path}; the same command goes on from the last checkpoint")
        os._exit(STATUS)


def _stacks() -> bytes:
    """Where every thread of this process is, the one that calls first."""
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read()
