"""Formats: a run of each version is read for ever, and what a newer one wrote is refused before anything is touched."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import puna
from make_fixture import reading
from puna import formats, recipe, storage
from puna.errors import InputError
from puna.formats import FORMATS, Format, Newer
from puna.report import write
from typed import Says, said

FIXTURES = Path(__file__).with_name("fixtures")
RUNS = sorted((path for path in FIXTURES.iterdir() if path.is_dir()), key=lambda path: int(path.name[4:]))
LATEST = RUNS[-1]
WITHOUT = {
    "tokenizer/tokenizer.model": "plain SentencePiece, known by its digest in the manifest",
    "tokens/*/*.bin": "its index tells",
    "checkpoints/*/*.safetensors": "checkpoint.json tells",
    "report.html": "for people, never read",
}
OF_THE_LOCK = {"run.lock.held", "run.lock.guard", "log.txt"}


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Says:
    """Runs a command in a folder without the raw dumps: exit status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    return partial(said, capsys)


@pytest.fixture(params=RUNS, ids=lambda path: path.name)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the run that a version left, as a checkout gives it: with other times than its records have."""
    return Path(shutil.copytree(request.param, tmp_path / "run", copy_function=shutil.copyfile))


@pytest.fixture
def latest(tmp_path: Path) -> Path:
    """A copy of the run of this version, its recipe as it is written now, and beside it the recipe."""
    shutil.copyfile(LATEST / "recipe.toml", tmp_path / "kept.toml")
    run = Path(shutil.copytree(LATEST, tmp_path / "run"))
    (run / "recipe.toml").write_text(recipe.as_toml(recipe.load(tmp_path / "kept.toml")))
    return run


def test_every_window_document_and_weight_of_each_version_is_still_read(kept: Path, request: Any) -> None:
    expected = storage.read_json(FIXTURES / f"{request.node.callspec.id}.json")
    assert reading(kept) == expected


def test_a_report_is_still_written_of_each_version(kept: Path, says: Says) -> None:
    (kept / "report.html").unlink()
    assert says("report", kept)[0] == 0
    text = (kept / "report.html").read_text()
    assert "bits per byte" in text
    assert "Could not be read" not in text


@pytest.mark.parametrize("options", [(), ("--verify",)])
def test_a_finished_run_of_each_version_is_found_done_without_its_raw_dumps(
    kept: Path, says: Says, options: tuple[str, ...], tmp_path: Path
) -> None:
    shutil.copyfile(kept / "recipe.toml", tmp_path / "kept.toml")
    before = _digests(kept)
    status, said, told = says("run", "kept.toml", "--out", "run", *options)
    assert status == 0, told
    assert "puna generate run" in said
    # A new key of the recipe is written into recipe.toml, and may write the report anew; nothing that takes time may be
    # done for it.
    again = set(re.findall(r"^(\S+): done in", told, re.MULTILINE))
    assert again <= {"report"}
    touched = {name for name, digest in _digests(kept).items() if before.get(name) != digest}
    touched = {name for name in touched if not name.startswith("superseded/report-")}
    assert touched <= {"recipe.toml"} | ({"report.html", "records/report.json"} if again else set())


def test_every_file_of_a_run_has_a_number_or_a_reason() -> None:
    numbers = set()
    for name in storage.tree(LATEST):
        path = Path(name)
        found = [format for format in FORMATS if any(path.match(pattern) for pattern in format.files)]
        if any(path.match(pattern) for pattern in WITHOUT):
            assert not found, name
            continue
        assert len(found) == 1, f"{name} has no format in formats.py"
        there = list(formats.numbers(LATEST / name))
        assert set(there) == {found[0].version}, f"{name}: a changed format needs a new run beside {LATEST.name}"
        numbers.add(found[0])
    # The first two go with the process; the third is built when it is asked for.
    assert set(FORMATS) - numbers == {formats.LOCK, formats.PROGRESS, formats.TRACE}
    elsewhere = {formats.FETCHED, formats.REFERENCE, formats.ORIGIN}
    elsewhere |= {formats.ANSWERS, formats.RESULTS, formats.OVERLAP, formats.TOXICITY, formats.FINETUNE}
    assert {value for value in vars(formats).values() if isinstance(value, Format)} == {*FORMATS, *elsewhere}


def _call(what: str, run: Path, says: Says) -> tuple[int, str, str]:
    """Run a command; or a call of the Python interface, whose error is then what the command line would make of it."""
    commands = {
        "run": ("run", "kept.toml", "--out", run, "--workers", "1", "--threads", "1"),
        "run --verify": ("run", "kept.toml", "--out", run, "--verify"),
        "train": ("train", "kept.toml", "train.steps=250", "--out", run, "--take-over"),
        "report": ("report", run),
        "clean": ("clean", run),
        "generate": ("generate", run, "The "),
    }
    calls: dict[str, Callable[[], object]] = {
        "report.write": lambda: write(run),
        "load": lambda: puna.load(run),
        "window": lambda: [puna.window(run, i) for i in range(40)],
        "documents": lambda: list(puna.documents(run)),
        "heldout": lambda: list(puna.documents(run, heldout=True)),
    }
    if what in commands:
        return says(*commands[what])
    with pytest.raises(Newer) as error:
        calls[what]()
    return error.value.exit_status, "", f"error: {error.value}\n"


ALL = ["run", "run --verify", "train", "report", "report.write", "clean"]
MODEL = ["generate", "load"]
READ_BY = {format.files[0]: ALL for format in FORMATS} | {
    "documents/*/*.parquet": [*ALL, "documents"],
    "heldout/*/*.parquet": [*ALL, "heldout"],
    "tokens/*/*.idx": [*ALL, "window"],
    "tokens/manifest.json": [*ALL, "window"],
    "tokens/mixture.json": [*ALL, "window"],
    "checkpoints/*/checkpoint.json": [*ALL, *MODEL],
    "checkpoints/*/config.json": [*ALL, *MODEL],
    "checkpoints/*/state.json": [*ALL, *MODEL],
}


@pytest.mark.parametrize("pattern", ["documents/*/*.parquet", "tokens/*/*.idx"])
def test_one_newer_shard_among_others_is_not_taken_for_a_damaged_one(pattern: str, latest: Path, says: Says) -> None:
    raised = _raise(latest, pattern, which=max)
    before = _digests(latest)
    status, _, told = says("run", "kept.toml", "--out", latest)
    assert status == 2
    assert f"{raised}: this " in told.splitlines()[-1]
    assert _digests(latest) == before


@pytest.mark.parametrize("pattern", READ_BY)
def test_whoever_reads_a_newer_file_refuses_it_in_one_line_and_leaves_all_as_it_was(
    pattern: str, latest: Path, says: Says
) -> None:
    raised = _raise(latest, pattern)
    before = _digests(latest)
    for what in READ_BY[pattern]:
        status, said, told = _call(what, latest, says)
        assert (status, said) == (2, ""), what
        line = rf"error: \S*{re.escape(raised)}: this [\w' ]+ was written by a newer Puna "
        line += r"\(format 2, this one reads 1\); update puna"
        assert [bool(re.fullmatch(line, each)) for each in told.splitlines() if "error" in each] == [True], told
        assert _digests(latest) == before, what


@pytest.mark.parametrize(
    ("name", "change", "how"),
    [
        ("train.json", {"version": 2}, "version 2 of the step train, this one has 1"),
        ("extract.wikipedia.json", {"version": 3}, "version 3 of the step extract, this one has 2"),
        ("train.begun.json", {"step": "train", "version": 2}, "version 2 of the step train, this one has 1"),
        ("finetune.json", {"step": "finetune", "counts": {}}, "of the step finetune, which this one does not have"),
    ],
)
def test_nothing_that_a_newer_puna_made_is_set_aside_or_made_again(
    name: str, change: dict[str, Any], how: str, latest: Path, says: Says
) -> None:
    path = latest / "records" / name
    record = storage.read_json(path) if path.exists() else {"format": 1, "fingerprint": "0" * 32}
    storage.write_json(path, record | change)
    before = _digests(latest)
    for arguments in ([], ["train.steps=250"], ["seed=4"]):
        status, _, told = says("run", "kept.toml", *arguments, "--out", latest)
        assert status == 2
        assert told.splitlines()[-1] == f"error: {path}: this record was written by a newer Puna ({how}); update puna"
        assert _digests(latest) == before


def test_ls_and_status_tell_of_a_newer_run_and_of_the_others(latest: Path, says: Says, tmp_path: Path) -> None:
    shutil.copytree(latest, tmp_path / "other")
    _raise(latest, "records/*.json")
    status, said, _ = says("ls", tmp_path)
    assert status == 0
    assert re.search(r"^run\b.*newer", said, re.MULTILINE)
    assert re.search(r"^other\b.*done", said, re.MULTILINE)
    _, said, told = says("status", latest)
    assert "newer Puna" in said + told


def test_a_recipe_without_a_format_is_read_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = recipe.as_toml(recipe.load("laptop"))
    assert text.startswith("format = 1\n")
    path.write_text(text.removeprefix("format = 1\n"))
    assert recipe.load(path) == recipe.load("laptop")
    for wrong in ("0", '"1"', "true"):
        path.write_text(text.replace("format = 1", f"format = {wrong}", 1))
        with pytest.raises(InputError, match="format takes a whole number from 1"):
            recipe.load(path)
    with pytest.raises(InputError, match="format cannot be given on the command line"):
        recipe.load("laptop", ["format=1"])


def test_the_documentation_lists_every_format_with_its_number() -> None:
    text = (Path(__file__).parents[1] / "docs" / "run-folder.md").read_text()
    for format in FORMATS:
        files = ", ".join(f"`{pattern}`" for pattern in format.files)
        assert f"| {files} | {format.what} | {format.version} |" in text, files


def _digests(run: Path) -> dict[str, str]:
    return {name: storage.digest(run / name) for name in storage.tree(run) if name not in OF_THE_LOCK}


def _raise(run: Path, pattern: str, which: Callable[..., Path] = min) -> str:
    """Raise the number in a file by one; its name in the run."""
    if pattern in ("run.lock", "progress.json", "trace/index.json"):
        storage.write_json(run / pattern, {"format": 2, "host": "elsewhere", "pid": 1, "born": "then"})
        return pattern
    path = which(run.glob(pattern))
    data = path.read_bytes()
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        pq.write_table(table.replace_schema_metadata({"puna.format": "documents/2"}), path)
    elif path.suffix == ".idx":
        path.write_bytes(data[:8] + (2).to_bytes(2, "little") + data[10:])
    elif path.suffix == ".toml":
        path.write_bytes(data.replace(b"format = 1", b"format = 2", 1))
    elif path.suffix == ".jsonl":
        head, _, last = data[:-1].rpartition(b"\n")
        path.write_bytes(head + b"\n" + json.dumps(json.loads(last) | {"format": 2}).encode() + b"\n")
    else:
        value = json.loads(data)
        (value[-1] if isinstance(value, list) else value)["format"] = 2
        storage.write_json(path, value)
    return path.relative_to(run).as_posix()
