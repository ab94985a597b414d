"""The work of `puna fetch`: each place has threads of its own, so that a slow one holds up no other."""

from __future__ import annotations

import errno
import threading
import time
from collections import deque
from contextlib import ExitStack

from puna import space
from puna.errors import Interrupted, PunaError
from puna.fetch.account import Done
from puna.fetch.client import Missing
from puna.fetch.download import Fetched, download
from puna.fetch.file import File
from puna.fetch.partial import forget, held
from puna.fetch.planned import Plan, Planned
from puna.progress import Bar, progress, say, size

PATIENCE = 2.0  # seconds in which threads may put away what they have when all is to end; a mark is kept in any case
GIVES_UP = 3  # files of one place that fail in a row; the rest is left for the next time


def fetch(plan: Plan) -> str:
    """Fetch what is missing, and say what came of it. Raises PunaError when a file could not be had, after all others
    were tried; Interrupted when it was stopped: the same command goes on."""
    available = space.free(plan.to)
    if available is not None and plan.left > available:
        what = f"about {size(plan.left)} are to be fetched and {size(available)} are free"
        raise PunaError(what, where=str(plan.to), mend="free some space, or give another folder with --to")
    with ExitStack() as folders:
        for planned in plan.sources:
            account = planned.account
            folders.enter_context(held(account.folder))
            account.sweep()
            account.read()  # another command may have fetched some of it since this one looked
            if account.asked != planned.asked or account.files != planned.files:
                account.plan(planned.asked, planned.files)
            folders.callback(account.close)
            planned.missing = [file for file in planned.missing if not account.is_done(file, verify=plan.verify)]
        work = _Work(plan)
        try:
            work.run()
        finally:
            for planned in plan.sources:
                planned.missing = [file for file in planned.missing if not planned.account.is_done(file)]
    if plan.failed:
        say(work.summary())
        plan.complain()
    return work.summary()


class _Work:
    """The threads of one command: `connections` for each place, which take its missing files one after the other."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._missing = plan, plan.missing
        self._queues = {planned.source: deque(planned.missing) for planned in plan.sources}
        self._lock = threading.Lock()
        self._failed: list[PunaError] = []
        self._in_a_row: dict[str, int] = {}
        self._defect: BaseException | None = None
        self._bytes = self._done = self._checked = self._lacked = 0

    def run(self) -> None:
        with progress("fetch", self._plan.left, "B") as bar:
            threads = [
                threading.Thread(target=self._take, args=(planned, bar), daemon=True)
                for planned in self._plan.sources
                for _ in range(min(planned.place.connections, len(planned.missing)))
            ]
            try:
                for thread in threads:
                    thread.start()
                while any(thread.is_alive() for thread in threads):
                    for thread in threads:
                        thread.join(0.05)
            finally:
                self._plan.clock.stopped.set()
                end = time.monotonic() + PATIENCE
                for thread in threads:
                    if thread.ident is not None:
                        thread.join(max(0.0, end - time.monotonic()))
        if self._defect is not None:
            raise self._defect
        if self._failed:
            first, count = self._failed[0], len(self._failed)
            left = sum(map(len, self._queues.values()))
            say(self.summary())
            if count + left == 1:
                raise first
            what = f"{count + left} of {self._missing} files could not be fetched; the first: {first.what}"
            raise PunaError(what, where=first.where, mend="give the same command again: it goes on from there")

    def summary(self) -> str:
        """What stands there now."""
        files = sum(len(planned.files) for planned in self._plan.sources)
        fetched = f"{self._done:,} of them fetched now ({size(self._bytes)})"
        lines = [f"{self._plan.what:6} {self._plan.to}: {files:,} files, {fetched}"]
        if self._done:
            lines.append(f"       {self._checked:,} of these were compared with published checksums")
        if self._lacked:
            lines.append(f"       {self._lacked:,} that a catalogue names are not at their place")
        for planned in self._plan.sources:
            if others := planned.account.others():
                many = f"{len(others):,} file{'s' if len(others) != 1 else ''} of earlier plans"
                lines.append(f"       {many} in {planned.account.folder} will be read too; the first is {others[0]}")
        return "\n".join(lines)

    def _take(self, planned: Planned, bar: Bar) -> None:
        """Fetch files of one place until none is left, or too many fail in a row."""
        queue = self._queues[planned.source]
        while self._in_a_row.get(planned.source, 0) < GIVES_UP:
            with self._lock:
                if not queue or self._plan.clock.stopped.is_set():
                    return
                file = queue.popleft()
            try:
                self._one(planned, file, bar)
            except Interrupted:
                return
            except PunaError as error:
                self._fail(planned, error)
            except BaseException as error:
                with self._lock:
                    self._defect = self._defect or error
                self._plan.clock.stopped.set()
                return
            else:
                self._in_a_row[planned.source] = 0

    def _one(self, planned: Planned, file: File, bar: Bar) -> None:
        account = planned.account
        target = account.folder / file.name
        day = time.strftime("%Y-%m-%d", time.gmtime())

        def record(fetched: Fetched) -> None:
            with self._lock:
                account.finish(Done(file, fetched.size, fetched.digest, fetched.validator, fetched.checked, day))

        def came(count: int) -> None:
            with self._lock:
                bar.advance(count, file.name)

        try:
            fetched = download(file, target, planned.door, came, record)
        except Missing:
            if not file.may_lack:
                raise
            forget(target)
            with self._lock:
                self._lacked += 1
                account.finish(Done(file, 0, "", day=day))
            return
        with self._lock:
            self._done += 1
            self._bytes += fetched.size
            self._checked += fetched.checked

    def _fail(self, planned: Planned, error: PunaError) -> None:
        with self._lock:
            self._failed.append(error)
            self._in_a_row[planned.source] = self._in_a_row.get(planned.source, 0) + 1
        say(f"{planned.source}: {error}")
        if self._in_a_row[planned.source] == GIVES_UP and self._queues[planned.source]:
            say(f"{planned.source}: {GIVES_UP} files in a row; the rest of it is left for the next time")
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            self._plan.clock.stopped.set()  # no other file would fare better
