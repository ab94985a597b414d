"""The process that the ranks of ranks.py are forked from, and what such a rank does.

It has loaded what they need, so that no rank does, and started no thread. On its standard input it takes `fork RANK
COUNT FOLDER PORT KEY` and `kill PID`, and answers each with a number: a pid, or the status of a process that has ended.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import pickle
import signal
import sys
import time
import traceback
from datetime import timedelta
from multiprocessing.connection import Client
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.fsdp
import torch.distributed.pipelining
import torch.distributed.tensor.parallel

import puna.parallel.pipeline
import puna.parallel.sharded
import puna.parallel.tensor
import puna.train.loop  # noqa: F401
from puna import recipe

GLOO = timedelta(seconds=120)  # for one collective, so that a rank that waits for another says so
DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


def serve() -> None:
    recipe.load("laptop")  # what checks recipes is built by the first one, which takes a second
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a rank prints is no answer
    statuses: dict[str, int] = {}
    for line in iter(sys.stdin.readline, ""):
        what, *arguments = line.split()
        if what == "kill":
            if arguments[0] not in statuses:
                os.kill(int(arguments[0]), signal.SIGKILL)
                statuses[arguments[0]] = os.waitstatus_to_exitcode(os.waitpid(int(arguments[0]), 0)[1])
            print(statuses[arguments[0]], file=answers, flush=True)
            continue
        server = os.getpid()
        pid = os.fork()
        if pid:
            statuses.pop(str(pid), None)  # numbers come again
            print(pid, file=answers, flush=True)
        else:
            answers.close()
            ctypes.CDLL(None).prctl(DIES_WITH_PARENT, signal.SIGKILL)
            if os.getppid() == server:
                _rank(*arguments)
            os._exit(1)


def _rank(rank: str, count: str, folder: str, port: str, key: str) -> None:
    """Join the group, then answer calls until the pipe is closed."""
    faulthandler.register(signal.SIGUSR1, file=(Path(folder) / f"stacks-{rank}").open("w"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests' process, which ends this one
    os.environ.update(RANK=rank, WORLD_SIZE=count, LOCAL_RANK=rank, LOCAL_WORLD_SIZE=count)
    torch.set_num_threads(1)
    with Client(("127.0.0.1", int(port)), authkey=bytes.fromhex(key)) as pipe:
        store = f"file://{folder}/store"
        dist.init_process_group("gloo", init_method=store, rank=int(rank), world_size=int(count), timeout=GLOO)
        while True:
            try:
                call = pipe.recv_bytes()
            except EOFError:
                return
            answer, error = None, ""
            try:
                function, arguments = pickle.loads(call)
                answer = function(*arguments)
            except BaseException:  # told in the tests' process
                error = traceback.format_exc()
            ended = time.monotonic()
            try:
                told = pickle.dumps((ended, error, answer))
            except Exception:
                told = pickle.dumps((ended, traceback.format_exc(), None))
            pipe.send_bytes(told)


if __name__ == "__main__":
    serve()
