"""Runs one program where it can harm nothing: in a Python that has of Puna this folder alone (running.py).

It reads a plan (JSON, with its length before it) from standard input, leaves all namespaces, builds a root of Python's
own files, read only, and an empty folder, and starts two processes, with limits and without rights: the first of the
new process namespace, which runs the tests (proxies.py), and its child, which runs the solution (serving.py). The child
is there before the rest of the input is read, so it has neither the tests nor the number; of the pipes it has its own
two. The first takes no signal from within its namespace, can be neither traced nor looked into, and all ends with it.
Verdicts go to the pipe `verdict`, a line each:

    refused WHY             no cage could be made
    started                 all is in place; from here on what happens is the program's
    NUMBER passed           the tests ran to their end
    NUMBER failed WHY       they raised something, or the solution did
    NUMBER ended WHY        the solution ended, or said what is no answer
"""

import ctypes
import json
import os
import resource
import select
import signal
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from puna.evaluate.sandbox.proxies import Solution
from puna.evaluate.sandbox.serving import serve

NEW_NS, NEW_CGROUP, NEW_UTS, NEW_IPC, NEW_USER, NEW_PID, NEW_NET = (
    0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
OTHERS = NEW_NS | NEW_CGROUP | NEW_UTS | NEW_IPC | NEW_PID | NEW_NET
NOBODY = 65534
NO_SUID, NO_DEVICES, NO_PROGRAMS, BIND, RECURSIVE, PRIVATE, DETACH = 2, 4, 8, 4096, 16384, 1 << 18, 2
READ_ONLY_TREE = 1 | NO_SUID | NO_DEVICES  # the same numbers in mount_setattr
SET_DEATH, SET_DUMPABLE, DROP_BOUNDING, NO_NEW_RIGHTS, SET_SECCOMP = 1, 4, 24, 38, 22
MOUNT_SETATTR, AT_CWD, AT_RECURSIVE = 442, -100, 0x8000
CAPSET = {"x86_64": 126, "aarch64": 91}
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
INODES = 4096  # files and folders in the empty folder: an empty one has no size, and takes memory all the same
FILES = 64  # open at a time
LONGEST = 500  # characters of what an error says

libc = ctypes.CDLL(None, use_errno=True)
machine = os.uname().machine


def main() -> None:
    (size,) = struct.unpack("<I", _read(4))
    plan = json.loads(_read(size))
    verdict = plan["verdict"]
    try:
        root = os.geteuid() == 0
        _leave(root)
        _dies_with_parent()
        if os.getppid() != plan["parent"]:
            return
        _build(plan)
        alive, here = os.pipe()
        first = os.fork()
        if first:
            os.waitpid(first, 0)
            return
        os.close(here)
        if root:
            _become_nobody()
        _withhold(plan)
        _dies_with_parent()
        if select.select([alive], [], [], 0)[0]:  # it died before this one would be told
            os._exit(1)
        os.close(alive)
        reads, answers = os.pipe()
        asked, writes = os.pipe()
        solution = os.fork()
        if not solution:
            _only(asked, answers)
        # The filter is laid here, as it withholds fork, too.
        _filter(bytes.fromhex(plan["filter"]))
    except OSError as error:
        os.write(verdict, f"refused {error.filename or 'a process'}: {error.strerror}\n".encode())
        os._exit(1)
    if not solution:
        serve(asked, answers, plan["solution"])
    os.close(asked)
    os.close(answers)
    os.write(verdict, b"started\n")
    _test(reads, writes, verdict)


def _test(reads: int, writes: int, verdict: int) -> NoReturn:
    """Runs the tests, and says how they went."""
    told = json.loads(_read())

    def tell(what: str) -> NoReturn:
        os.write(verdict, f"{told['number']} {what}\n".encode("utf-8", "backslashreplace"))
        os._exit(0)

    solution = Solution(reads, writes, lambda why: tell(f"ended {_line(why)}"))
    names: dict[str, Any] = {"__name__": "__main__"}
    try:
        exec(compile(told["lead"], "lead.py", "exec"), names)
        names |= solution.begin(told["names"])
        exec(compile(told["tests"], "tests.py", "exec"), names)
    except BaseException as error:
        tell(f"failed {type(error).__name__}: {_line(str(error))}")
    solution.end()
    tell("passed")


def _only(*files: int) -> None:
    """Of the open files, output and these stay, and an input that is empty."""
    empty, end = os.pipe()
    os.dup2(empty, 0)
    os.close(end)
    for file in range(3, FILES):
        if file not in files:
            with suppress(OSError):
                os.close(file)


def _read(size: int | None = None) -> bytes:
    """So many bytes of standard input, or all that are left; a byte more is not in this process."""
    parts = b""
    while (size is None or len(parts) < size) and (read := os.read(0, 65536 if size is None else size - len(parts))):
        parts += read
    return parts


def _line(text: str) -> str:
    return text.partition("\n")[0][:LONGEST]


def _leave(root: bool) -> None:
    """Into namespaces of one's own. An administrator makes them as such and gives the rights up later: what lies in his
    folders could not be bound otherwise."""
    user, group = os.geteuid(), os.getegid()
    _call("leaving the namespaces", libc.unshare, OTHERS if root else OTHERS | NEW_USER)
    if not root:
        maps = {"setgroups": "deny", "uid_map": f"{NOBODY} {user} 1", "gid_map": f"{NOBODY} {group} 1"}
        for name, value in maps.items():
            with open(f"/proc/self/{name}", "w") as file:
                file.write(value)


def _build(plan: dict[str, Any]) -> None:
    """A root that holds plan["folders"], read only, and plan["scratch"], which is empty and bounded."""
    root, scratch = plan["root"], plan["scratch"]
    _mount(None, "/", None, RECURSIVE | PRIVATE)
    _mount("tmpfs", root, "tmpfs", NO_SUID | NO_DEVICES, "size=1m,mode=755")
    for path in plan["folders"]:
        os.makedirs(root + path)
        _mount(path, root + path, None, BIND | RECURSIVE)
        _seal(root + path, AT_RECURSIVE)
    for path, target in plan["links"].items():
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        os.symlink(target, root + path)
    os.makedirs(root + scratch)
    bounds = f"size={plan['files']},nr_inodes={INODES},mode=777"
    _mount("tmpfs", root + scratch, "tmpfs", NO_SUID | NO_DEVICES | NO_PROGRAMS, bounds)
    _seal(root, 0)
    os.chdir(root)
    _call("pivot_root", libc.syscall, PIVOT_ROOT[machine], b".", b".")
    _call("leaving the old root", libc.umount2, b".", DETACH)
    os.chdir(scratch)


def _become_nobody() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    _call("a user namespace", libc.unshare, NEW_USER)


def _withhold(plan: dict[str, Any]) -> None:
    """Limits, and no rights ever again."""
    most_of = {"AS": plan["memory"], "FSIZE": plan["files"], "CPU": int(plan["seconds"]) + 1, "CORE": 0}
    for name, most in (most_of | {"NOFILE": FILES, "NPROC": plan["threads"] + 2}).items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))
    for right in range(64):
        if libc.prctl(DROP_BOUNDING, right, 0, 0, 0):
            break  # the last that this kernel knows
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    _call("capset", libc.syscall, CAPSET[machine], header, none)
    _call("no new rights", libc.prctl, NO_NEW_RIGHTS, 1, 0, 0, 0)
    # Nobody may trace it, look into its memory or its files; and no signal has a handler, so none from within is taken.
    _call("not dumpable", libc.prctl, SET_DUMPABLE, 0, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _filter(program: bytes) -> None:
    class Filter(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    laid = Filter(len(program) // 8, program)
    _call("seccomp", libc.prctl, SET_SECCOMP, 2, ctypes.byref(laid), 0, 0)


def _dies_with_parent() -> None:
    """This process ends when the one that began it does. Forgotten by Linux when rights or the user change."""
    _call("prctl", libc.prctl, SET_DEATH, signal.SIGKILL, 0, 0, 0)


def _seal(path: str, flags: int) -> None:
    class Attributes(ctypes.Structure):
        _fields_ = tuple((name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "namespace"))

    wanted = Attributes(READ_ONLY_TREE if flags else 1, 0, 0, 0)
    _call(path, libc.syscall, MOUNT_SETATTR, AT_CWD, path.encode(), flags, ctypes.byref(wanted), ctypes.c_size_t(32))


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    words = [None if each is None else each.encode() for each in (source, target, kind, data)]
    _call(target, libc.mount, *words[:3], ctypes.c_ulong(flags), words[3])


def _call(what: str, function: Callable[..., int], *arguments: object) -> None:
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
