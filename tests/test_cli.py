"""The command line: what it says and with which status it ends."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

import pytest

from puna import cli, workflow
from puna.errors import InputError, Interrupted, PunaError


def _run(monkeypatch: pytest.MonkeyPatch, work: Callable[..., str], *arguments: str) -> int | str | None:
    old = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(workflow, "work", work)
    monkeypatch.setattr(sys, "argv", ["puna", *(arguments or ("data", "laptop"))])
    try:
        with pytest.raises(SystemExit) as end:
            cli.main()
    finally:
        signal.signal(signal.SIGTERM, old)
    return end.value.code


def _raises(error: BaseException) -> Callable[..., str]:
    def work(*arguments: object) -> str:
        raise error

    return work


def _sends(number: signal.Signals) -> Callable[..., str]:
    def work(*arguments: object) -> str:
        os.kill(os.getpid(), number)
        raise AssertionError("the signal did nothing")

    return work


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_says_that_it_goes_on_and_ends_with_130(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with it ignored
    try:
        assert _run(monkeypatch, _sends(number)) == 130
    finally:
        signal.signal(signal.SIGINT, old)
    assert capsys.readouterr().err == "interrupted; the same command goes on where it was\n"


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (
            InputError("no such thing", where="x.toml", mend="name another"),
            2,
            "error: x.toml: no such thing; name another",
        ),
        (PunaError("the disk is full"), 1, "error: the disk is full"),
        (Interrupted("stopped after step 3"), 130, "stopped after step 3"),
    ],
    ids=["input", "work", "interrupted"],
)
def test_an_error_is_one_line_with_its_status(
    error: PunaError, status: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, _raises(error)) == status
    assert capsys.readouterr().err.splitlines()[0] == line


def test_a_command_that_is_done_ends_with_0_and_prints_its_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, lambda *arguments: "the last screen") == 0
    assert capsys.readouterr().out == "the last screen\n"


def test_a_run_folder_on_an_object_store_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="object store"):
        workflow.work("laptop", [], "s3://bucket/run", None, workflow.Options())
