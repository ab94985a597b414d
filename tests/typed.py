"""Commands typed within the process of a test: how they end, and what they say."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

import pytest

from puna import cli

Says = Callable[..., tuple[int, str, str]]


def status(*words: object) -> int:
    """The exit status of `puna WORDS`. What a command does at signals ends with it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["puna", *map(str, words)])
        try:
            with pytest.raises(SystemExit) as end:
                cli.main()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    assert isinstance(end.value.code, int)
    return end.value.code


def said(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of `puna WORDS`."""
    capsys.readouterr()
    code = status(*words)
    found = capsys.readouterr()
    return code, found.out, found.err
