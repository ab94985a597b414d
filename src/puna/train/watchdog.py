"""Ends a training that hangs, so that a supervisor can start it again, and leaves where each thread was.

A thread looks whether anything moved on: every part of a batch, and every group of held-out windows, says so. When
nothing did for `hang_minutes` (three times that in the first step, which compiles; and never less than ten times the
longest pause so far) the stacks of all threads go into hang.txt of the run folder, one line is said, and the process
ends at once with status 75, which sysexits.h calls a failure that another try may not have. What a kill leaves is left,
so the same command goes on.

Code that holds the interpreter's lock for ever is not noticed; torch gives the lock back while it computes.
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

    def _watch(self) -> None:
        while not self._ended.wait(self._limit / LOOKS):
            still = time.monotonic() - self._training.beat
            if still > self.limit():
                self._leave(still)

    def _leave(self, still: float) -> None:
        training = self._training
        path = training.folder / NAME
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
