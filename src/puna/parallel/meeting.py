"""The ranks that torchrun started as they meet: rank 0 does the whole command, the others its training alone.

Rank 0 holds the run's lock, makes what is missing before training, and tells the others when it trains and with what;
they wait for that and end behind it. What is told goes over the store by which torch's ranks find each other. Torch is
loaded where ranks are, and not by a command that is alone.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from puna import __version__
from puna.errors import InputError, ToldElsewhere

if TYPE_CHECKING:
    from puna.model.device import Asked

STARTED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
REACH = timedelta(minutes=10)  # for the store; who does not come in that time does not come
LOOKS = 0.5  # seconds between two looks at what was told
FOREVER = timedelta(days=365)  # for a collective: ranks that are gone or hang are noticed by peers.py


def rank() -> int | None:
    """This process's, where torchrun or what does as it does started several as one training; else None."""
    if any(not os.environ.get(name) for name in STARTED) or os.environ["WORLD_SIZE"] == "1":
        return None
    return int(os.environ["RANK"])


class Meeting:
    """A place where all ranks of one start find what rank 0 told."""

    def __init__(self) -> None:
        from torch.distributed.distributed_c10d import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        store, self.rank, self.ranks = next(rendezvous("env://", timeout=REACH))
        # A start by torchrun may be one of several over the same store, where a rank was lost before.
        self._store = PrefixStore(f"puna/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)

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

        backend = "gloo" if device.chosen(asked) == device.CPU else "cpu:gloo,cuda:nccl"
        inside = PrefixStore("group", self._store)
        dist.init_process_group(backend, store=inside, rank=self.rank, world_size=self.ranks, timeout=FOREVER)
        try:
            mine = {"puna": __version__, "torch": torch.__version__, **alike}
            other = unlike(inside, self.rank, self.ranks, mine)
            dist.barrier()  # all have read: who holds the store may end
            if other:
                raise other if self.rank == 0 else ToldElsewhere(str(other))
            yield
        finally:
            dist.destroy_process_group()


def unlike(store: Any, rank: int, ranks: int, mine: Mapping[str, str]) -> InputError | None:
    """What each rank says of itself, told to all by a store of torch; the first in which one differs from rank 0."""
    store.set(f"alike/{rank}", json.dumps(dict(mine)))
    keys = [f"alike/{each}" for each in range(ranks)]
    store.wait(keys)
    first, *others = (json.loads(store.get(key)) for key in keys)
    for number, other in enumerate(others, 1):
        for name, value in first.items():
            if other.get(name) != value:
                what = f"rank {number} has {name} {other.get(name)}, and rank 0 {value}"
                mend = "install the same everywhere, with one run folder that all ranks see; puna doctor tells more"
                return InputError(what, where="torchrun", mend=mend)
    return None
