"""Loss spikes: seen, named, skipped or gone back before, with the same bits after any history."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import made_training as made
from made_tokens import document
from puna import recipe as recipes
from puna import storage, trace
from puna.errors import Interrupted, PunaError
from puna.tokens.windows import Windows
from puna.train import checkpoint, history
from puna.train.callbacks import Callback, Step, Training
from puna.train.position import Position, first_window, joined, step_that_reads
from puna.train.spikes import FLOOR, judged, parts, remembered
from trained_again import At, Killed, killed_at_random

STEPS = 40
SETTINGS = (
    f"train.steps={STEPS}",
    "train.learning_rate=0.01",
    "train.spike_window=8",
    "train.spike_score=5",
    "train.checkpoint_every=5",
    "train.dtype=float32",  # on a processor that computes in bfloat16, what is traced is not what was computed to 1e-5
)
POISONED, SPIKE = 9, 29  # the document of random bytes, and the step that reads its second window
MARGIN = "train.spike_margin=2"


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.make(tmp_path_factory.mktemp("tokens"), *SETTINGS, poisoned=[POISONED])


@pytest.fixture
def folder(tokens: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tokens, tmp_path / "run"))


@pytest.fixture(scope="module")
def ended(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An undisturbed training for each of what is done about spikes."""
    found = {}
    for action in ("observe", "skip", "rewind"):
        found[action] = Path(shutil.copytree(tokens, tmp_path_factory.mktemp(action) / "run"))
        run(found[action], action)
    return found


def run(folder: Path, action: str, *overrides: str, **options: Any) -> dict[str, Any]:
    return made.run(folder, *SETTINGS, f"train.spike={action}", *overrides, **options)


def losses(folder: Path) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in made.metrics(folder)}


def spikes(folder: Path) -> list[dict[str, Any]]:
    return [line["spike"] for line in made.told(folder) if "spike" in line]


def test_a_poisoned_document_is_named_by_the_spike_it_causes(ended: dict[str, Path]) -> None:
    for action, folder in ended.items():
        (spike,) = spikes(folder)
        assert (spike["step"], spike["action"]) == (SPIKE, action)
        assert spike["documents"][0]["id"] == document(POISONED)
        assert spike["documents"][0]["loss"] > 2 * spike["loss"]
        assert spike["read"][0] <= spike["documents"][0]["window"] < spike["read"][1]


def test_trace_names_it_too_with_what_it_cost_and_where_it_is_from(ended: dict[str, Path]) -> None:
    for action, folder in ended.items():
        found = trace.step(str(folder), SPIKE)
        first = found.documents[0]
        assert first.document.id == document(POISONED)
        assert first.document.origin.title == f"Page {POISONED}"
        assert (first.by, first.passed_over) == ("the step", action == "rewind")
        assert first.loss == spikes(folder)[0]["documents"][0]["loss"]
        assert [read.loss for read in found.documents] == sorted((r.loss for r in found.documents), reverse=True)
        assert "loss   " in found.as_text()
        assert json.loads(json.dumps(found.as_json()))["documents"][0]["loss"]["by"] == "the step"


@pytest.mark.parametrize("documents", ["packed", "masked"])
def test_trace_computes_what_was_not_recorded_with_the_checkpoint_before(folder: Path, documents: str) -> None:
    seen = f"train.documents={documents}"
    (folder / "recipe.toml").write_text(recipes.as_toml(made.recipe(*SETTINGS, seen)))
    run(folder, "observe", "train.keep=9", seen)
    found = trace.step(str(folder), 26)
    windows = Windows(folder)
    assert found.windows == (100, 104)
    read = {part.document for window in range(100, 104) for part in windows.documents(window)}
    assert {one.document.id for one in found.documents} == read
    assert {one.by for one in found.documents} == {"step-000025"}
    # Behind step 25 stand the very weights by which step 26 measured its loss.
    mean = sum(one.loss * one.tokens for one in found.documents) / sum(one.tokens for one in found.documents)
    assert mean == pytest.approx(losses(folder)[26], rel=1e-5)
    assert np.mean(found.window_losses) == pytest.approx(losses(folder)[26], rel=1e-5)
    assert all(one.loss is None for one in trace.step(str(folder), 26, recorded=True).documents)
    assert trace.step(str(folder), 3).documents[0].by == "step-000005"  # the oldest there is, and that is told


def test_skipping_recovers_the_loss_and_changes_no_weight(ended: dict[str, Path]) -> None:
    folder = ended["skip"]
    assert [line["step"] for line in made.metrics(folder) if line["skipped"]] == [SPIKE]
    state = storage.read_json(folder / "checkpoints" / f"step-{STEPS:06d}" / "state.json")
    assert state["skipped"] == [[4 * (SPIKE - 1), 4 * SPIKE]]
    assert (state["step"], state["taken"]) == (STEPS, STEPS - 1)
    calm = median(losses(folder)[step] for step in range(SPIKE - 4, SPIKE))
    assert all(losses(folder)[step] < calm + 0.1 for step in range(SPIKE + 1, STEPS + 1))


def test_a_rewind_passes_over_what_was_read_since_the_checkpoint(ended: dict[str, Path]) -> None:
    folder = ended["rewind"]
    (spike,) = spikes(folder)
    assert (spike["back_to"], spike["rewound"]) == (25, [100, 116])
    state = storage.read_json(folder / "checkpoints" / f"step-{STEPS:06d}" / "state.json")
    assert (state["rewound"], state["rewinds"], state["skipped"]) == ([[100, 116]], 1, [])
    assert (state["step"], state["taken"], state["cursor"]) == (STEPS, STEPS, 4 * STEPS + 16)
    assert sorted(losses(folder)) == list(range(1, STEPS + 1))
    assert len(made.metrics(folder)) == STEPS
    assert losses(folder).keys() == losses(ended["observe"]).keys()
    assert all(losses(folder)[step] == losses(ended["observe"])[step] for step in range(1, 26))
    assert all(losses(folder)[step] < 1.2 for step in range(26, STEPS + 1))
    for step in (25, 26, STEPS):
        found = history.window_losses(folder / "losses.jsonl", step)
        assert found is not None
        assert found.first == 4 * (step - 1) + (16 if step > 25 else 0)
        assert found.nats.mean() == pytest.approx(losses(folder)[step], rel=1e-6)


def test_trace_of_a_document_leaves_out_what_was_passed_over(ended: dict[str, Path]) -> None:
    steps = {action: trace.documents(str(folder), [document(POISONED)]) for action, folder in ended.items()}
    assert SPIKE in steps["observe"].documents[0].steps
    assert SPIKE not in steps["rewind"].documents[0].steps
    assert steps["rewind"].trained == STEPS
    everything = trace.documents(str(ended["rewind"]), [document(number) for number in range(20)])
    for step in (1, 25, 26, STEPS):
        read = {one.document.id for one in trace.step(str(ended["rewind"]), step, recorded=True).documents}
        assert read == {one.document.id for one in everything.documents if step in one.steps}


def test_a_margin_reads_the_steps_before_it_again_to_the_same_losses(folder: Path, ended: dict[str, Path]) -> None:
    run(folder, "rewind", MARGIN)
    (spike,) = spikes(folder)
    assert (spike["back_to"], spike["rewound"]) == (25, [104, 116])
    assert all(losses(folder)[step] == losses(ended["observe"])[step] for step in range(1, 27))
    found = history.window_losses(folder / "losses.jsonl", 27)
    assert found is not None
    assert found.first == 116


@pytest.mark.parametrize("action", ["skip", "rewind"])
@pytest.mark.parametrize("number", [SPIKE, SPIKE + 2])
def test_a_stop_before_at_and_behind_the_spike_changes_no_bit(
    folder: Path, ended: dict[str, Path], action: str, number: int
) -> None:
    seen: list[int] = []

    def leave(training: Training) -> None:
        if not seen:
            os.kill(os.getpid(), signal.SIGTERM)
        seen.append(training.position.step)

    with pytest.raises(Interrupted):
        run(folder, action, callbacks=[At(number, gradients=leave)])
    if (action, number) == ("rewind", SPIKE):  # the checkpoint that it went back to was not written anew
        assert storage.read_json(folder / "checkpoints" / "step-000025" / "state.json")["rewound"] == []
    run(folder, action)
    assert made.result(folder, STEPS) == made.result(ended[action], STEPS)
    assert spikes(folder) == spikes(ended[action])


def test_a_rewind_from_an_older_checkpoint_or_none_gives_the_same_bits(folder: Path, ended: dict[str, Path]) -> None:
    for oldest in ("step-000025", "step-000000"):

        def lose(training: Training, oldest: str = oldest) -> None:
            for path in (folder / "checkpoints").iterdir():
                if path.name >= oldest:
                    shutil.rmtree(path)

        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        run(folder, "rewind", callbacks=[At(SPIKE, gradients=lose)])
        assert made.result(folder, STEPS) == made.result(ended["rewind"], STEPS)
        assert spikes(folder) == spikes(ended["rewind"])


def test_a_rewind_waits_for_the_checkpoint_under_way_and_uses_none_of_those_behind_it(
    folder: Path, ended: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    spiked, found = threading.Event(), []
    save, remove_behind = checkpoint.save, checkpoint.remove_behind

    def held(place: Path, **given: Any) -> Any:
        if given["position"].step == SPIKE - 1 and not spiked.is_set():
            assert spiked.wait(60)
        return save(place, **given)

    def look(*given: Any) -> None:
        found.extend(path.name for path in (folder / "checkpoints").iterdir() if path.name.startswith("step-"))
        remove_behind(*given)

    monkeypatch.setattr(checkpoint, "save", held)
    monkeypatch.setattr(checkpoint, "remove_behind", look)
    at_spike = At(SPIKE, gradients=lambda _: spiked.set())
    run(folder, "rewind", f"train.keep_every={SPIKE - 1}", "train.save=beside", callbacks=[at_spike])
    assert f"step-{SPIKE - 1:06d}" in found  # it stood, whole, before the training went back
    assert made.result(folder, STEPS) == made.result(ended["rewind"], STEPS)


def test_killed_right_behind_a_rewind_it_goes_back_again(folder: Path, ended: dict[str, Path]) -> None:
    class Dying(Callback):
        def step(self, training: Training, step: Step) -> None:
            if step.rewound:
                raise Killed

    with pytest.raises(Killed):
        run(folder, "rewind", callbacks=[Dying()])
    run(folder, "rewind")
    assert made.result(folder, STEPS) == made.result(ended["rewind"], STEPS)
    assert spikes(folder) == spikes(ended["rewind"])


def test_too_many_rewinds_end_the_training_in_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from puna.train import loop

    monkeypatch.setattr(loop, "judged", lambda loss, before, train: (1.0, 0.1, 9.0) if len(before) == 8 else None)
    with pytest.raises(PunaError, match=r"at step 9 is a spike, and training went back 2 times before; puna trace"):
        run(folder, "rewind", "train.max_rewinds=2")
    rewound = [spike["rewound"] for spike in spikes(folder)]
    assert rewound == [[20, 36], [36, 52]]


def test_patience_is_no_part_of_the_result_so_that_more_of_it_goes_on() -> None:
    from puna.train.result import of_the_result

    for action in ("skip", "rewind"):
        plain, patient = (
            of_the_result(made.recipe(f"train.spike={action}", *more).model_dump(mode="json")["train"])
            for more in ([], ["train.max_rewinds=99", "train.max_nonfinite=99"])
        )
        assert plain == patient
        assert plain["max_nonfinite"] == 10  # as in the records of earlier versions


def test_too_many_skipped_spikes_in_a_row_end_the_training(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from puna.train import loop

    monkeypatch.setattr(loop, "judged", lambda *_: (1.0, 0.1, 9.0))
    with pytest.raises(PunaError, match=r"not finite, or the loss a spike, in 3 steps in a row, up to step 3"):
        run(folder, "skip", "train.max_nonfinite=2")


def test_what_is_done_about_spikes_is_part_of_the_result_only_where_it_acts() -> None:
    from puna.train.result import of_the_result

    def values(*overrides: str) -> dict[str, Any]:
        return of_the_result(made.recipe(*overrides).model_dump(mode="json")["train"])

    plain = values()
    assert not {name for name in plain if "spike" in name or "rewind" in name or "every" in name}
    assert values("train.spike_score=3", "train.keep_every=8", "train.hang_minutes=1", "train.save=beside") == plain
    assert values("train.spike=skip").keys() - plain.keys() == {"spike", "spike_window", "spike_score"}
    added = {"spike", "spike_window", "spike_score", "spike_margin", "checkpoint_every"}
    assert values("train.spike=rewind").keys() - plain.keys() == added


@pytest.mark.promise("twins")
@settings(deadline=None, max_examples=200)
@given(st.lists(st.floats(0.1, 12), min_size=4, max_size=40), st.floats(0.1, 20))
def test_the_score_is_what_the_definition_says(before: list[float], loss: float) -> None:
    train = made.recipe(f"train.spike_window={len(before)}", "train.spike_score=3").train
    middle = float(np.median(before))
    spread = max(FLOOR, 1.4826 * float(np.median(np.abs(np.array(before) - middle))))
    found = judged(loss, before, train)
    if abs((loss - middle) / spread - 3) > 1e-6:
        assert (found is not None) == ((loss - middle) / spread > 3)
    if found is not None:
        assert found == pytest.approx((middle, spread, (loss - middle) / spread))
    assert judged(loss, before[1:], train) is None
    assert remembered(loss, before, train) == (*before[1:], loss)
    assert remembered(float("nan"), before, train) == tuple(before)


@pytest.mark.promise("twins")
@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 6)), max_size=5), st.integers(1, 4))
def test_which_step_reads_which_window_is_what_reading_one_by_one_gives(
    drawn: list[tuple[int, int]], windows: int
) -> None:
    ranges = joined((first * windows, (first + length) * windows) for first, length in drawn)
    gone = {window for first, end in ranges for window in range(first, end)}
    here, read = Position(rewound=ranges), []
    for step in range(1, 40):
        first = here.next
        assert first == first_window(step, windows, ranges)
        here = here.after(windows=windows, tokens=1, loss=1.0)
        for window in range(first, here.cursor):
            assert step_that_reads(window, windows, ranges) == step
            read.append(window)
    assert read == [window for window in range(max(read) + 1) if window not in gone]
    assert all(step_that_reads(window, windows, ranges) is None for window in gone)
    assert here == Position.from_json(json.loads(json.dumps(here.as_json())))


@pytest.mark.promise("twins")
def test_parts_score_every_token_once(tokens: Path) -> None:
    windows = Windows(tokens)
    nats = np.random.default_rng(1).random((6, windows.context)).astype(np.float32)
    found = parts(windows, 3, nats)
    assert sum(part["tokens"] for part in found) == nats.size
    total = sum(part["loss"] * part["tokens"] for part in found)
    assert total == pytest.approx(float(nats.sum()), rel=1e-5)
    for part in found:
        ids = windows.documents(part["window"])
        own = [nats[part["window"] - 3][t - 1] for one in ids if one.document == part["id"]
               for t in range(max(1, one.first), one.last)]  # fmt: skip
        assert part["loss"] == pytest.approx(float(np.mean(own)), rel=1e-4)


@pytest.mark.prove
@pytest.mark.parametrize("action", ["skip", "rewind"])
def test_killed_at_random_around_a_spike_no_bit_changes(
    folder: Path, ended: dict[str, Path], action: str, proved: Callable[[str], None]
) -> None:
    kills = killed_at_random(folder, 7, *SETTINGS, f"train.spike={action}", "train.save=beside")
    assert made.result(folder, STEPS) == made.result(ended[action], STEPS)
    assert spikes(folder) == spikes(ended[action])
    proved(f"{kills} kills at random in a training whose spike is answered by {action}")
