"""The report tells a run's whole story from its files alone, safely, and the same each time."""

from __future__ import annotations

import copy
import itertools
import json
import os
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna import generate
from puna import recipe as recipes
from puna.errors import InputError
from puna.evaluate.samples import samples as make_samples
from puna.report import facts, figures, markup, write
from puna.report.page import page as page_of
from report_run import jsonl, quality_records, record, run_files, training_lines

SECTIONS = [
    "What went in",
    "Repeats and held-out text",
    "Quality",
    "Tokenizer",
    "Mixture",
    "Loss and learning rate",
    "Throughput",
    "Benchmarks along the training",
    "Samples",
    "Samples before and after finetuning",
    "Bits per byte",
    "Cloze items",
    "Benchmarks",
    "Bias, toxicity and truthfulness",
    "What the data cost",
    "Where the time went",
    "Energy and carbon",
    "Recipe",
    "Versions and machine",
    "Digests",
]
HOSTILE = (
    '</pre></style><script>alert(1)</script><img src="http://evil.example/a">\x00\x1b[31m\u202eevil\u2066\ud800&amp;$x$'
)
LOADING = {"src", "href", "xlink:href", "srcset", "data", "action", "poster", "background"}
LOADING_TAGS = {"script", "link", "img", "iframe", "object", "embed", "base", "image", "use", "foreignobject"}
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a run folder as the steps leave it; `changed` gives files another content, or None: they are missing."""

    def made(changed: dict[str, Any] | None = None) -> Path:
        folder = tmp_path / "läufe" / "laptop"
        for name, content in (run_files() | (changed or {})).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        return folder

    return made


def test_a_finished_run_has_every_section_in_the_order_of_the_story(make: Make) -> None:
    page = Page(make())
    assert page.headings == SECTIONS
    assert page.links == [f"#{section}" for section in page.sections]
    assert "Not there yet" not in page.text
    assert "A LLaMA of" in page.text
    assert page.drawings == 8  # loss, throughput, bits per byte and cloze items, each for a wide and for a narrow page


@pytest.mark.promise("alone")
def test_the_page_needs_nothing_outside_itself(make: Make) -> None:
    page = Page(make())
    assert not LOADING_TAGS & page.tags
    assert [value for name, value in page.attributes if name in LOADING and not value.startswith("#")] == []
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "@import" not in page.raw
    assert "url(" not in page.raw.lower()


@pytest.mark.promise("alone")
def test_nothing_from_outside_becomes_markup_or_stays_unseen(make: Make) -> None:
    files = run_files()
    heldout = files["evaluations/heldout.json"]
    heldout["bits_per_byte"][HOSTILE] = {"model": 1.0, HOSTILE: 2.0}
    one = {"documents": 1, "bytes": 1}
    extract = {
        "kept": one,
        "dropped": {HOSTILE: one | {"examples": [{"key": HOSTILE, "text": HOSTILE}]}},
        "set_aside": {"count": 1, "examples": [dict.fromkeys(("file", "key", "reason"), HOSTILE)]},
    }
    everywhere = {
        "recipe.toml": f"name = {json.dumps(HOSTILE.encode('utf-8', 'ignore').decode())}\n",
        "records/inputs.json": record("inputs", {HOSTILE: [dict.fromkeys(("declared", "version", "digest"), HOSTILE)]}),
        "records/extract.x.json": record(f"extract.{HOSTILE}", extract),
        "records/documents.x.json": files["records/documents.github.json"] | {"step": f"documents.{HOSTILE}"},
        "tokens/mixture.json": {
            "sources": {HOSTILE: {"windows": 1}},
            "missing": {HOSTILE: "0.5"},
            "capped_by": HOSTILE,
        },
        "machine.json": [{HOSTILE: HOSTILE, "versions": {HOSTILE: [HOSTILE]}}],
        "evaluations/heldout.json": heldout | {"checkpoint": HOSTILE},
        "evaluations/cloze.json": {"results": {HOSTILE: files["evaluations/cloze.json"]["results"]["wikipedia"]}},
        "evaluations/cloze_items.json": {
            "sources": {HOSTILE: {"items": [{"passage": HOSTILE, "choices": [HOSTILE], "right": 0}]}}
        },
        "evaluations/samples.json": {"samples": [{"prompt": HOSTILE, "text": HOSTILE}, {"prompt": "", "text": "א\r"}]},
    }
    page = Page(make(everywhere))
    assert page.headings == SECTIONS
    assert not LOADING_TAGS & page.tags
    assert page.text.count("<script>alert(1)</script>") > 12
    assert "U+202E" in page.text
    assert [character for character in page.raw if markup.is_unseen(character)] == []


def test_an_empty_folder_gives_a_page_that_names_what_is_missing(tmp_path: Path) -> None:
    page = Page(tmp_path)
    assert page.headings == SECTIONS
    assert "A run that has not trained yet" in page.text
    for file in (
        "records/inputs.json",
        "records/tokenizer.json",
        "tokens/mixture.json",
        "metrics.jsonl",
        "recipe.toml",
    ):
        assert file in page.text


def test_a_folder_that_is_not_there_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such run folder"):
        write(tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("step", ["extract.wikipedia", "documents.github", "tokenizer", "train"])
def test_a_run_on_its_way_tells_what_it_has_and_what_is_under_way(make: Make, step: str) -> None:
    begun = {"format": 1, "step": step, "fingerprint": "00"}
    later = dict.fromkeys(("metrics.jsonl", "machine.json", "evaluations/heldout.json", "evaluations/samples.json"))
    page = Page(make(later | {f"records/{step}.json": None, f"records/{step}.begun.json": begun}))
    assert page.headings == SECTIONS
    assert f"Begun and not ended when this page was written: {step}." in page.text
    assert "Not there yet" in page.text
    assert "6.3\u00a0MB" in page.text  # an input's size: what is done is told all the same


@pytest.mark.parametrize("content", ["{", "[]", "3", '[{"step": 1, "loss": "x", "tokens": []}]', "\x00"])
def test_damaged_files_never_stop_the_report(make: Make, content: str) -> None:
    assert Page(make(dict.fromkeys(run_files(), content))).headings == SECTIONS


def test_no_value_of_another_shape_stops_the_report(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for drawing in ("loss", "throughput", "bits", "shares"):
        monkeypatch.setattr(figures, drawing, lambda *given: markup.Html(""))
    folder, others = make(), itertools.cycle((None, "x", [1], {"x": 1}, -1e400))
    every = 1 if os.environ.get("PUNA_EVERY_STATE") else 4  # of some 750 pages
    for name, whole in run_files().items():
        if not name.endswith(".json"):
            continue
        for changed in itertools.islice(with_each_value_changed(whole, others), None, None, every):
            (folder / name).write_text(json.dumps(changed), "utf-8")
            assert "<h2>Digests</h2>" in page_of(facts.read(folder))
        (folder / name).write_text(json.dumps(whole), "utf-8")


def test_the_same_files_give_the_same_bytes_whatever_the_settings_and_the_folder(make: Make, tmp_path: Path) -> None:
    folder = make()
    first = write(folder).read_bytes()
    (folder / "records" / "report.json").write_text(json.dumps(record("report", {}, seconds=3.0)), "utf-8")
    with matplotlib.rc_context({"font.size": 30, "axes.grid": True, "svg.fonttype": "path"}):
        assert write(folder).read_bytes() == first
    assert write(folder.rename(tmp_path / "elsewhere")).read_bytes() == first


def test_what_text_was_filtered_by_is_told_with_its_figures(make: Make) -> None:
    text = Page(make()).text.replace("\u00a0", " ")
    for figure in ("1.4 MB", "1,204 times: all rights reserved 0000", "280.2", "311.2", "0.812", "64.0 %", "97.0 %"):
        assert (figure in text) == (figure not in ("64.0 %", "97.0 %")), figure  # the recipe asks for no threshold
    assert "of 204 hosts that it never saw" in text
    assert "is the sky of mars blue" in text
    off = record("reference", {"off": "3 of 9,000 pages are cited by Wikipedia"})
    text = Page(make({"records/reference.json": off})).text
    assert "is off, and drops nothing: 3 of 9,000 pages are cited by Wikipedia." in text


def test_what_a_recipe_filters_by_and_a_run_has_not_got_to_is_named(make: Make) -> None:
    asked = recipes.load("web", ['sources.commoncrawl.inputs=["a.wet"]', 'data.exclude=["example.org"]'])
    none = {f"records/{one['step']}.json": None for one in quality_records()}
    extract = {"records/extract.commoncrawl.json": record("extract.commoncrawl", {"kept": {}})}
    text = Page(make(none | extract | {"recipe.toml": recipes.as_toml(asked)})).text
    for step in ("lines.commoncrawl", "language.commoncrawl", "buckets.commoncrawl", "reference"):
        assert f"records/{step}.json" in text
    assert "records/near.books.json" not in text
    assert "The recipe asks for no filter" in Page(make(none)).text


def test_examples_that_no_list_can_be_compared_with_are_hidden_where_there_is_one(make: Make) -> None:
    text = Page(make({"recipe.toml": recipes.as_toml(recipes.load("web", ['data.exclude=["example.org"]']))})).text
    assert "45,000" in text
    assert "all rights reserved" not in text
    assert "sky of mars" not in text
    assert "64.0\u00a0%" in text  # at the score that this recipe asks for


def test_a_training_under_way_is_not_called_a_model(make: Make) -> None:
    assert "in training: step 50 of 120" in Page(make({"metrics.jsonl": jsonl(training_lines(50))})).text


def test_the_headline_says_plainly_which_baselines_are_better(make: Make) -> None:
    scores = {"all": {"model": 2.0, "xz": 2.5, "ngram": 2.1}, "github": {"model": 1.5, "xz": 1.6, "xz_primed": 1.25}}
    text = Page(make({"evaluations/heldout.json": {"bits_per_byte": scores}})).text
    assert "All held-out text: 2.000 bits per byte, fewer than every baseline" in text
    assert "5-gram, needs 2.100 (5.0\u00a0% more)" in text
    assert "github: 1.500 bits per byte. The model does not beat xz primed (1.250); it beats xz alone." in text
    alone = Page(make({"evaluations/heldout.json": {"bits_per_byte": dict.fromkeys(("all", "github"), scores["all"])}}))
    assert "All held-out text" not in alone.text
    assert alone.text.count("needs 2.100") == 1


def test_cloze_items_are_told_with_their_errors_and_shown_with_what_was_answered(make: Make) -> None:
    text = Page(make()).text.replace("\u00a0", " ")
    for told in ("67.5 ± 1.2", "55.2 ± 1.2", "+12.2 ± 1.2", "26.5 ± 1.2", "3 passages did not fit the model's context"):
        assert told in text
    assert "wikipedia: … was born in the [river / city (model) / island (n-gram) / valley]" in text
    assert "github: … was born in the [river (model) / city / island / valley]" in text
    none = Page(make({"evaluations/cloze.json": {"format": 1, "results": {}, "picked": {}}})).text
    assert "The held-out text gives no items, or the recipe asks for none." in none
    hidden = recipes.as_toml(recipes.load("laptop", ['data.exclude=["example.org"]']))
    assert "was born in the" not in Page(make({"recipe.toml": hidden})).text


def test_every_prompt_is_continued_once_unselected_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def continued(prompt: str, **values: Any) -> str:
        asked.append((prompt, values))
        return f"text {len(asked)}"

    loaded = SimpleNamespace(generate=continued, folder=tmp_path / "checkpoints" / "step-000007")
    monkeypatch.setattr(generate, "load", lambda folder, device: loaded)
    recipe = recipes.load("laptop", ['samples.prompts=["a", "", "a"]', "samples.seed=5", "samples.tokens=9"])
    result = make_samples(tmp_path, recipe)
    values = {"tokens": 9, "temperature": recipe.samples.temperature, "top_p": recipe.samples.top_p}
    assert asked == [(prompt, values | {"seed": seed}) for prompt, seed in (("a", 5), ("", 6), ("a", 7))]
    assert [one["text"] for one in result["samples"]] == ["text 1", "text 2", "text 3"]
    assert result == json.loads((tmp_path / "evaluations" / "samples.json").read_bytes())
    assert (result["format"], result["checkpoint"]) == (1, "step-000007")


def test_a_long_training_stays_a_small_page_and_keeps_its_spikes(make: Make) -> None:
    lines = training_lines(30_000)
    lines[17_123]["loss"] = 8.0
    short, long = (write(make({"metrics.jsonl": jsonl(some)})).stat().st_size for some in (lines[:1200], lines))
    assert long < 2 * short
    curve = facts.read(make({"metrics.jsonl": jsonl(lines)})).curve
    assert curve is not None
    kept = figures.thinned(curve.loss)
    assert len(kept) <= 1000
    assert 17_123 in kept


def test_a_training_of_one_step_or_without_a_finite_loss_is_told(make: Make) -> None:
    assert Page(make({"metrics.jsonl": jsonl(training_lines(1))})).drawings == 8
    lines = [line | {"loss": None, "skipped": True} for line in training_lines(70)]
    page = Page(make({"metrics.jsonl": jsonl(lines) + '{"step": 71, "lo'}))
    assert "Steps not taken, since loss or gradient was not finite or the loss a spike: 70." in page.text


def test_spikes_and_held_out_loss_on_the_way_are_told(make: Make) -> None:
    worst = {"id": "0" * 31 + "9", "source": "wikipedia", "window": 5, "tokens": 32, "loss": 8.25}
    spike = {"step": 9, "loss": 4.5, "median": 2.25, "action": "rewind", "back_to": 8, "documents": [worst]}
    odd = [{"step": 10, "spike": spike}, {"step": 9, "spike": "odd"}, {"step": 9, "heldout": [1]}]
    measure = {"step": 20, "heldout": {"wikipedia": {"bits_per_byte": 1.5}, "all": {"bits_per_byte": 1.625}}}
    text = Page(make({"metrics.jsonl": jsonl([*training_lines(30), *odd, measure])})).text
    assert "4.500" in text
    assert "9, at 8.250" in text
    assert "went back to step 8" in text
    assert "1.625" in text
    assert "No loss was a spike." in Page(make({"metrics.jsonl": jsonl(training_lines(30))})).text


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")), min_size=1, max_size=200))
def test_smoothing_is_the_mean_over_the_neighbours_that_are_there(values: list[float]) -> None:
    half = figures.span(len(values)) // 2
    for index, mean in enumerate(figures.smoothed(np.array(values))):
        near = [value for value in values[max(0, index - half) : index + half + 1] if value == value]
        assert np.isnan(mean) if not near else abs(mean - sum(near) / len(near)) < 1e-3


@settings(deadline=None, max_examples=100)
@given(st.text())
def test_shown_text_reads_as_it_was_with_codes_for_what_cannot_be_seen(text: str) -> None:
    reader = Page.__new__(Page)
    reader.read(f"<p>{markup.shown(text)}</p>")
    assert reader.text == "".join(f"U+{ord(c):04X}" if markup.is_unseen(c) else c for c in text)
    assert markup.element("p", text) == f"<p>{markup.shown(text)}</p>"


def test_numbers_carry_their_unit() -> None:
    with_plain_spaces = [
        text.replace("\u00a0", " ")
        for text in (
            markup.amount(3_150_000, "parameters"),
            markup.amount(1.4e12, "tokens"),
            markup.amount(999_600),
            markup.amount(12),
            markup.count(12345, "steps"),
            markup.percent(0.12345),
            markup.percent(0.0001),
            markup.percent(0),
            markup.seconds(0.84),
            markup.seconds(0.01),
            markup.seconds(205),
            markup.size(None),
        )
    ]
    assert with_plain_spaces == [
        *("3.15 M parameters", "1.40 T tokens", "1.00 M", "12", "12,345 steps"),
        *("12.3 %", "< 0.1 %", "0.0 %", "0.8 s", "< 0.1 s", "3 min 25 s", "–"),
    ]


class Page(HTMLParser):
    """A written report as a browser would read it."""

    def __init__(self, folder: Path) -> None:
        self.read(write(folder).read_text("utf-8"))

    def read(self, raw: str) -> None:
        super().__init__()
        self.raw, self.text = raw, ""
        self.headings: list[str] = []
        self.sections: list[str] = []
        self.links: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.tags: set[str] = set()
        self.drawings = 0
        self._open = ""
        self.feed(raw)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self._open = tag
        self.tags.add(tag)
        self.attributes += named.items()
        self.drawings += tag == "svg"
        if tag == "section":
            self.sections.append(named["id"])
        if tag == "a":
            self.links.append(named["href"])

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._open == "h2":
            self.headings.append(data)
        self._open = ""


def with_each_value_changed(whole: Any, others: Iterator[Any]) -> Iterator[Any]:
    """`whole` with each value inside it, one at a time, replaced by the next of `others`."""
    if isinstance(whole, dict | list):
        for key in whole if isinstance(whole, dict) else range(len(whole)):
            for changed in [next(others), *with_each_value_changed(whole[key], others)]:
                made = copy.copy(whole)
                made[key] = changed
                yield made
