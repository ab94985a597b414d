"""The system calls that a program in a cage may not make, as a filter that Linux runs (seccomp, mode 2).

All that begins a process or another program, opens a network, looks into other processes, takes memory that is no
process's, or changes mounts, namespaces, keys, modules or clocks is refused: a program sees that it may not, and ends
with an error of its own. Threads may be begun. A list of what is withheld and not of what is allowed, since Python
needs some hundred calls that differ between versions; the namespaces and the lack of rights hold without it.
"""

from __future__ import annotations

import errno
import platform
import struct

ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000, 0x80000000
LOAD, EQUAL, ABOVE, BITS, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF: ld [k], jeq, jge, jset, ret
CLONE_THREAD = 0x10000
AT_NUMBER, AT_MACHINE, AT_FIRST = 0, 4, 16  # in struct seccomp_data; of the first argument the lower half

# name: number on x86_64, on aarch64 (None: there is no such call)
NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "mount_setattr": (442, 442),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsmount": (432, 432),
    "fspick": (433, 433),
    "unshare": (272, 97), "setns": (308, 268), "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
    "sethostname": (170, 161), "setdomainname": (171, 162), "personality": (135, 92), "quotactl": (179, 60),
    # Memory that no limit of a process counts: it stays where nothing is mapped.
    "shmget": (29, 194), "shmat": (30, 196), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "syslog": (103, 116), "prlimit64": (302, 261), "setrlimit": (160, 164),
}  # fmt: skip
CLONE = (56, 220)
CLONE3 = 435
MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
OTHER_NUMBERS = 0x40000000  # from here on x86_64 has the calls of its 32-bit form


def filtered(machine: str = "") -> bytes | None:
    """The filter as an array of struct sock_filter; None for a machine whose numbers are not known here."""
    known = MACHINES.get(machine or platform.machine())
    if known is None:
        return None
    audit, column = known
    refused = sorted(number for pair in NUMBERS.values() if (number := pair[column]) is not None)
    steps = [
        _step(LOAD, AT_MACHINE),
        _step(EQUAL, audit, yes=1),
        _step(RETURN, KILL),
        _step(LOAD, AT_NUMBER),
        _step(ABOVE, OTHER_NUMBERS, no=1),
        _step(RETURN, KILL),
        # glibc begins a thread by clone3 and, where there is none, by clone, whose flags a filter can see.
        _step(EQUAL, CLONE3, no=1),
        _step(RETURN, REFUSE | errno.ENOSYS),
        _step(EQUAL, CLONE[column], no=4),
        _step(LOAD, AT_FIRST),
        _step(BITS, CLONE_THREAD, yes=1),
        _step(RETURN, REFUSE | errno.EPERM),
        _step(RETURN, ALLOW),
    ]
    for number in refused:
        steps += [_step(EQUAL, number, no=1), _step(RETURN, REFUSE | errno.EPERM)]
    return b"".join([*steps, _step(RETURN, ALLOW)])


def _step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)
