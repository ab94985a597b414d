"""The lines of metrics.jsonl in TensorBoard, Weights & Biases and MLflow, for who looks at many trainings there.

metrics.jsonl is what counts: a tracker that fails is said once and gets no more lines, and training goes on. Each
package is an extra, loaded when a recipe's `log_to` names it. A training that goes on is one run there too, found by
an id of chance that lies in the run folder, so that the same recipe in two folders is two runs; steps that a kill or a
rewind made come again are logged again, which TensorBoard shows in place of the earlier ones and MLflow beside them,
and which Weights & Biases leaves out.

Nothing reaches the network but what the named package does by its own settings: WANDB_MODE=offline, MLFLOW_TRACKING_URI
(without it MLflow writes into the run folder); TensorBoard writes files only, into RUN/tensorboard.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from puna import recipe as recipes
from puna import storage
from puna.errors import InputError
from puna.progress import say
from puna.recipe import Recipe
from puna.storage import Place
from puna.train.callbacks import Callback, Training
from puna.train.extras import refuse_missing

__all__ = ["open_all", "refuse_missing", "scalars"]

LEFT_OUT = ("step", "format")
IDS = "trackers.json"


def open_all(recipe: Recipe, folder: Place) -> list[Callback]:
    """A callback for each of the recipe's `log_to`. InputError when one cannot write where the run lies."""
    if recipe.train.log_to and storage.is_remote(folder):
        mend = "give a run folder on this machine with --out, or leave it out"
        raise InputError("trackers write next to a run on this machine only", where="train.log_to", mend=mend)
    kinds: dict[str, type[Tracker]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases, "mlflow": MLflow}
    return [kinds[name](recipe, Path(str(folder))) for name in recipe.train.log_to]


class Tracker(Callback):
    """Gives every line to a tracker, as scalars by name."""

    name = ""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe, self.folder = recipe, folder
        self.broken = False

    def start(self, training: Training) -> None:
        self._try(lambda: self.open(training))

    def line(self, training: Training, line: Mapping[str, Any]) -> None:
        found = dict(scalars(line))
        if found:
            self._try(lambda: self.log(int(line["step"]), found))

    def end(self, training: Training) -> None:
        self._try(self.close)

    def open(self, training: Training) -> None:
        """Begin a run there, or go on with one."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Give it the scalars of a step."""

    def close(self) -> None:
        """End the run there."""

    def _try(self, work: Callable[[], None]) -> None:
        if self.broken:
            return
        try:
            work()
        except Exception as error:  # whatever a tracker raises: training is worth more than its log
            self.broken = True
            told = (str(error).strip() or type(error).__name__).splitlines()[0]
            say(f"{self.name} does not take what is logged ({told[:200]}); training goes on without it")


class TensorBoard(Tracker):
    name = "TensorBoard"

    def open(self, training: Training) -> None:
        from torch.utils.tensorboard import SummaryWriter

        place = str(self.folder / "tensorboard")
        self._writer: Any = SummaryWriter(place, purge_step=training.position.step + 1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases(Tracker):
    name = "Weights & Biases"

    def open(self, training: Training) -> None:
        import wandb

        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "puna"),
            name=self.recipe.name,
            id=run_id(self.folder, training.fingerprint),
            resume="allow",
            dir=str(self.folder),
            config=recipes.chosen(self.recipe),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class MLflow(Tracker):
    name = "MLflow"

    def open(self, training: Training) -> None:
        import mlflow

        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", "puna")
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            here = self.folder.absolute()
            mlflow.set_tracking_uri(f"sqlite:///{here / 'mlflow.db'}")
            if mlflow.get_experiment_by_name(experiment) is None:  # else its files go where the command was given
                mlflow.create_experiment(experiment, artifact_location=(here / "mlruns").as_uri())
        mlflow.set_experiment(experiment)
        own = run_id(self.folder, training.fingerprint)
        tag = f"tags.puna_run = '{own}'"
        found = mlflow.search_runs(filter_string=tag, output_format="list", max_results=1)
        if found:
            mlflow.start_run(run_id=found[0].info.run_id)
        else:
            mlflow.start_run(run_name=self.recipe.name, tags={"puna_run": own})
            mlflow.log_dict(recipes.chosen(self.recipe), "recipe.json")
        self._log: Any = mlflow.log_metrics
        self._end: Any = mlflow.end_run

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._log(dict(values), step=step)

    def close(self) -> None:
        self._end()


def run_id(folder: Path, fingerprint: str) -> str:
    """The id, 32 hexadecimal digits, of the training with this fingerprint in this run folder: drawn once and kept in
    trackers.json. A file that is broken is made anew, and the training is then another run there."""
    path = folder / IDS
    try:
        known = storage.read_json(path)
    except InputError:
        known = {}
    ids = {key: value for key, value in known.items() if isinstance(value, str)} if isinstance(known, dict) else {}
    if fingerprint not in ids:
        ids[fingerprint] = uuid.uuid4().hex
        storage.write_json(path, ids)
    return ids[fingerprint]


def scalars(line: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, float]]:
    """(name, value) of the numbers in a line of metrics.jsonl; those in tables as `table/name`."""
    for name, value in line.items():
        if isinstance(value, Mapping):
            yield from scalars(value, f"{above}{name}/")
        elif isinstance(value, bool | int | float) and (above or name not in LEFT_OUT):
            yield above + name, float(value)
