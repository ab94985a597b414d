"""The road from raw text to report, on a run small enough to be done in a test, and what a user can get wrong on it."""

from __future__ import annotations

import bz2
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import puna
import tiny
from puna import storage, tokenizer
from puna.data.heldout import is_held_out
from puna.last_screen import NAMES
from puna.tokens.windows import Windows

STEPS = [
    "inputs.github", "split.github", "extract.github", "duplicates.github", "inputs.wikipedia", "split.wikipedia",
    "extract.wikipedia",
    "duplicates.wikipedia", "heldout", "overlap.github", "documents.github", "overlap.wikipedia",
    "documents.wikipedia", "notice.github",
    "tokenizer", "tokens.github", "tokens.wikipedia", "manifest", "mixture", "baselines",
    "cloze_items", "train", "evaluate", "cloze", "samples", "report",
]  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe, its dumps, and the finished run `run`."""
    folder = tmp_path_factory.mktemp("home")
    tiny.write(folder)
    done = tiny.puna("run", folder / "tiny.toml", "--out", folder / "run", "--workers", "1", "--threads", "1")
    assert done.returncode == 0, done.stderr
    (folder / "screen.txt").write_text(done.stdout)
    return folder


def _go(home: Path, *arguments: str | Path) -> tuple[int, str]:
    done = tiny.puna(*arguments, cwd=home)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.promise("formats")
def test_a_run_leaves_what_the_design_promises(home: Path) -> None:
    run = home / "run"
    assert {path.stem for path in (run / "records").iterdir()} == set(STEPS)
    for name in ("recipe.toml", "tokenizer/tokenizer.model", "metrics.jsonl", "machine.json", "report.html", "log.txt"):
        assert (run / name).is_file(), name
    assert pq.read_table(run / "documents" / "wikipedia").num_rows > 20
    training = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in training] == list(range(1, 25))
    assert training[0].keys() >= {"step", "tokens", "loss", "learning_rate", "seconds"}
    assert training[-1]["loss"] < training[0]["loss"]
    bits = storage.read_json(run / "evaluations" / "heldout.json")["bits_per_byte"]
    assert bits.keys() == {"all", "wikipedia", "github"}
    for row in bits.values():
        assert row.keys() == {"model", "xz", "xz_primed", "zstd", "zstd_primed", "ngram", "uniform"}
        assert row["model"] < row["uniform"]
    asked = storage.read_json(run / "evaluations" / "cloze.json")["results"]
    assert asked.keys() == {"all", "wikipedia", "github"}
    for row in asked.values():
        assert row.keys() == {"items", "cut", "model", "ngram", "frequency", "chance", "difference"}


@pytest.mark.promise("honest")
def test_the_last_screen_says_what_was_made_how_good_it_is_and_what_to_type(home: Path) -> None:
    screen = (home / "screen.txt").read_text()
    for text in ("wikipedia", "held out", "trained on", "bits per byte", "report.html", "puna generate"):
        assert text in screen
    for source, row in storage.read_json(home / "run" / "evaluations" / "heldout.json")["bits_per_byte"].items():
        shown = [source, *(f"{row[name]:.3f}" for name in NAMES)]
        assert any(line.split() == shown for line in screen.splitlines())
    for source, row in storage.read_json(home / "run" / "evaluations" / "cloze.json")["results"].items():
        figures = [f"{100 * row[name]['mean']:.1f} ± {100 * row[name]['error']:.1f}" for name in ("model", "ngram")]
        shown = f"{source} {row['items']} {' '.join(figures)} 25.0 ± "
        assert any(" ".join(line.split()).startswith(shown) for line in screen.splitlines())


@pytest.mark.promise("honest")
def test_held_out_groups_and_duplicates_are_not_trained_on(home: Path) -> None:
    trained = list(puna.documents(home / "run"))
    held = list(puna.documents(home / "run", heldout=True))
    assert {d.group for d in held if d.source == "github"} == {"mdurl"}
    assert not {d.group for d in held} & {d.group for d in trained}
    texts = [d.text for d in trained + held if d.source == "wikipedia"]
    assert len(texts) == len(set(texts))
    assert [d.id for d in trained if d.source == "wikipedia"] == sorted(
        d.id for d in trained if d.source == "wikipedia"
    )
    counts = storage.read_json(home / "run" / "records" / "documents.wikipedia.json")["counts"]
    assert counts["dropped"]["duplicate"]["documents"] >= 4


@pytest.mark.promise("honest")
def test_training_text_that_held_out_text_has_too_is_dropped_and_counted(home: Path, tmp_path: Path) -> None:
    tiny.write(tmp_path)
    held = next(puna.documents(home / "run", "wikipedia", heldout=True)).text.replace("\n\n", "\n")
    other = next(puna.documents(home / "run", "wikipedia")).text
    pages = "".join(
        tiny.PAGE.format(title=title, ns=0, id=number, redirect="", text=f"{quoted} Something of its own, {title}.")
        for number, (title, quoted) in zip(
            (n for n in range(5000, 6000) if not is_held_out("wikipedia", str(n), share=0.15, groups=(), seed=3)),
            {"Whole": held, "Half": held[: len(held) // 2], "Hint": held[:200] + other, "None": other}.items(),
            strict=False,
        )
    )
    dump = bz2.compress(f"{tiny.HEAD}{pages}</mediawiki>\n".encode())
    (tmp_path / "dumps" / "enwiki-9-pages-articles.xml.bz2").write_bytes(dump)
    done = tiny.puna("data", tmp_path / "tiny.toml", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    found = {d.origin.title: d for d in puna.documents(tmp_path / "run", "wikipedia")}
    assert {"Whole", "Half", "Hint", "None"} & found.keys() == {"Hint", "None"}
    counts = storage.read_json(tmp_path / "run" / "records" / "documents.wikipedia.json")["counts"]
    assert counts["dropped"]["overlap"]["documents"] == 2
    assert counts["dropped"]["overlap"]["bytes"] > len(held)
    assert counts["training"] == {"documents": len(found), "bytes": sum(len(d.text.encode()) for d in found.values())}


@pytest.mark.promise("order")
def test_every_window_is_made_of_documents_of_the_run(home: Path, proved: Callable[[str], None]) -> None:
    run = home / "run"
    encoding = tokenizer.load(run / "tokenizer" / "tokenizer.model")
    ids = {d.id: [encoding.bos, *encoding.encode(d.text), encoding.eos] for d in puna.documents(run)}
    spelt = {name: f" {' '.join(map(str, of_document))} " for name, of_document in ids.items()}
    windows = Windows(run)
    assert len(windows) == 24 * 8
    for number in range(len(windows)):
        window = puna.window(run, number)
        assert window.shape == (33,)
        parts = windows.documents(number)
        assert [part.first for part in parts] + [33] == [0] + [part.last for part in parts]
        for part in parts:
            assert f" {' '.join(map(str, window[part.first : part.last].tolist()))} " in spelt[part.document]
    proved(f"{len(windows)} windows of a whole run: every token is one of the document that it names")


def test_a_finished_run_does_nothing_again(home: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (home / "run" / "records").iterdir()}
    status, said = _go(home, "run", "tiny.toml", "--out", "run")
    assert status == 0
    assert "done in" not in said
    assert before == {path: path.stat().st_mtime_ns for path in (home / "run" / "records").iterdir()}


def test_a_changed_value_redoes_only_what_depends_on_it_and_says_so(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "run", tmp_path / "run")
    status, said = _go(home, "run", "tiny.toml", "samples.tokens=5", "--out", tmp_path / "run")
    assert status == 0
    assert "samples: done again, since tokens changed from 16 to 5" in said
    assert "train:" not in said


def test_generate_continues_a_prompt_and_repeats_itself_by_seed(home: Path) -> None:
    first = tiny.puna("generate", home / "run", "The river", "--tokens", "12", "--seed", "5")
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("The river")
    assert first.stdout == tiny.puna("generate", home / "run", "The river", "--tokens", "12", "--seed", "5").stdout
    text = puna.load(home / "run").generate("The river", tokens=12, seed=5)
    assert first.stdout == f"The river{text}\n"


@pytest.mark.promise("errors")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["run", "laptop", "train.lerning_rate=1"],
            "unknown key train.lerning_rate; did you mean train.learning_rate?",
        ),
        (["run", "laptopp"], "laptop"),
        (["run", "missing.toml"], "missing.toml"),
        (["run", "llama-7b"], "no source has any inputs"),
        (["run", "tiny.toml", "--out", "tiny.toml"], "a file stands where the run folder should be"),
        (["run", "tiny.toml", "--out", "/proc/nothing/here"], "cannot make the run folder"),
        (["run", "tiny.toml", "sources.wikipedia.inputs=['none/*.bz2']", "--out", "new"], "none/*.bz2"),
        (["run", "tiny.toml", "sources.github.inputs=['package:no-such-thing']", "--out", "new"], "no-such-thing"),
        (["run", "laptop", "--out", "run"], "was made by the recipe 'tiny', not 'laptop'"),
        (["run", "tiny.toml", "--workers", "0"], "--workers"),
        (["generate", "nowhere", "x"], "nowhere"),
        (["generate", "run", "x", "--top-p", "3"], "top-p"),
        (["report", "nowhere"], "nowhere"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_what_a_user_gets_wrong_is_one_line_and_status_2(home: Path, arguments: list[str], says: str) -> None:
    done = tiny.puna(*arguments, cwd=home)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.promise("errors")
def test_a_corrupt_checkpoint_is_named(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "run", tmp_path / "run")
    for weights in (tmp_path / "run" / "checkpoints").glob("*/model.safetensors"):
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
    status, said = _go(home, "generate", tmp_path / "run", "x")
    assert status == 2
    assert "model.safetensors" in said
    assert "Traceback" not in said


def test_help_and_recipe_show_work_everywhere(home: Path) -> None:
    for command in ("run", "data", "tokenizer", "tokens", "train", "generate", "report", "recipe"):
        status, said = _go(home, command, "--help")
        assert status == 0
        assert "Usage: " in said
    shown = json.loads(tiny.puna("recipe", "show", "llama-65b", "--json").stdout)
    assert (shown["model"]["dim"], shown["model"]["heads"], shown["model"]["layers"]) == (8192, 64, 80)
    assert shown["sources"]["commoncrawl"]["share"] == 0.67


@pytest.mark.promise("honest")
def test_a_report_says_where_the_recipe_was_changed_after_the_training(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "run", tmp_path / "run")
    assert _go(home, "report", tmp_path / "run")[0] == 0
    assert "was changed after the training" not in (tmp_path / "run" / "report.html").read_text()
    assert _go(home, "data", "tiny.toml", "train.learning_rate=0.5", "--out", tmp_path / "run")[0] == 0
    assert _go(home, "report", tmp_path / "run")[0] == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "train.learning_rate is 0.5, and was 0.01" in page


def test_a_source_taken_out_is_neither_trained_on_nor_measured(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "run", tmp_path / "run")
    status, said = _go(home, "run", "tiny.toml", "sources.github=none", "train.steps=2", "--out", tmp_path / "run")
    assert status == 0, said
    bits = storage.read_json(tmp_path / "run" / "evaluations" / "heldout.json")["bits_per_byte"]
    assert bits.keys() == {"all", "wikipedia"}
    assert {document.source for document in puna.documents(tmp_path / "run")} == {"wikipedia"}
    assert "extract.wikipedia: done" not in said


def test_a_cap_that_does_not_bind_changes_nothing(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "run", tmp_path / "run")
    status, said = _go(home, "train", "tiny.toml", "sources.wikipedia.max_epochs=1000", "--out", tmp_path / "run")
    assert status == 0
    assert "mixture: done again" in said
    assert "train: done again" not in said


def test_raw_dumps_may_be_taken_away_once_they_were_read(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "run", tmp_path / "run")
    shutil.move(home / "dumps", tmp_path / "dumps")
    try:
        status, said = _go(home, "run", "tiny.toml", "samples.tokens=3", "--out", tmp_path / "run")
        assert status == 0, said
        assert "going on with what was read of it before" in said
        status, said = _go(home, "run", "tiny.toml", "--out", tmp_path / "new")
        assert status == 2
    finally:
        shutil.move(tmp_path / "dumps", home / "dumps")


@pytest.mark.promise("origin")
def test_a_dump_that_breaks_off_ends_with_status_1_unless_so_much_damage_is_allowed(tmp_path: Path) -> None:
    recipe = tiny.write(tmp_path)
    dump = tmp_path / "dumps" / "enwiki-1-pages-articles.xml.bz2"
    dump.write_bytes(dump.read_bytes()[:-2000])
    for share, expected in (("0.01", 1), ("1", 0)):
        done = tiny.puna("data", recipe, f"data.max_bad_share={share}", "--out", tmp_path / "run")
        assert done.returncode == expected, done.stderr
        last = done.stderr.strip().splitlines()[-1]
        assert (last.startswith("error: wikipedia: ") and "raise data.max_bad_share" in last) == bool(expected)
    assert "enwiki-1-pages-articles.xml.bz2" not in {d.origin.file for d in puna.documents(tmp_path / "run")}
    assert any(d.origin.file == "enwiki-0-pages-articles.xml.bz2" for d in puna.documents(tmp_path / "run"))


@pytest.mark.promise("honest")
def test_too_little_held_out_text_to_measure_on_is_refused(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "run", tmp_path / "run")
    status, said = _go(home, "data", "tiny.toml", "heldout.minimum=1MB", "--out", tmp_path / "run")
    assert status == 2
    assert re.search(
        r"held-out \w+ text is \d+ bytes, less than heldout.minimum \(1000000\); raise heldout.share or lower heldout.",
        said,
    )


@pytest.mark.promise("errors")
def test_a_source_of_which_nothing_is_left_says_why(home: Path) -> None:
    status, said = _go(home, "data", "tiny.toml", "sources.github.inputs=['package:python/json']", "--out", "psf")
    assert status == 2
    assert "no document is left of it" in said
    assert "PSF-2.0" in said
