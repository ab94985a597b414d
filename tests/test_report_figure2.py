"""Figure 2 of a run: what is drawn are the numbers of curve.json, in the report and as a file of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from puna.evaluate import watching
from puna.report import facts, figure2, figures, write

NAMES = ("piqa-0", "triviaqa-5", "hellaswag-0", "mine-0")  # in another order than the paper's; the last is lm-eval's


def _rows(checkpoints: int = 4) -> list[dict[str, Any]]:
    rows = []
    for number in range(1, checkpoints + 1):
        row: dict[str, Any] = {"step": 10 * number, "tokens": 4_000_000 * number}
        row |= {"loss": 5.0 - 0.7 * number**0.5, "bits_per_byte": 3.0 - 0.3 * number**0.7}
        for place, name in enumerate(NAMES):
            row[name] = {"mean": 0.2 + 0.05 * place + 0.03 * number, "error": None if name == "mine-0" else 0.01}
        rows.append(row)
    return rows


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "evaluations" / "benchmarks"
    folder.mkdir(parents=True)
    _write(folder, _rows())
    return tmp_path / "run"


def _write(folder: Path, rows: list[dict[str, Any]]) -> None:
    value = {"format": 1, "rows": rows, "correlations": watching.correlations(rows)}
    (folder / "curve.json").write_text(json.dumps(value))


@pytest.mark.parametrize("narrow", [False, True])
def test_what_is_drawn_are_the_numbers_of_the_file(run: Path, narrow: bool) -> None:
    told = json.loads((run / "evaluations/benchmarks/curve.json").read_text())
    found = figure2.panels(told)
    assert [each.name for each in found] == ["triviaqa-5", "hellaswag-0", "piqa-0", "mine-0", "loss", "bits_per_byte"]
    figure = Figure()
    figure2._draw(figure, found, narrow)
    drawn = [axes for axes in figure.axes if axes.axison]
    assert len(drawn) == len(found)
    for axes, panel in zip(drawn, found, strict=True):
        line = axes.lines[0]
        values = [row[panel.name] for row in told["rows"]]
        means = [100 * each["mean"] if isinstance(each, dict) else each for each in values]
        assert line.get_xdata() == pytest.approx([row["tokens"] / 1e6 for row in told["rows"]])
        assert line.get_ydata() == pytest.approx(means)
        band = next(patch for patch in axes.patches if isinstance(patch, Polygon)).get_xy()
        half = 1.0 if isinstance(values[0], dict) and values[0]["error"] else 0.0
        assert band[: len(values), 1] == pytest.approx(np.array(means) - half)
        assert band[len(values) : 2 * len(values), 1] == pytest.approx(np.array(means[::-1]) + half)
        level = [each.get_ydata()[0] for each in axes.lines if to_hex(each.get_color()) == figures.MUTED]
        assert level == {"hellaswag-0": [25.0], "piqa-0": [50.0]}.get(panel.name, [])
        low, high = axes.get_ylim()
        assert low < min(means + level) <= max(means + level) < high
        r = told["correlations"]["bits per byte"].get(panel.name)
        assert axes.get_title(loc="right") == ("" if r is None else f"r \N{MINUS SIGN}{-r:.2f}")


def test_where_llama_ended_is_told_and_drawn_where_it_lies_within(run: Path) -> None:
    rows = _rows()
    for row in rows:
        row["piqa-0"]["mean"] += 0.46
    found = figure2.panels({"rows": rows, "correlations": {}})
    piqa = next(each for each in found if each.name == "piqa-0")
    assert piqa.ends == (("LLaMA 7B", 79.8), ("LLaMA 65B", 82.8))
    figure = Figure()
    figure2._draw(figure, [piqa], False)
    assert [text.get_text() for text in figure.axes[0].texts] == ["LLaMA 7B"]
    said = figure2.caption({"rows": rows}, found)
    assert "LLaMA 7B and LLaMA 65B ended with: TriviaQA, 5-shot 56.3 and 72.6; HellaSwag, 0-shot 76.1 and 84.2" in said


def test_the_report_and_the_file_hold_it_in_the_colours_of_the_page(run: Path) -> None:
    page = write(run).read_text()
    section = page[page.index('<section id="benchmarks">') : page.index('<section id="samples">')]
    assert section.count("<svg") == 2  # wide and narrow
    r = json.loads((run / "evaluations/benchmarks/curve.json").read_text())["correlations"]["loss"]["piqa-0"]
    assert f"\N{MINUS SIGN}{-r:.2f}" in section
    drawn = figure2.write(run)
    assert drawn == run / "evaluations" / "benchmarks" / "curve.svg"
    text = drawn.read_text()
    assert text.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert text.count("--accent:") == 2
    assert "prefers-color-scheme: dark" in text
    assert "var(--accent)" in text
    assert "<use" not in text  # what it would refer to is cut out
    before = text
    figure2.write(run)
    assert drawn.read_text() == before


def test_few_checkpoints_and_other_shapes_are_told_and_stop_nothing(run: Path) -> None:
    folder = run / "evaluations" / "benchmarks"
    _write(folder, _rows(1))
    assert "from three checkpoints on" in figure2.section(facts.read(run))
    for rows in ([], [{"step": 1, "tokens": None, "piqa-0": {"mean": 0.5, "error": None}}], [{"tokens": 5, "loss": 1}]):
        _write(folder, []) if not rows else (folder / "curve.json").write_text(json.dumps({"rows": rows}))
        assert "No benchmark was asked of its checkpoints" in figure2.section(facts.read(run))
        assert figure2.write(run) is None
