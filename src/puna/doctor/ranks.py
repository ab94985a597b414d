"""The ranks of a training on many machines: whether all meet, are alike, see one run folder, and how fast they speak.

`torchrun ... -m puna doctor`, started as the training is going to be, runs doctor on every rank. Each host looks at
itself; then all ranks meet (ranks_meet.py), and rank 0 alone tells what was found.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from puna.doctor.ask import Answer
from puna.doctor.finding import Finding
from puna.doctor.ranks_meet import BYTES
from puna.parallel import meeting

MEETING = 60.0  # seconds in which all ranks must be there
MEASURING = 90.0  # seconds for the rest
CLOCKS = 1.0  # seconds by which clocks may differ before files seem to come from the future


def first() -> bool:
    """Whether this rank tells what was found."""
    return meeting.rank() == 0


def looks() -> bool:
    """Whether this rank looks at its host: one of each does."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def arguments(folder: str, found: Sequence[Finding]) -> list[str]:
    """What ranks_meet.py is given: the folder where runs go, and what this host lacks."""
    wrong = [asdict(each) for each in found if each.state in ("warning", "error")]
    return [folder, json.dumps(wrong), str(MEETING)]


def alone(answer: Answer) -> list[Finding]:
    """What a rank other than the first has to say itself: nothing, unless it did not reach the others."""
    if not answer.problem:
        return []
    where = f"rank {meeting.rank()}"
    return [Finding("ranks", "error", f"{where}: {answer.problem}", _reach())]


def together(answer: Answer, own: Sequence[Finding]) -> list[Finding]:
    """What rank 0 printed in ranks_meet.py, judged. own: the findings of its host, which are not told twice."""
    told = answer.last_json()
    if answer.problem or not isinstance(told, dict):
        return [Finding("ranks", "error", f"they could not meet: {answer.problem or 'nothing was said'}", _reach())]
    here, missing = told["here"], told["missing"]
    hosts = Counter(each["host"] for each in here)
    if missing:
        what = (
            f"{len(here)} of {told['ranks']} came within {MEETING:g} s, on {_listed(hosts)}; missing: {_few(missing)}"
        )
        return [Finding("ranks", "error", what, _reach()), *_of_hosts(here, own)]
    return [
        Finding("ranks", "ok", f"{told['ranks']} met, on {_listed(hosts)}"),
        *_alike(here),
        *_clocks(here, told["found"]),
        *_folder(here, told["found"]),
        *_speed(told["found"], len(hosts)),
        *_of_hosts(here, own),
    ]


def _alike(here: Sequence[Mapping[str, Any]]) -> list[Finding]:
    findings = []
    for what, state, mend in (
        ("versions", "error", "install the same everywhere: one container image is the simplest way"),
        ("machine", "warning", "use machines of one kind: a step takes as long as the slowest, and its bits differ"),
    ):
        differing = []
        for name in here[0][what]:
            by_value = defaultdict(set)
            for each in here:
                by_value[each[what][name]].add(each["host"])
            if len(by_value) > 1:
                differing.append(
                    f"{name} " + ", ".join(f"{value} on {_few(sorted(on))}" for value, on in by_value.items())
                )
        name = f"ranks' {what}"
        if differing:
            findings.append(Finding(name, state, "; ".join(differing), mend))  # type: ignore[arg-type]
        else:
            same = ", ".join(f"{name} {value}" for name, value in here[0][what].items())
            findings.append(Finding(name, "ok", same))
    return findings


def _clocks(here: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """A barrier is left by all within moments; of several the nearest counts."""
    offsets = [
        min((other - first for other, first in zip(each["clocks"], found[0]["clocks"], strict=True)), key=abs)
        for each in found
    ]
    apart = max(offsets) - min(offsets)
    if apart > CLOCKS:
        worst = max(range(len(offsets)), key=lambda rank: abs(offsets[rank]))
        what = f"up to {apart:.1f} s apart; that of {here[worst]['host']} is {offsets[worst]:+.1f} s from rank 0's"
        return [
            Finding(
                "ranks' clocks", "warning", what, "let NTP or chrony set them: files seem to change too late or early"
            )
        ]
    return [
        Finding("ranks' clocks", "ok", f"at most {max(apart, 0.001) * 1000:.0f} ms apart, as far as a barrier tells")
    ]


def _folder(here: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]) -> list[Finding]:
    blind = sorted({one["host"] for one, each in zip(here, found, strict=True) if not each["sees"]})
    if blind:
        what = f"what rank 0 makes where runs go is not seen on {_few(blind)}"
        return [
            Finding(
                "run folder",
                "error",
                what,
                "mount one file system at the same path on all hosts, and name it with --out",
            )
        ]
    return [Finding("run folder", "ok", "what rank 0 makes there is seen by all")]


def _speed(found: Sequence[Mapping[str, Any]], hosts: int) -> list[Finding]:
    """The bus bandwidth of a sum, 2 (n - 1) / n x bytes / seconds: what a link carries, for any number of ranks."""
    findings = []
    ranks = len(found)
    for backend in ("gloo", "nccl"):
        if not all(backend in each for each in found):
            continue
        seconds = max(each[backend] for each in found)
        rate = 2 * (ranks - 1) / ranks * BYTES / seconds
        across = f" over {hosts} hosts" if hosts > 1 else " within a host"
        what = f"{BYTES // 1_000_000} MB are summed in {seconds * 1000:.0f} ms{across}: {rate / 1e9:.2f} GB/s a link"
        findings.append(Finding(f"{backend} bandwidth", "ok", what))
    if not any("nccl" in each for each in found):
        what = "no rank has a GPU of its own with NCCL: sums go through gloo, on the processors"
        mend = "for GPUs: a CUDA build of torch (TORCH=), and no more ranks a host than it has GPUs"
        findings.append(Finding("nccl", "note", what, mend))
    return findings


def _of_hosts(here: Sequence[Mapping[str, Any]], own: Sequence[Finding]) -> list[Finding]:
    """What other hosts found wrong with themselves, with the hosts."""
    known = {(each.name, each.what) for each in own}
    hosts: dict[tuple[str, str, str, str], list[str]] = defaultdict(list)
    for rank in here:
        for each in rank["wrong"]:
            if (each["name"], each["what"]) not in known:
                hosts[each["name"], each["state"], each["what"], each["mend"]].append(rank["host"])
    return [
        Finding(f"{name} on {_few(sorted(set(on)))}", state, what, mend)  # type: ignore[arg-type]
        for (name, state, what, mend), on in hosts.items()
    ]


def _reach() -> str:
    address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    return f"see that every host reaches {address}, and that each starts the same --nnodes and --nproc-per-node"


def _listed(hosts: Mapping[str, int]) -> str:
    return _few([f"{host} ({count})" for host, count in hosts.items()])


def _few(values: Sequence[object]) -> str:
    shown = ", ".join(str(value) for value in values[:8])
    return shown if len(values) <= 8 else f"{shown} and {len(values) - 8} more"
