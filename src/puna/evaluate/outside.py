"""Judges that stand outside of the pack: programs that are run, and toxicity that somebody else scores."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from puna import storage
from puna.errors import InputError, PunaError
from puna.evaluate import sandbox
from puna.evaluate.perspective import Perspective, Toxicity
from puna.evaluate.sandbox.running import NoCage
from puna.evaluate.task import Answer, Asked, Judge, Norm
from puna.evaluate.tasks.programs import pass_at, program
from puna.storage import Place
from puna.testsets import Item


def programs(*, workers: int | None = None) -> Judge:
    """Runs each sample in a cage (sandbox/), as many at a time as there are CPUs. InputError where none can be made;
    the judge raises PunaError where one cannot that once, as a sample that was not run has not failed."""
    sandbox.demand("--allow-code")
    pool = ThreadPoolExecutor(workers or os.cpu_count())

    def judge(item: Item, asked: Asked, answer: Answer, norm: Norm) -> dict[str, float]:
        """pass@k of every k that the paper has and the samples tell."""
        texts = [str(text) for text in answer]
        different = list(dict.fromkeys(texts))
        verdicts = pool.map(lambda text: sandbox.judge(program(item, text)).passed, different)
        try:
            passed = dict(zip(different, verdicts, strict=True))
        except NoCage as error:
            mend = "run the same command again: the answers are kept"
            raise PunaError(f"a program could not be isolated: {error}", where=item.id, mend=mend) from error
        right = sum(passed[text] for text in texts)
        return {f"pass@{k}": pass_at(k, len(texts), right) for k in (1, 80, 100) if k <= len(texts)}

    return judge


def toxicity(score: Callable[[str], float | None]) -> Judge:
    """The score of each continuation; an item without one is left out and counted, never a zero."""

    def judge(item: Item, asked: Asked, answer: Answer, norm: Norm) -> dict[str, float]:
        found = score(str(answer[0]))
        return {} if found is None else {"toxicity": found}

    return judge


def stored(file: Place) -> Callable[[str], float | None]:
    """Scores by text, from JSON lines with `text` and `score`. InputError for a text that has none there."""
    mend = 'write {"text": "...", "score": 0.1}, or null where there is none'
    scored = lines(file, _is_scored, "is no score of a text", mend)
    known: dict[str, float | None] = {line["text"]: line["score"] for line in scored}

    def score(text: str) -> float | None:
        if text not in known:
            mend = "score the texts that the file of answers holds"
            raise InputError(f"has no score of {text[:60]!r}", where=str(file), mend=mend)
        return known[text]

    return score


def lines(file: Place, sound: Callable[[object], bool], what: str, mend: str) -> Iterator[Mapping[str, Any]]:
    """The JSON objects of a file, one a line. InputError, saying `what` and the mend, for a line that is not sound."""
    with storage.open_read(file) as found:
        for number, data in enumerate(found, 1):
            try:
                line = json.loads(data)
            except (ValueError, RecursionError):
                line = None
            if not sound(line):
                raise InputError(what, where=f"{file}:{number}", mend=mend)
            yield line


def local(name: str) -> Callable[[str], float | None]:
    """Scores by a function of the user's own, named MODULE:FUNCTION, which gives a number from 0 to 1 for a text, or
    None where it has none. The module is looked for where Python looks, and in the folder that one is in. InputError
    when it cannot be imported or gives something else; PunaError when it fails on a text."""
    module, _, function = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), function)
        with suppress(ValueError):  # of a function that does not tell what it takes
            inspect.signature(found).bind("")
    except (Exception, SystemExit) as error:  # whatever a module does when it is imported
        kind = "takes no text" if isinstance(error, TypeError) else "cannot be imported"
        what = f"{kind} ({type(error).__name__}: {error})"
        mend = "name a MODULE:FUNCTION that Python finds here"
        raise InputError(what, where=f"--toxicity {name}", mend=mend) from None

    def score(text: str) -> float | None:
        try:
            value = found(text)
        except (Exception, SystemExit) as error:
            what = f"fails on a text ({type(error).__name__}: {error})"
            mend = "mend it and give the same command: answers are kept"
            raise PunaError(what, where=f"--toxicity {name}", mend=mend) from error
        if not _is_scored({"text": text, "score": value}):
            raise InputError(f"gives {value!r} for a text", where=f"--toxicity {name}", mend="give 0 to 1, or None")
        return None if value is None else float(value)

    return score


def asked(service: Perspective) -> Callable[[str], float | None]:
    """Scores by the service, one text after the other."""
    waiting: list[str] = []

    def texts() -> Iterator[str]:
        while True:
            yield waiting.pop()

    scores: Iterator[Toxicity] = service.scores(texts())

    def score(text: str) -> float | None:
        waiting.append(text)
        return next(scores).score

    return score


def _is_scored(line: object) -> bool:
    if not isinstance(line, Mapping) or not isinstance(line.get("text"), str) or "score" not in line:
        return False
    score = line["score"]
    return score is None or (isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score <= 1)
