"""`puna doctor` under torchrun: ranks that do not come, differ, or do not see one folder are named, with the mend."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from doctor_findings import one
from puna.doctor import ranks
from puna.doctor.ask import Answer, Question, python
from puna.doctor.finding import Finding

VERSIONS = {"python": "3.12.1", "puna": "0.1.0", "torch": "2.13.0", "numpy": "2.4.0"}
MACHINE = {"processor": "x86_64", "kernels": "AVX2", "GPU": "none"}


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "alpha", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)


def _rank(number: int, host: str, **changed: Any) -> dict[str, Any]:
    return {"rank": number, "host": host, "versions": VERSIONS, "machine": MACHINE, "wrong": []} | changed


def _found(**changed: Any) -> dict[str, Any]:
    return {"clocks": [100.0, 200.0], "sees": True, "gloo": 0.016} | changed


def _together(*pairs: tuple[dict[str, Any], dict[str, Any]], own: tuple[Finding, ...] = ()) -> list[Finding]:
    told = {"ranks": len(pairs), "missing": [], "here": [a for a, _ in pairs], "found": [b for _, b in pairs]}
    return ranks.together(Answer(json.dumps(told)), own)


def _named(findings: list[Finding], name: str) -> Finding:
    return one([finding for finding in findings if finding.name == name])


ALPHA, BETA = (_rank(0, "alpha"), _found()), (_rank(1, "beta"), _found())


def test_ranks_that_are_alike_are_well() -> None:
    findings = _together(ALPHA, BETA)
    assert _named(findings, "ranks").what == "2 met, on alpha (1), beta (1)"
    # 16 MB over two ranks: each link carries 2 (2 - 1) / 2 of it.
    assert "summed in 16 ms over 2 hosts: 1.00 GB/s" in _named(findings, "gloo bandwidth").what
    assert {finding.name for finding in findings if finding.state != "ok"} == {"nccl"}


def test_ranks_that_did_not_come_are_counted_and_the_address_is_named() -> None:
    answer = Answer(json.dumps({"ranks": 4, "missing": [2, 3], "here": [ALPHA[0], BETA[0]]}))
    finding = ranks.together(answer, [])[0]
    assert finding.state == "error"
    assert "2 of 4" in finding.what
    assert "missing: 2, 3" in finding.what
    assert "alpha:29500" in finding.mend


def test_other_versions_are_an_error_and_name_their_hosts() -> None:
    other = _rank(1, "beta", versions=VERSIONS | {"torch": "2.12.0"})
    finding = _named(_together(ALPHA, (other, _found())), "ranks' versions")
    assert (finding.state, finding.what) == ("error", "torch 2.13.0 on alpha, 2.12.0 on beta")


def test_another_kind_of_machine_is_a_warning() -> None:
    other = _rank(1, "beta", machine=MACHINE | {"kernels": "AVX512"})
    finding = _named(_together(ALPHA, (other, _found())), "ranks' machine")
    assert (finding.state, finding.what) == ("warning", "kernels AVX2 on alpha, AVX512 on beta")


@pytest.mark.parametrize(("clocks", "state"), [([100.4, 207.0], "ok"), ([97.0, 195.0], "warning")])
def test_clocks_are_judged_by_the_barrier_at_which_they_were_nearest(clocks: list[float], state: str) -> None:
    finding = _named(_together(ALPHA, (BETA[0], _found(clocks=clocks))), "ranks' clocks")
    assert finding.state == state
    assert ("beta is -3.0 s" in finding.what) == (state == "warning")


def test_a_host_that_does_not_see_the_run_folder_is_named() -> None:
    finding = _named(_together(ALPHA, (BETA[0], _found(sees=False))), "run folder")
    assert finding.state == "error"
    assert finding.what.endswith("on beta")


def test_what_another_host_lacks_is_told_with_its_name_and_once() -> None:
    lack = {"name": "memory", "state": "warning", "what": "1 GB", "mend": "more"}
    here = [(_rank(n, "beta", wrong=[lack]), _found()) for n in (1, 2)]
    assert _named(_together(ALPHA, *here), "memory on beta") == Finding("memory on beta", "warning", "1 GB", "more")
    known = Finding("memory", "warning", "1 GB", "more")
    assert not [finding for finding in _together(ALPHA, *here, own=(known,)) if "beta" in finding.name]


def test_ranks_that_could_not_meet_are_an_error_of_each() -> None:
    late = Answer("", "did not answer within 150 s")
    assert one(ranks.together(late, [])).state == "error"
    assert one(ranks.alone(late)).what == "rank 0: did not answer within 150 s"
    assert ranks.alone(Answer("")) == []


def _meet(folder: Path, count: int, of: int, seconds: float) -> list[Answer]:
    """What ranks 0 to count - 1 of `of` print when they meet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    questions = []
    try:
        for rank in range(count):
            os.environ |= {
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(of), "RANK": str(rank)
            }  # fmt: skip
            questions.append(Question(python("ranks_meet.py", str(folder), "[]", str(seconds)), 60))
        return [question.answer() for question in questions]
    finally:
        for question in questions:
            question.__exit__(None, None, None)


def test_real_ranks_meet_and_leave_nothing(tmp_path: Path) -> None:
    first, second = _meet(tmp_path / "runs", 2, 2, 60)
    assert (first.problem, second.problem, second.output) == ("", "", "")
    findings = ranks.together(first, [])
    assert {finding.name for finding in findings if finding.state in ("warning", "error")} == set()
    assert _named(findings, "run folder").state == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_real_rank_says_who_did_not_come(tmp_path: Path) -> None:
    finding = ranks.together(_meet(tmp_path, 1, 2, 1)[0], [])[0]
    assert (finding.name, finding.state) == ("ranks", "error")
    assert "missing: 1" in finding.what


@pytest.mark.prove
def test_torchrun_starts_doctor_and_rank_0_alone_tells(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3"]
    done = subprocess.run(
        [*command, "-m", "puna", "doctor", "--json", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert next(each for each in told["findings"] if each["name"] == "ranks")["what"].startswith("3 met, on ")
