"""Run as a program by every rank that torchrun started: meet the others, measure, and on rank 0 print what came of it.

In a process of its own, since a network that is not as it should be makes calls that never come back. Arguments: the
module path, the folder where runs go, what is wrong on this host by itself (JSON, not looked at here), and the seconds
in which all must be there. What ranks tell each other goes through torchrun's own store as JSON; tensors go through
gloo, and through NCCL where each rank of a host has a GPU of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.distributed.distributed_c10d import Store

BYTES = 16_000_000  # of each sum whose time is taken
ROUNDS = 5
SEEN = 10.0  # seconds in which a file must be seen by every host


def main() -> None:
    sys.path[:] = json.loads(sys.argv[1])
    folder, wrong, seconds = Path(sys.argv[2]), json.loads(sys.argv[3]), float(sys.argv[4])
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = _store(rank, seconds)
    store.set(f"here/{rank}", json.dumps(_itself() | {"wrong": wrong}))
    if rank == 0:
        missing = _missing(store, ranks, seconds)
        store.set("missing", json.dumps(missing))
        if missing:
            here = [_told(store, f"here/{each}") for each in range(ranks) if each not in missing]
            print(json.dumps({"ranks": ranks, "missing": missing, "here": here}))
            return
    if _told(store, "missing", seconds):
        return
    store.set(f"found/{rank}", json.dumps(_measured(store, rank, ranks, folder)))
    if rank == 0:
        here = [_told(store, f"here/{each}") for each in range(ranks)]
        found = [_told(store, f"found/{each}", seconds) for each in range(ranks)]
        print(json.dumps({"ranks": ranks, "missing": [], "here": here, "found": found}))
        store.set("told", "1")
    store.wait(["told"], timedelta(seconds=seconds))
    store.set(f"left/{rank}", "1")
    if rank == 0:  # the store lives in this process where torchrun has none of its own, and others still read from it
        with contextlib.suppress(RuntimeError):
            store.wait([f"left/{each}" for each in range(ranks)], timedelta(seconds=SEEN))


def _store(rank: int, seconds: float) -> Store:
    """Torchrun's own store, or where it has none (srun) one that rank 0 keeps and does not wait for late ones in."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]
    from torch.distributed.distributed_c10d import PrefixStore

    kept = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    host, port, limit = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timedelta(seconds=seconds)
    return PrefixStore("doctor", TCPStore(host, port, is_master=kept, timeout=limit, wait_for_workers=False))


def _itself() -> dict[str, Any]:
    """What must be the same for all ranks, and where this one is."""
    import numpy
    import torch

    import puna

    return {
        "rank": int(os.environ["RANK"]),
        "host": socket.gethostname(),
        "versions": {
            "python": platform.python_version(),
            "puna": puna.__version__,
            "torch": torch.__version__,
            "numpy": numpy.__version__,
        },
        "machine": {
            "processor": platform.machine(),
            "kernels": torch.backends.cpu.get_cpu_capability(),
            "GPU": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
        },
    }


def _missing(store: Store, ranks: int, seconds: float) -> list[int]:
    """Ranks that did not come in time."""
    end = time.monotonic() + seconds
    left = list(range(ranks))
    while left and time.monotonic() < end:
        left = [rank for rank in left if not store.check([f"here/{rank}"])]
        time.sleep(0.05 if left else 0)
    return left


def _told(store: Store, key: str, seconds: float = 10.0) -> Any:
    store.wait([key], timedelta(seconds=seconds))
    return json.loads(store.get(key))


def _measured(store: Store, rank: int, ranks: int, folder: Path) -> dict[str, Any]:
    import torch
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore

    limit = timedelta(seconds=60)
    dist.init_process_group("gloo", store=PrefixStore("group", store), rank=rank, world_size=ranks, timeout=limit)
    found: dict[str, Any] = {"clocks": _clocks(), "sees": _sees(store, rank, folder)}
    found["gloo"] = _seconds(torch.ones(BYTES // 4), None, lambda: None)
    locals_, local = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    if dist.is_nccl_available() and torch.cuda.device_count() >= locals_:
        torch.cuda.set_device(local)
        group = dist.new_group(backend="nccl", timeout=limit)
        found["nccl"] = _seconds(torch.ones(BYTES // 4, device="cuda"), group, torch.cuda.synchronize)
    dist.barrier()
    dist.destroy_process_group()
    return found


def _clocks() -> list[float]:
    """The time of day behind each of some barriers, which all ranks leave nearly at once."""
    import torch.distributed as dist

    times = []
    for _ in range(ROUNDS):
        dist.barrier()
        times.append(time.time())
    return times


def _sees(store: Store, rank: int, folder: Path) -> bool:
    """Whether a file that rank 0 makes in the folder, or in the nearest one above it that is there, is seen here."""
    import torch.distributed as dist

    if rank == 0:
        above = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=above) as made:
            store.set("made", json.dumps(made))
            dist.barrier()
        return True
    path = Path(_told(store, "made", SEEN))
    end = time.monotonic() + SEEN
    seen = False
    while not seen and time.monotonic() < end:
        # A listing asks a network file system anew where a mere look-up may be answered from what was not there before.
        with contextlib.suppress(OSError):
            seen = path in path.parent.iterdir()
        time.sleep(0 if seen else 0.1)
    dist.barrier()
    return seen


def _seconds(tensor: Any, group: ProcessGroup | None, finished: Callable[[], object]) -> float:
    """Seconds of a sum over all ranks, the best of some."""
    import torch.distributed as dist

    times = []
    for _ in range(ROUNDS):
        dist.barrier()
        began = time.perf_counter()
        dist.all_reduce(tensor, group=group)
        finished()
        times.append(time.perf_counter() - began)
    return min(times[1:])


if __name__ == "__main__":
    main()
