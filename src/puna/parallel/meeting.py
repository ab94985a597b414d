"""The ranks that torchrun started as they meet: rank 0 does the whole command, the others its training alone.

Rank 0 holds the run's lock, makes what is missing before training, and tells the others when it trains and with what;
they wait for that and end behind it. What is told goes over the store by which torch's ranks find each other. Torch is
loaded where ranks are, and not by a command that is alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

STARTED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
REACH = timedelta(minutes=10)  # for the store; who does not come in that time does not come
LOOKS = timedelta(seconds=60)  # for one look at what was told
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
        from torch.distributed import DistStoreError

        while True:
            for name in names:
                with suppress(DistStoreError):
                    self._store.wait([name], LOOKS / len(names))
                    return name, json.loads(self._store.get(name))

    @contextmanager
    def group(self) -> Iterator[None]:
        """Torch's process group of all ranks, while the block lasts. Small things go over gloo, those of a GPU over
        NCCL."""
        import torch
        import torch.distributed as dist
        from torch.distributed.distributed_c10d import PrefixStore

        cuda = torch.cuda.is_available()
        if cuda:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS gives other bits each time
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        inside = PrefixStore("group", self._store)
        dist.init_process_group(backend, store=inside, rank=self.rank, world_size=self.ranks, timeout=FOREVER)
        try:
            yield
        finally:
            dist.destroy_process_group()
