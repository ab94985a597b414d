"""Several runs on one page: what it holds, what it says of runs that cannot be compared, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import compared_runs
from compared_runs import family, heldout_record, made, manifest
from puna.cli import app
from puna.errors import InputError
from puna.report import compare
from puna.report.compare import law, runs
from puna.report.compare import page as pages
from puna.report.compare.page import _told
from test_report import LOADING, LOADING_TAGS, Page

SECTIONS = [
    "Training loss",
    "Held-out text",
    "Loss and size",
    "How good each is",
    "Size, tokens and time",
    "In what the recipes differ",
]


def compared(*folders: Path) -> Page:
    reader = Page.__new__(Page)
    reader.read(compare.write(folders).read_text("utf-8"))
    reader.text = reader.text.replace("\u00a0", " ")
    return reader


def test_a_family_is_compared_by_size_with_its_law(tmp_path: Path) -> None:
    page = compared(*family(tmp_path))
    assert page.headings == SECTIONS
    assert page.drawings == 6  # training, held-out text and the law, each for a wide and for a narrow page
    for told in ("475 k (3 seeds)", "8.93 M", "mean of 3 seeds", "A LLaMA of 4 sizes on the same text", "95 %"):
        assert told in page.text, told
    assert "to the power of −0.059" in page.text  # planted is 0.06, with noise
    assert "2 degrees of freedom" in page.text
    assert "No law" not in page.text
    assert "bits per byte apart" in page.text
    for key, values in {"model.dim": "64128192320", "model.layers": "4566"}.items():
        assert f"{key}{values}" in "".join(page.text.split())
    assert "train.learning_rate" not in page.text  # it is the same in all
    assert "1, 2, 3" in page.text


@pytest.mark.parametrize(
    ("planted", "told"),
    [(0.06, "Ten times the weights take"), (-0.06, "Larger is worse here"), (0.0, "it cannot be told that larger")],
)
def test_what_the_law_says_of_size_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: float, told: str
) -> None:
    monkeypatch.setattr(compared_runs, "PLANTED", planted)
    text = compared(*family(tmp_path)).text
    assert told in text
    assert ("The interval holds 0" in text) == (planted == 0)


def test_one_degree_of_freedom_is_told_as_one() -> None:
    known = [(1e5, [2.0]), (2e5, [1.9]), (4e5, [1.85])]
    told = "".join(_told(law.fit(known), known)).replace("\u00a0", " ")
    assert "(3 sizes, 1 degree of freedom)" in told


def test_runs_of_one_size_are_named_by_themselves_and_have_no_law(tmp_path: Path) -> None:
    page = compared(made(tmp_path, "slow"), made(tmp_path, "fast", ["train.learning_rate=6e-3"]))
    assert "No law is drawn: some of these recipes have the same size, and differ in something else." in page.text
    assert "train.learning_rate" in page.text
    for name in ("slow", "fast"):
        assert name in page.raw[page.raw.index("</header>") :]


def test_a_run_that_was_done_twice_is_one_seed(tmp_path: Path) -> None:
    page = compared(made(tmp_path, "a"), made(tmp_path, "again"))
    assert "They differ in nothing but name and seed." in page.text
    assert "seeds)" not in page.text
    assert "mean of" not in page.text
    (group,) = runs.groups(runs.read([tmp_path / "a", tmp_path / "again"]))
    assert [len(bits) for _, bits in pages.points([group])] == [1]


@pytest.mark.promise("alone")
def test_seeds_alone_are_one_group_on_a_page_that_needs_nothing_outside_itself(tmp_path: Path) -> None:
    page = compared(made(tmp_path, "a"), made(tmp_path, "b", seed=2))
    assert "They differ in nothing but name and seed." in page.text
    assert "No law is drawn: it takes 3 sizes, and here is one." in page.text
    assert not LOADING_TAGS & page.tags
    assert [value for name, value in page.attributes if name in LOADING and not value.startswith("#")] == []
    assert "url(" not in page.raw.lower()


def test_other_tokenizers_are_compared_in_bits_per_byte_and_said_to_be(tmp_path: Path) -> None:
    other = {"tokens/manifest.json": manifest("xxh3:0bff")}
    page = compared(made(tmp_path, "a"), made(tmp_path, "b", ["tokenizer.pieces=8000"], changed=other))
    assert "The runs have different tokenizers." in page.text
    assert "Training loss, bits per byte" in page.text
    assert "Training loss, nats per token" not in page.text
    assert "of different tokenizers, not to be compared" in page.text


def test_other_held_out_text_is_said_and_no_law_is_drawn(tmp_path: Path) -> None:
    runs = family(tmp_path, seeds=(1, 1, 1, 1))
    (runs[2] / "records" / "heldout.json").write_text(json.dumps(heldout_record("xxh3:2")), "utf-8")
    page = compared(*runs)
    assert "The runs were measured on different held-out text." in page.text
    assert "No law is drawn: the runs were measured on different held-out text." in page.text
    assert page.drawings == 4


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        (("evaluations/heldout.json",), "d192-seed1 has not been measured on held-out text yet"),
        (("evaluations/heldout.json", "metrics.jsonl"), "d192-seed1 has not trained yet"),
    ],
)
def test_an_unfinished_run_is_shown_as_far_as_it_is(tmp_path: Path, missing: tuple[str, ...], told: str) -> None:
    runs = family(tmp_path, seeds=(1, 1, 1, 1))
    for name in missing:
        (runs[2] / name).unlink()
    page = compared(*runs)
    assert told in page.text
    assert "No law is drawn: not every run has ended." in page.text
    assert page.headings == SECTIONS


def test_trainings_of_other_lengths_are_said(tmp_path: Path) -> None:
    runs = family(tmp_path, seeds=(1, 1, 1, 1))
    lines = (runs[0] / "metrics.jsonl").read_text("utf-8").splitlines(keepends=True)
    (runs[0] / "metrics.jsonl").write_text("".join(lines[:180]), "utf-8")
    (runs[0] / "tokens" / "mixture.json").write_text("{}", "utf-8")
    page = compared(*runs)
    assert "The runs were not trained on the same number of tokens." in page.text
    assert "No law is drawn: the runs read different numbers of tokens." in page.text


@pytest.mark.parametrize("content", ["{", "3"])
def test_damaged_files_never_stop_the_page(tmp_path: Path, content: str) -> None:
    runs = family(tmp_path, seeds=(1, 1, 0, 0))
    for path in runs[0].rglob("*.json*"):
        path.write_text(content, "utf-8")
    assert compared(*runs).headings == SECTIONS


@pytest.mark.promise("errors")
def test_what_is_no_comparison_is_one_line_and_status_2(tmp_path: Path) -> None:
    run = made(tmp_path, "a")
    (tmp_path / "link").symlink_to(run)
    (tmp_path / "empty").mkdir()
    for folders, told in (
        ((run, tmp_path / "none"), "is not a run folder"),
        ((run, tmp_path / "empty"), "is not a run folder"),
        ((run, tmp_path / "link"), "is given twice"),
        ((run,), "one run alone"),
    ):
        with pytest.raises(InputError, match=told):
            compare.write(folders)
    assert not list(tmp_path.glob("*.html"))


def test_the_command_says_where_the_page_is_writes_the_same_bytes_again_and_changes_no_run(tmp_path: Path) -> None:
    runs = [made(tmp_path, "a"), made(tmp_path, "b", seed=2)]
    before = {path: path.stat().st_mtime_ns for run in runs for path in run.rglob("*")}
    done = CliRunner().invoke(app, ["report", *map(str, runs)])
    assert done.exit_code == 0
    assert done.stdout.strip() == str(tmp_path / "comparison.html")
    out = tmp_path / "pages" / "both.html"
    assert CliRunner().invoke(app, ["report", *map(str, runs), "--out", str(out)]).exit_code == 0
    assert out.read_bytes() == (tmp_path / "comparison.html").read_bytes()
    assert {path: path.stat().st_mtime_ns for run in runs for path in run.rglob("*")} == before
    alone = CliRunner().invoke(app, ["report", str(runs[0]), "--out", str(out)])
    assert isinstance(alone.exception, InputError)
    assert [path.name for path in (tmp_path / "pages").iterdir()] == ["both.html"]
