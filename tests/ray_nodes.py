"""A Ray cluster of three nodes on this machine, and ways to have what it works on killed at one exact moment.

The head has no CPU, so that what the driver hangs on does no task; the two other nodes have one each. Python processes
of the cluster import `sitecustomize` from a folder that is written here: it puts a border into Puna's storage that
kills, once, whom the plan names, before the n-th rename whose target holds a text.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

HANGS = 600  # seconds after which a process counts as hanging; a busy machine takes ten times as long as an idle one
STORE = 80_000_000  # bytes of memory that the objects of a node may take

SITE = """
import sys
if "default_worker.py" in " ".join(sys.orig_argv):
    import json, os, signal
    from pathlib import Path
    from puna import storage

    PLAN = Path(__file__).with_name("plan.json")

    def border(event, location):
        plan = json.loads(PLAN.read_text() or "{}") if PLAN.exists() else {}
        if plan and event == plan["event"] and plan["like"] in location:
            try:
                os.close(os.open(PLAN.with_name("met"), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            except FileExistsError:
                return
            PLAN.with_name("met").write_text(str(os.getpid()))
            whom = {"worker": os.getpid(), "node": os.getppid()}.get(plan["whom"])
            if whom is None:
                whom = json.loads(Path(plan["lock"]).read_text())["pid"]
            os.kill(whom, signal.SIGKILL)

    storage.border = border
"""

NODES = """
import sys
from ray.cluster_utils import Cluster

store = int(sys.argv[1])
cluster = Cluster(
    initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": store, "include_dashboard": False}
)
nodes = [cluster.add_node(num_cpus=1, object_store_memory=store) for _ in range(2)]
cluster.wait_for_nodes()
print(cluster.address, flush=True)
for line in sys.stdin:
    cluster.add_node(num_cpus=1, object_store_memory=store)
    print("added", flush=True)
cluster.shutdown()
"""


@dataclass(frozen=True)
class Nodes:
    """A running cluster."""

    address: str
    site: Path
    process: subprocess.Popen[str]

    @property
    def path(self) -> str:
        """What PYTHONPATH is for the nodes."""
        return _path(self.site)

    def plan(self, whom: str, like: str, run: Path) -> None:
        """Have `whom` (worker, node or driver) killed before a worker renames a file whose path holds `like`."""
        (self.site / "met").unlink(missing_ok=True)
        value = {"whom": whom, "event": "before rename", "like": like, "lock": str(run / "run.lock")}
        (self.site / "plan.json").write_text(json.dumps(value))

    def met(self) -> int:
        """The number of the worker process that met the plan, which is then gone."""
        number = int((self.site / "met").read_text())
        (self.site / "plan.json").unlink()
        return number

    def add(self) -> None:
        """Start a node in the place of one that was killed."""
        assert self.process.stdin
        assert self.process.stdout
        print(file=self.process.stdin, flush=True)
        assert self.process.stdout.readline().strip() == "added"


@contextmanager
def running() -> Iterator[Nodes]:
    """Start the cluster, and end it with the block. Skips where Ray is not installed."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'puna[ray]'")
    with tempfile.TemporaryDirectory() as name:
        site = Path(name)
        (site / "sitecustomize.py").write_text(SITE)
        environment = {**os.environ, "PYTHONPATH": _path(site), "RAY_USAGE_STATS_ENABLED": "0"}
        command = [sys.executable, "-c", NODES, str(STORE)]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        ) as process:
            assert process.stdin
            assert process.stdout
            address = process.stdout.readline().strip()
            assert address, f"the cluster ended with status {process.wait()}"
            try:
                yield Nodes(address, site, process)
            finally:
                process.stdin.close()
                process.wait(HANGS)


def _path(site: Path) -> str:
    return os.pathsep.join([str(site), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
