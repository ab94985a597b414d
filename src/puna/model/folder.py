"""Where a model lies: a run's newest checkpoint, a checkpoint, what `puna import` or `puna finetune` made; and its
tokenizer's file."""

from __future__ import annotations

from puna import storage
from puna.errors import InputError
from puna.model.weights import latest_checkpoint
from puna.storage import Location, Place


def find(model: Location) -> tuple[Place, Place]:
    """The checkpoint folder and the tokenizer's file that `model` names; InputError when it names none.

    A checkpoint's tokenizer stands in it, or in the run that it lies in.
    """
    folder = storage.place(model)
    if not storage.exists(folder):
        raise InputError("no such folder", where=str(model), mend="give a run folder or a checkpoint folder")
    if storage.is_file(folder / "finetune.json"):
        folder = folder / "model"
        if not storage.is_folder(folder):
            raise InputError("this finetuning has not ended", where=str(model), mend="the same puna finetune goes on")
    if storage.is_file(folder / "checkpoint.json") or storage.is_file(folder / "config.json"):
        checkpoint = folder.absolute()
    elif storage.is_file(folder / "recipe.toml") or storage.is_folder(folder / "checkpoints"):
        checkpoint = latest_checkpoint(folder).absolute()
    else:
        raise InputError("is neither a run nor a checkpoint", where=str(model), mend="give the folder of one of them")
    places = [checkpoint / "tokenizer.model", checkpoint / "tokenizer.json"]
    for place in (*places, checkpoint.parent.parent / "tokenizer" / "tokenizer.model"):
        if storage.is_file(place):
            return checkpoint, place
    raise InputError("has no tokenizer.model", where=str(checkpoint), mend="put the model's tokenizer.model into it")
