"""A run with checkpoints of a tiny model that has random weights: what an evaluation needs, without a training."""

from __future__ import annotations

import json
from pathlib import Path

import made_model
from puna import storage
from puna.model.weights import write_model


def begin(folder: Path) -> Path:
    """A run that has not begun to train."""
    storage.write(folder / "recipe.toml", b'name = "run"\n')
    storage.write(folder / "tokenizer" / "tokenizer.model", made_model.tokenizer().model)
    return folder


def land(run: Path, step: int, *, whole: bool = True, context: int = 100) -> Path:
    """A checkpoint, whose last file tells that it is whole; and its line of metrics."""
    folder = run / "checkpoints" / f"step-{step:06d}"
    model = made_model.llama(seed=step, context=context)
    write_model(folder, model.config, model.state_dict(), tokenizer=made_model.tokenizer().digest)
    if whole:
        names = ("config.json", "model.safetensors")
        files = {name: {"digest": storage.digest(folder / name), "size": storage.size(folder / name)} for name in names}
        storage.write_json(folder / "checkpoint.json", {"format": 1, "step": step, "fingerprint": "", "files": files})
        with (run / "metrics.jsonl").open("a") as file:
            lines = (
                {"loss": 9 - step / 10, "tokens": 100 * step},
                {"heldout": {"all": {"bits_per_byte": 3 - step / 100}}},
            )
            file.writelines(json.dumps({"format": 1, "step": step, **line}) + "\n" for line in lines)
    return folder
