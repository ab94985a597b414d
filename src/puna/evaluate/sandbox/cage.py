"""Runs one program where it can harm nothing. A script of its own for Python alone (-I -S): it imports nothing of Puna.

It reads a plan (JSON) from standard input, leaves all namespaces, builds a root of Python's own files, read only, and
an empty folder, and starts two processes: the first of the new process namespace, with whose end all end, and in it the
program. Verdicts go to the pipe `verdict`, each with the number that the plan names:

    NUMBER refused WHY      no cage could be made
    NUMBER started          all is in place; from here on what happens is the program's
    NUMBER passed           it ran to its end
    NUMBER failed WHY       it raised something
"""

import ctypes
import json
import os
import resource
import select
import signal
import sys
from collections.abc import Callable
from typing import Any

NEW_NS, NEW_CGROUP, NEW_UTS, NEW_IPC, NEW_USER, NEW_PID, NEW_NET = (
    0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
OTHERS = NEW_NS | NEW_CGROUP | NEW_UTS | NEW_IPC | NEW_PID | NEW_NET
NOBODY = 65534
NO_SUID, NO_DEVICES, NO_PROGRAMS, BIND, RECURSIVE, PRIVATE, DETACH = 2, 4, 8, 4096, 16384, 1 << 18, 2
READ_ONLY_TREE = 1 | NO_SUID | NO_DEVICES  # the same numbers in mount_setattr
SET_DEATH, DROP_BOUNDING, NO_NEW_RIGHTS, SET_SECCOMP = 1, 24, 38, 22
MOUNT_SETATTR, AT_CWD, AT_RECURSIVE = 442, -100, 0x8000
CAPSET = {"x86_64": 126, "aarch64": 91}
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
INODES = 4096  # files and folders in /scratch: an empty one has no size, and takes memory all the same
LONGEST = 500  # characters of what an error says

libc = ctypes.CDLL(None, use_errno=True)
machine = os.uname().machine


def main() -> None:
    plan = json.load(sys.stdin)
    tell = _teller(plan["verdict"], plan["number"])
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
        # The first process of a namespace takes no signal from within, so it is not the program.
        program = os.fork()
    except OSError as error:
        tell(f"refused {error.filename or 'a process'}: {error.strerror}")
        os._exit(1)
    if program:
        while os.wait()[0] != program:
            pass
        os._exit(0)
    os.close(alive)
    tell("started")
    _run(plan, tell)


def _teller(verdict: int, number: str) -> Callable[[str], None]:
    write, encode = os.write, str.encode

    def tell(what: str) -> None:
        write(verdict, encode(f"{number} {what}\n", "utf-8", "backslashreplace"))

    return tell


def _run(plan: dict[str, Any], tell: Callable[[str], None]) -> None:
    """The program, in this interpreter. What is used after it was looked up before it."""
    leave, kind, text, length = os._exit, type, str, LONGEST
    try:
        # The filter is laid here, as it withholds fork from this process too.
        _filter(bytes.fromhex(plan["filter"]))
        exec(compile(plan.pop("program"), "program.py", "exec"), {"__name__": "__main__"})
        tell("passed")
    except BaseException as error:
        try:
            said = text(error).partition("\n")[0][:length]
        except BaseException:
            said = ""
        tell(f"failed {kind(error).__name__[:100]}: {said}")
    finally:
        leave(0)


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
    """A root that holds plan["folders"], read only, and /scratch, which is empty and bounded."""
    root = plan["root"]
    _mount(None, "/", None, RECURSIVE | PRIVATE)
    _mount("tmpfs", root, "tmpfs", NO_SUID | NO_DEVICES, "size=1m,mode=755")
    for path in plan["folders"]:
        os.makedirs(root + path)
        _mount(path, root + path, None, BIND | RECURSIVE)
        _seal(root + path, AT_RECURSIVE)
    for path, target in plan["links"].items():
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        os.symlink(target, root + path)
    os.makedirs(root + "/scratch")
    bounds = f"size={plan['files']},nr_inodes={INODES},mode=777"
    _mount("tmpfs", root + "/scratch", "tmpfs", NO_SUID | NO_DEVICES | NO_PROGRAMS, bounds)
    _seal(root, 0)
    os.chdir(root)
    _call("pivot_root", libc.syscall, PIVOT_ROOT[machine], b".", b".")
    _call("leaving the old root", libc.umount2, b".", DETACH)
    os.chdir("/scratch")


def _become_nobody() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    _call("a user namespace", libc.unshare, NEW_USER)


def _withhold(plan: dict[str, Any]) -> None:
    """Limits, and no rights ever again."""
    most_of = {"AS": plan["memory"], "FSIZE": plan["files"], "CPU": int(plan["seconds"]) + 1, "NOFILE": 64, "CORE": 0}
    for name, most in (most_of | {"NPROC": plan["threads"] + 2}).items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))
    for right in range(64):
        if libc.prctl(DROP_BOUNDING, right, 0, 0, 0):
            break  # the last that this kernel knows
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    _call("capset", libc.syscall, CAPSET[machine], header, none)
    _call("no new rights", libc.prctl, NO_NEW_RIGHTS, 1, 0, 0, 0)


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


if __name__ == "__main__":
    main()
