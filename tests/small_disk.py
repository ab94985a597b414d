"""A small disk for whole runs: a file system in memory that a test makes as large as it likes, and fills.

It is mounted in a namespace of its own, so that nothing of it is left behind; where namespaces are not allowed, the
test skips and says so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest


class Disk:
    """A small disk, and the tiny run into `run` on it. home: a folder that holds the recipe and its dumps."""

    def __init__(self, mount: Path, home: Path) -> None:
        self.mount, self._home = mount, home
        if not shutil.which("unshare") or not shutil.which("nsenter"):
            pytest.skip("no mount namespaces here: unshare and nsenter are not installed")
        (home / "shim.py").write_text(SHIM)
        mount.mkdir()
        user = [] if os.geteuid() == 0 else ["-r"]
        # It stays mounted until its standard input ends, by `close` or with the process that started it.
        script = f"mount -t tmpfs -o size=64m none '{mount}' && echo ready && exec cat"
        self._process = subprocess.Popen(
            ["unshare", *user, "-m", "sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        if self._process.stdout.readline() != "ready\n":
            pytest.skip(f"no mount namespace here: {self._process.communicate()[1].strip()}")
        entered = ["-U", "--preserve-credentials", "-m"] if user else ["-m"]
        self._enter = ["nsenter", "-t", str(self._process.pid), *entered]
        self.inside = Path(f"/proc/{self._process.pid}/root{mount}")  # the same folder, seen from outside

    def close(self) -> None:
        self._process.communicate()

    def resize(self, size: int) -> None:
        """size: bytes, rounded up to whole pages."""
        resized = ["mount", "-t", "tmpfs", "-o", f"remount,size={size}", "none", str(self.mount)]
        subprocess.run([*self._enter, *resized], check=True)

    def empty(self) -> None:
        for path in self.inside.iterdir():
            shutil.rmtree(path)

    def puna(self, *options: str, plan: Mapping[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
        """Run it; with a plan, by SHIM."""
        program = [str(self._home / "shim.py")] if plan else ["-m", "puna.cli"]
        run = ["run", str(self._home / "tiny.toml"), "--out", str(self.mount / "run")]
        return subprocess.run(
            [*self._enter, sys.executable, *program, *run, *options],
            env={**os.environ, "COLUMNS": "100", "PLAN": json.dumps({"disk": str(self.mount), **(plan or {})})},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )


# A `puna` that lists, step by step, what was foreseen and how much of the disk was used at every border; or fills that
# disk at the border that the plan names, as another process would. Spawned workers import it as __mp_main__.
SHIM = """
import json, os
from pathlib import Path
from puna import cli, space, storage

plan = json.loads(os.environ["PLAN"])
worker = __name__ == "__mp_main__"
step = os.environ.get("STEP", "")
check = space.check

def used():
    status = os.statvfs(plan["disk"])
    return (status.f_blocks - status.f_bfree) * status.f_frsize

def note(*values):
    with open(plan["list"], "a") as file:
        file.write(json.dumps(values) + "\\n")

def checked(folder, name, need, **options):
    note("foreseen", name, need.bytes, used())
    check(folder, name, need, **options)

def border(event, location):
    global step
    if event == "after rename" and location.endswith(".begun.json") and not worker:
        step = os.environ["STEP"] = Path(location).name.removesuffix(".begun.json")
    if "list" in plan:
        note("used", step, used())
    filler = Path(plan["disk"], "filler")
    if step and step == plan.get("step") and not filler.exists():
        if plan["like"] in f"{event} {location}":
            with filler.open("wb", buffering=0) as file:
                try:
                    while file.write(bytes(4096)):
                        pass
                except OSError:
                    pass

storage.border = border
if "list" in plan:
    space.check = checked
if __name__ == "__main__":
    cli.main()
"""
