"""Which benchmark a file is of, told by what it holds, and the files of a folder that are of any."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath

from puna import storage
from puna.errors import InputError
from puna.storage import Place
from puna.testsets import records
from puna.testsets.benchmarks import BENCHMARKS
from puna.testsets.items import Item
from puna.testsets.knowledge import SUBJECT

# Keys that together only this benchmark has; of OpenBookQA and ARC, alike in their keys, ids and names tell.
KEYS = {
    "boolq": {"question", "passage", "answer"},
    "piqa": {"goal", "sol1", "sol2"},
    "siqa": {"context", "question", "answerA", "answerB", "answerC"},
    "hellaswag": {"ctx", "endings", "activity_label"},
    "winogrande": {"sentence", "option1", "option2"},
    "arc": {"id", "question", "answerKey"},
    "arc_easy": {"query", "choices", "gold"},
    "triviaqa": {"context", "answer", "aliases"},
    "math": {"problem", "solution", "level"},
    "humaneval": {"prompt", "canonical_solution", "entry_point"},
    "mbpp": {"task_id", "code", "test_list"},
    "realtoxicityprompts": {"filename", "prompt", "continuation"},
    "naturalquestions": {"question", "answer"},
    "race": {"article", "questions", "options"},
    "crows_pairs": {"sent_more", "sent_less", "stereo_antistereo"},
    "truthfulqa": {"Best Answer", "Correct Answers", "Incorrect Answers"},
    "winogender": {"sentid", "sentence"},
    "winogender_templates": {"occupation(0)", "other-participant(1)", "answer"},
}
ENDINGS = re.compile(r"\.(jsonl?|csv|tsv|txt)(\.gz)?$", re.IGNORECASE)
BESIDE = re.compile(r"-labels\.lst$|occupations-stats\.tsv$|^\.|\.md$|^(README|LICENSE|LICENCE)", re.IGNORECASE)
OPENBOOK_ID = re.compile(r"\d+(-\d+)?")
SPLITS = re.compile(r"(?<![a-z])(train|dev|valid|validation|val|tests?)(?![a-z])", re.IGNORECASE)
MEND = "name a release file of one of " + ", ".join(BENCHMARKS)


@dataclass(frozen=True)
class Found:
    """What lies at a place."""

    files: tuple[tuple[str, Place], ...]
    """(benchmark, file), sorted by path."""
    unknown: tuple[Place, ...]
    """Files of a folder that no benchmark is told by."""
    damaged: tuple[InputError, ...] = ()
    """What is wrong with those of `unknown` that may be a benchmark's but begin with no record, or are empty."""


class Unknown(InputError):
    """A file that is whole, and no benchmark's."""


def find(location: Place, benchmark: str = "") -> Found:
    """The benchmark files at a file or below a folder, only those of `benchmark` where one is named.

    InputError when there are none, when a file is another benchmark's, and for a name that is none.
    """
    found = look(location, benchmark)
    if not found.files and not found.unknown:
        raise InputError("no such file, or a folder without files", where=str(location), mend=MEND)
    if not found.files:
        what = f"no file of {benchmark} is there" if benchmark else "no file there is told to be a benchmark's"
        raise InputError(what, where=str(location), mend=MEND)
    return found


def look(location: Place, benchmark: str = "") -> Found:
    """As `find`, of a folder where there may be none."""
    if benchmark and benchmark not in BENCHMARKS:
        raise InputError(
            f"{benchmark} is no benchmark", where=str(location), mend=f"take one of {', '.join(BENCHMARKS)}"
        )
    if storage.is_file(location):
        name = detect(location, benchmark)
        if benchmark not in ("", name):
            raise InputError(f"is a file of {name}, not of {benchmark}", where=str(location), mend=f"name it {name}")
        return Found(((name, location),), ())
    files: list[tuple[str, Place]] = []
    unknown: list[Place] = []
    damaged: list[InputError] = []
    for path in storage.listing(location, "**/*"):
        if BESIDE.search(path.name):
            continue
        told = _told(path, benchmark)
        if isinstance(told, str):
            files += [(told, path)] if benchmark in ("", told) else []
            continue
        unknown.append(path)
        damaged += [told] if told and not isinstance(told, Unknown) else []
    names = {path.name for _, path in files}
    # WinoGender's sentences are its templates written out: both lie in its release.
    files = [each for each in files if not _repeats_sentences(each[1].name, names)]
    return Found(tuple(files), tuple(unknown), tuple(damaged))


def read(benchmark: str, location: Place) -> Iterator[Item]:
    """The items of a benchmark in a file or folder, file by file in the order of paths, streamed.

    InputError, with file, line and key, at the first record that is not as the release has it, and for a file without
    items.
    """
    for name, path in find(location, benchmark).files:
        yield from read_file(name, path)


def read_file(benchmark: str, location: Place) -> Iterator[Item]:
    """The items of one file of a benchmark."""
    chosen, count = BENCHMARKS[benchmark], 0
    split = split_of(benchmark, location)
    for item in chosen.read(location, split):
        count += 1
        yield item
    if not count:
        raise InputError("holds no items", where=str(location), mend="take the file as it was released")


def split_of(benchmark: str, location: Place) -> str:
    """train, validation or test by the file's name, of releases in folders by theirs; "" where none tells."""
    parts = [location.name]
    if benchmark in ("math", "race_middle", "race_high"):
        parts += [location.parent.parent.name, location.parent.name]
    for part in parts:
        if found := SPLITS.findall(part):
            word = str(found[-1]).lower()
            split = {"tests": "test", "dev": "validation", "valid": "validation", "val": "validation"}.get(word, word)
            before, after = BENCHMARKS[benchmark].renamed or ("", "")
            return after if split == before else split
    return ""


def detect(location: Place, hint: str = "") -> str:
    """The benchmark that a file is of, by what its beginning holds; InputError when that tells none, and for a damaged
    beginning. hint: which it should be, where two are alike (ARC easy and challenge)."""
    name = PurePosixPath(location.name).name.lower().removesuffix(".gz")
    if not records.beginning(location, 4096).strip():
        raise InputError("is empty", where=str(location), mend="take the file as it was released")
    if name.endswith(".json"):
        found = _json_kind(location)
    elif name.endswith(".csv") and SUBJECT.search(location.name):
        found = "mmlu"
    elif name.endswith((".csv", ".tsv")):
        rows = records.table(location, tabs=name.endswith(".tsv"))
        found = next((_by_keys(set(row.values)) for row in islice(rows, 1)), "")
    elif name.endswith(".txt"):
        found = "race" if _by_keys(set(records.json_object(location).values)) == "race" else ""
    else:
        found = next((_by_keys(set(row.values)) for row in islice(records.json_lines(location), 1)), "")
        if found == "naturalquestions":
            found = _question_kind(location)
    found = _told_apart(found, location, hint)
    if not found:
        raise Unknown("is no benchmark's file that is known", where=str(location), mend=MEND)
    return found


def is_of(location: Place, benchmark: str) -> bool:
    """Whether a file within a folder is the benchmark's, where nothing else tells what it is of."""
    return not BESIDE.search(location.name) and _told(location, benchmark) == benchmark


def _told(location: Place, hint: str) -> str | InputError | None:
    """`detect` within a folder, where other files may lie: what is wrong with one, None of one of another kind."""
    if not ENDINGS.search(location.name):
        return None
    try:
        return detect(location, hint)
    except InputError as error:
        return error


def _by_keys(keys: set[str]) -> str:
    return next((name for name, wanted in KEYS.items() if wanted <= keys), "")


def _json_kind(location: Place) -> str:
    head = records.beginning(location, 4096).lstrip()
    if head.startswith(b"["):
        return "truthfulqa" if b'"mc1_targets"' in head else ""
    if b'"Data"' in head:
        return "triviaqa"
    return _by_keys(set(records.json_object(location).values))


def _question_kind(location: Place) -> str:
    """GSM8k's answer is a solution, NaturalQuestions' a list."""
    first = next(records.json_lines(location))
    answer = first.values["answer"]
    return "naturalquestions" if isinstance(answer, list) else "gsm8k" if isinstance(answer, str) else ""


def _told_apart(found: str, location: Place, hint: str) -> str:
    path = f"{location.parent.name}/{location.name}".lower()
    if found == "winogender_templates":
        return "winogender"
    if found == "race":
        key = str(records.json_object(location).values.get("id") or "")
        level = "middle" if "middle" in key + path else "high" if "high" in key + path else ""
        return f"race_{level}" if level else hint if hint.startswith("race_") else ""
    if found == "arc":
        first = next(records.json_lines(location)).values
        if isinstance(first["id"], str) and OPENBOOK_ID.fullmatch(first["id"]):
            return "openbookqa"
    if found in ("arc", "arc_easy"):
        level = "easy" if "easy" in path else "challenge" if "challenge" in path else ""
        return f"arc_{level}" if level else hint if hint.startswith("arc_") else ""
    return found


def _repeats_sentences(name: str, names: set[str]) -> bool:
    return name.endswith("templates.tsv") and name.replace("templates", "all_sentences") in names
