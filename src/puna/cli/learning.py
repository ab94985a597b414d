"""The command that trains a model of quality by itself, for recipes that bring theirs along: `lm`."""

from __future__ import annotations

from typing import Annotated

import typer

from puna.cli.words import Quiet, epilog, not_empty, show
from puna.errors import InputError

ENDINGS = "0 done, 1 the work failed, 2 wrong input, 130 interrupted."


def add_to(app: typer.Typer) -> None:
    end = epilog(
        "puna lm runs/wikipedia --language en --to models",
        "puna lm runs/wikipedia --language de --to models lm.sample='64 MB'",
        status=ENDINGS,
    )
    app.command("lm", short_help="Train a language's n-gram model for other recipes.", epilog=end)(lm)


def lm(
    documents: Annotated[
        str, typer.Argument(metavar="RUN", callback=not_empty, help="A run, or a folder of document shards.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Values of [lm], and seed, such as lm.order=4.")
    ] = None,
    language: Annotated[
        str, typer.Option("--language", metavar="CODE", callback=not_empty, help="Which documents are learnt from.")
    ] = "en",
    to: Annotated[
        str, typer.Option("--to", metavar="FOLDER", callback=not_empty, help="Where CODE.model and the others go.")
    ] = "models",
    quiet: Quiet = False,
) -> None:
    """Train the pieces and the n-gram model by which web pages in a language are judged, from documents that are there.

    A run's Wikipedia is read, without what it holds out. Writes FOLDER/CODE.model, .arpa, .json and, where KenLM's
    build_binary is on PATH, .binary; a recipe takes them by lm.models.CODE=FOLDER/CODE.
    """
    from puna import recipe as recipes
    from puna import storage
    from puna.data.quality import models
    from puna.progress import configure

    configure(quiet=quiet)
    for word in overrides or ():
        if not word.startswith(("lm.", "seed=")):
            raise InputError(f"{word} is no value of [lm]", mend="give lm.KEY=VALUE, or seed=N")
    recipe = recipes.load("llama-7b", overrides or ())
    folder = storage.place(documents)
    shards = storage.listing(folder / "documents" / "wikipedia", "*.parquet") or storage.listing(folder, "*.parquet")
    if not shards:
        mend = "name a run with documents of wikipedia, or a folder of shards"
        raise InputError("holds no shard of documents", where=documents, mend=mend)
    written = models.train_from(shards, language, storage.place(to), recipe.lm, recipe.seed)
    names = ", ".join(path.name for path in written)
    show(f"{to}: {names}\nA recipe takes them by  lm.models.{language}={to}/{language}")
