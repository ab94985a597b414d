"""What a layer that ranks share computes while its collectives are under way, by the events of a tracing group.

A test sees the order in which one program begins collectives, runs matmuls and waits: none of it depends on a clock.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

import typed
from puna.errors import InputError
from puna.model import modes
from puna.model.config import ModelConfig
from puna.model.llama import Llama
from puna.model.rotary import rope_table
from puna.model.weights import initialise
from puna.parallel.formula import sent_bytes
from puna.parallel.tensor import cut
from puna.parallel.tracing import Collective, Operation, Operations, TracedGroup, hidden, stood, traced_group
from puna.train.speed.overlap import Asked, Overlap, Timed, asked_of, traces
from puna.train.speed.timeline import chrome_trace, picture
from ranks import Ranks

pytestmark = pytest.mark.usefixtures("one_thread")

Group = Callable[[int], Ranks]
CONFIG = ModelConfig(dim=32, heads=8, kv_heads=4, layers=1, hidden=40, vocabulary=61, context=16)


@pytest.mark.parametrize("windows", [1, 3])
@pytest.mark.parametrize("mode", ["hand", "lean"])
@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.prove)])
def test_every_collective_but_the_last_has_a_matmul_between_its_begin_and_the_wait_for_it(
    ranks: Group, proved: Any, mode: str, windows: int, count: int
) -> None:
    for trace in traces(ranks(count).run(traced_layer, count, mode, windows)):
        seen = [hidden(each, trace.operations) for each in trace.collectives]
        assert len(trace.forward) == 7
        assert len(trace.backward) == 9
        assert seen == [True] * 6 + [False] + [True] * 9  # the last of the forward pass has no matmul left
    proved(f"{count} ranks, {mode}, {windows} windows: 15 of 16 collectives of a layer run beside a matmul")


@pytest.mark.parametrize("mode", ["reference", "selective", "full", "hand", "lean"])
def test_a_layer_sends_the_bytes_of_the_formula(ranks: Group, mode: str) -> None:
    for trace in traces(ranks(2).run(traced_layer, 2, mode, 3)):
        sent = sum(each.sent for each in trace.forward), sum(each.sent for each in trace.backward)
        assert sent == sent_bytes(CONFIG.dim, 3 * CONFIG.context, 2, 4, mode)


def test_autograd_s_layer_waits_for_each_collective_at_once(ranks: Group) -> None:
    for trace in traces(ranks(2).run(traced_layer, 2, "reference", 1)):
        assert not any(hidden(each, trace.operations) for each in trace.collectives)


def test_a_collective_is_hidden_by_a_whole_matmul_before_the_wait_and_by_nothing_else() -> None:
    collective = Collective("gather", 1, begun=1.0, ended=9.0, asked=5.0, got=9.0)
    assert hidden(collective, [Operation("mm", 2.0, 3.0)])
    for other in (("mm", 0.5, 3.0), ("mm", 4.0, 6.0), ("mm", 6.0, 7.0), ("add", 2.0, 3.0)):
        assert not hidden(collective, [Operation(*other)])
    assert collective.exposed == 4.0


def test_what_is_stood_of_delays_is_where_a_wait_and_a_delay_meet() -> None:
    first = Collective("gather", 1, begun=0.0, started=0.0, moved=1.0, ended=3.0, asked=2.0, got=3.0)
    second = Collective("reduce", 1, begun=0.5, started=3.0, moved=4.0, ended=6.0, asked=3.5, got=6.0)
    third = Collective("gather", 1, begun=0.6, started=6.0, moved=6.5, ended=8.5, asked=9.0, got=9.0)
    assert stood([first, second, third]) == 1.0 + 2.0 + 0.0
    late = Collective("gather", 1, begun=0.7, started=8.5, moved=8.5, ended=8.5, asked=5.0, got=8.5)
    assert stood([second, third, late]) == pytest.approx(2.0 + 1.0 + 2.0)


def test_a_tracing_group_delays_and_tells_the_error_of_a_collective(ranks: Group) -> None:
    for longest, error in ranks(2).run(delayed_and_failed):
        assert longest >= 0.05
        assert "invalid tensor size" in error


def test_the_picture_and_the_trace_hold_every_collective_of_every_rank(ranks: Group) -> None:
    found = found_of(ranks)
    root = ElementTree.fromstring(picture(found))
    titles = [each.text or "" for each in root.iter("{http://www.w3.org/2000/svg}title")]
    assert any(title.startswith("mm") or title.startswith("addmm") for title in titles)
    events = json.loads(json.dumps(chrome_trace(found)))["traceEvents"]
    for rank in range(2):
        mine = [each for each in events if each["pid"] == rank and each.get("cat") == "collective"]
        assert [each["name"] for each in mine] == [each.name for each in found.traces[rank].collectives]
        assert sum(each["args"]["sent_bytes"] for each in mine) == sum(found.sent())
    assert all(each["dur"] >= 0 for each in events if each["ph"] == "X")
    assert len([each for each in events if each["ph"] == "M"]) == 6


def test_what_is_said_is_what_was_measured(ranks: Group) -> None:
    found = found_of(ranks)
    told = found.as_json()
    assert told["sent_bytes"] == told["formula_bytes"]
    assert told["layer"]["growth"] == pytest.approx((1.3 - 1.0) / (16 * 0.02))
    text = found.as_text()
    assert told["layer"]["stood_share"] == pytest.approx(0.25)
    assert "stood in 25% of the 16 delays; the fastest grew by 94% of them" in text
    assert len([line for line in text.splitlines() if line.startswith(("forward", "backward"))]) == 16


@pytest.mark.promise("errors")
@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("tiny-15m", {"ranks": 4}, "mesh: heads = 6 cannot be cut over 4 ranks"),
        ("tiny-15m", {"mode": "quick"}, "--layer: no mode is named quick; choose one of reference"),
        ("tiny-15m", {"ranks": 3}, "--ranks: a window of 256 tokens does not divide by 3 ranks"),
    ],
)
def test_what_cannot_be_measured_is_refused(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        asked_of(name, **{"ranks": 2, "windows": 1, "mode": "hand", "delay": 0.0, "rounds": 1, **changes})


def test_a_file_in_the_place_of_the_folder_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    code, out, err = typed.said(capsys, "bench", "overlap", "tiny-15m", "--out", str(tmp_path / "file"))
    assert (code, out) == (2, "")
    assert re.fullmatch(r"error: --out .*/file: a file, not a folder; give another one\n", err)


@pytest.mark.prove
def test_the_command_measures_and_writes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "puna", "bench", "overlap", "tiny-15m", "--rounds", "1", "--delay", "1", "--json"]
    done = subprocess.run([*command, "--out", str(tmp_path / "out")], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["sent_bytes"] == told["formula_bytes"]
    assert [each["hidden"] for each in told["collectives"]] == [True] * 6 + [False] + [True] * 9
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "overlap-delayed.json",
        "overlap.json",
        "overlap.svg",
    ]


@pytest.mark.prove
def test_nothing_of_the_picture_lies_outside_it_in_a_browser(ranks: Group, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium on PATH")
    sync = pytest.importorskip("playwright.sync_api")
    (tmp_path / "overlap.svg").write_text(picture(found_of(ranks)))
    inside = """() => {
        const whole = document.documentElement.getBoundingClientRect();
        return [...document.querySelectorAll("rect, text, line")].filter(each => {
            const box = each.getBoundingClientRect();
            return box.left < whole.left - 1 || box.right > whole.right + 1 || box.bottom > whole.bottom + 1;
        }).map(each => each.outerHTML);
    }"""
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1640, "height": 700})
        page.goto((tmp_path / "overlap.svg").as_uri())
        assert page.evaluate(inside) == []
        browser.close()


def found_of(ranks: Group) -> Overlap:
    config, traced = CONFIG, traces(ranks(2).run(traced_layer, 2, "hand", 1))
    timed = Timed([1.0, 1.4], [1.5, 1.3], [0.08, 0.08], 16)
    return Overlap(Asked(config, 2, 1, "hand"), traced, traced, timed, None)


@cache
def group_of(count: int) -> TracedGroup:
    return traced_group()


def traced_layer(count: int, mode: Any, windows: int) -> dict[str, Any]:
    group = group_of(count)
    model = Llama(CONFIG)
    initialise(model, seed=1)
    cut(model, DeviceMesh.from_group(group, "cpu", mesh_dim_names=("tensor",)))
    modes.use(model, mode, compiles=False)
    rope = rope_table(CONFIG.context, CONFIG.head_dim, CONFIG.rope_base)
    x = torch.randn(windows, CONFIG.context // count, CONFIG.dim, requires_grad=True)
    group.noted.clear()
    with Operations() as noted:
        y = model.layers[0](x, rope, None, None)
        turned = max([each.ended for each in noted.all] + [each.got for each in group.noted])
        y.backward(torch.ones_like(y))
    operations = [(each.name, each.begun, each.ended) for each in noted.all]
    times = [min(each.begun for each in noted.all), turned, max(each.ended for each in noted.all)]
    return {"times": times, "collectives": [asdict(each) for each in group.noted], "operations": operations}


def delayed_and_failed() -> tuple[float, str]:
    group = group_of(2)
    group.delay = 0.05
    group.barrier().wait()
    group.delay = 0.0
    longest = group.noted[-1].ended - group.noted[-1].started
    work = dist.all_gather_single(torch.empty(3), torch.empty(5), group=group, async_op=True)
    try:
        work.wait()
    except RuntimeError as error:
        return longest, str(error)
    return longest, ""
