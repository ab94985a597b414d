"""The ranks that torchrun started as they meet: rank 0 does the whole command, the others its training alone.

Rank 0 holds the run's lock, makes what is missing before training, and tells the others when it trains and with what;
they wait for that and end behind it. What is told goes over the store by which torch's ranks find each other. Torch is
loaded where ranks are, and not by a command that is alone.

Torch's own waits for a rank that has not come let no signal in, for minutes: so nothing of torch is asked for before
all are there, and the waiting is done here, by looks.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from puna import __version__
from puna.errors import InputError, PunaError, ToldElsewhere

if TYPE_CHECKING:
    from puna.model.device import Asked

STARTED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
REACH = timedelta(minutes=10)  # for the store; who does not come in that time does not come
LOOKS = 0.5  # seconds between two looks at what was told
ANSWER = 5.0  # seconds in which an address answers; a signal is heard meanwhile
FIRST_LOOK = 0.01  # seconds to the first look whether all are there; the next ones take twice as long each, up to LOOKS
FOREVER = timedelta(days=365)  # for a collective: ranks that are gone or hang are noticed by peers.py


def rank() -> int | None:
    """This process's, where torchrun or what does as it does started several as one training; else None."""
    if any(not os.environ.get(name) for name in STARTED) or os.environ["WORLD_SIZE"] == "1":
        return None
    return int(os.environ["RANK"])


class Meeting:
    """A place where all ranks of one start find what rank 0 told. PunaError: they are not all there in REACH."""

    def __init__(self) -> None:
        from torch.distributed.distributed_c10d import PrefixStore

        self.rank, self.ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        # A start by torchrun may be one of several over the same store, where a rank was lost before.
        self._store = PrefixStore(f"puna/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", _store(self.rank))
        self._meet("here")

    def tell(self, name: str, value: Any) -> None:
        self._store.set(name, json.dumps(value))

    def hear(self, *names: str) -> tuple[str, Any]:
        """The first of these that rank 0 tells, and what it is; however long that takes."""
        while True:  # a wait of the store's own would let no signal in, and warns each time that it ends
            for name in names:
                if self._store.check([name]):
                    return name, json.loads(self._store.get(name))
            time.sleep(LOOKS)

    def over(self, within: float) -> None:
        """Wait until rank 0 is at its end, at most so many seconds."""
        until = time.monotonic() + within
        with suppress(RuntimeError):  # the store has ended with it
            while time.monotonic() < until and not self._store.check(["over"]):
                time.sleep(LOOKS)

    @contextmanager
    def group(self, alike: Mapping[str, str], asked: Asked) -> Iterator[None]:
        """Torch's process group of all ranks, while the block lasts. Small things go over gloo, those of a GPU over
        NCCL. alike: what must be the same on all of them, beside the versions of Puna and torch; InputError: it is
        not. asked: for which device, as in the recipe."""
        import torch
        import torch.distributed as dist
        from torch.distributed.distributed_c10d import PrefixStore

        from puna.model import device

        self._meet("alike", {"puna": __version__, "torch": torch.__version__, **alike})
        other = unlike([json.loads(self._store.get(f"alike/{each}")) for each in range(self.ranks)])
        self._meet("read")  # who holds the store may end
        if other:
            raise other if self.rank == 0 else ToldElsewhere(str(other))
        backend = "gloo" if device.chosen(asked) == device.CPU else "cpu:gloo,cuda:nccl"
        inside = PrefixStore("group", self._store)
        dist.init_process_group(backend, store=inside, rank=self.rank, world_size=self.ranks, timeout=FOREVER)
        try:
            yield
        finally:
            dist.destroy_process_group()

    def _meet(self, where: str, value: Any = None) -> None:
        """Say a value under this name, and wait until every rank has. PunaError: some did not, within REACH."""
        self._store.set(f"{where}/{self.rank}", json.dumps(value))
        self._store.add(where, 1)
        until, pause = time.monotonic() + REACH.total_seconds(), FIRST_LOOK
        while self._store.add(where, 0) < self.ranks:
            if time.monotonic() > until:
                raise self._incomplete(where)
            time.sleep(pause)
            pause = min(2 * pause, LOOKS)

    def _incomplete(self, where: str) -> PunaError:
        here = [rank for rank in range(self.ranks) if self._store.check([f"{where}/{rank}"])]
        missing = [str(rank) for rank in range(self.ranks) if rank not in here]
        few = ", ".join(missing[:8]) + (f" and {len(missing) - 8} more" if len(missing) > 8 else "")
        minutes = REACH.total_seconds() / 60
        what = f"{len(here)} of {self.ranks} ranks came within {minutes:g} minutes; missing: {few}"
        mend = "start them all; puna doctor, started the same way, tells more"
        return PunaError(what, where="torchrun", mend=mend) if self.rank == here[0] else ToldElsewhere(what)


def _store(rank: int) -> Any:
    """Torchrun's own store, or where it has none (srun) one that rank 0 keeps, which is waited for."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    kept = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    until = time.monotonic() + REACH.total_seconds()
    while not kept:
        try:
            socket.create_connection((host, port), timeout=ANSWER).close()
            break
        except OSError as error:  # also a name that is not known yet
            if time.monotonic() > until:
                mend = "see that rank 0 was started there; puna doctor, started the same way, tells more"
                raise PunaError(
                    f"rank {rank} does not reach {host}:{port}: {error}", where="torchrun", mend=mend
                ) from None
            time.sleep(LOOKS)
    try:
        return TCPStore(host, port, is_master=kept, timeout=REACH, wait_for_workers=False)
    except RuntimeError as error:
        what = f"rank {rank} cannot meet the others at {host}:{port}: {str(error).splitlines()[0]}"
        raise PunaError(what, where="torchrun", mend="give another MASTER_PORT, or rank 0's address") from error


def unlike(ranks: Sequence[Mapping[str, str]]) -> InputError | None:
    """Of what each rank says of itself, the first in which one differs from rank 0."""
    first, *others = ranks
    for number, other in enumerate(others, 1):
        for name, value in first.items():
            if other.get(name) != value:
                what = f"rank {number} has {name} {other.get(name)}, and rank 0 {value}"
                mend = "install the same everywhere, with one run folder that all ranks see; puna doctor tells more"
                return InputError(what, where="torchrun", mend=mend)
    return None
