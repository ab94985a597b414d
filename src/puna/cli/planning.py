"""The command that tells what a run will need before anything is spent. What it tells is made in `puna.plan`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from puna.cli.words import Json, Overrides, epilog, not_empty, show, show_json
from puna.errors import InputError

if TYPE_CHECKING:
    from puna.plan.gpus import Gpu

PAPERS = ("llama-7b", "llama-13b", "llama-33b", "llama-65b")
ENDINGS = "0 done, 2 wrong input, or nothing that fits."


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    examples = ("puna plan llama-65b --gpus 2048", "puna plan --table --gpus 512 --gpu H100-80GB")
    end = epilog(*examples, "puna plan llama-13b --serve --gpu V100-32GB", status=ENDINGS)
    app.command("plan", short_help="What a run will need: memory, days, MWh, money.", epilog=end)(plan)


def plan(
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE", callback=not_empty, help="A recipe's name (laptop, llama-7b, ...) or file."),
    ] = None,
    overrides: Overrides = None,
    gpus: Annotated[
        int | None, typer.Option("--gpus", min=1, max=1_000_000, help="GPUs; else 8, or 1 with --serve.")
    ] = None,
    gpu: Annotated[
        str, typer.Option("--gpu", metavar="KIND", callback=not_empty, help="Their kind; --gpu list shows all.")
    ] = "A100-80GB",
    mesh: Annotated[
        str | None,
        typer.Option("--mesh", metavar="RxSxT[xP]", callback=not_empty, help="Replicate, shard, tensor, pipeline (1)."),
    ] = None,
    price: Annotated[
        float | None, typer.Option("--price", min=0, help="Dollars a GPU hour; else a listed one.")
    ] = None,
    table: Annotated[bool, typer.Option("--table", help="The paper's four sizes beside each other.")] = False,
    serve: Annotated[bool, typer.Option("--serve", help="Writing text with the model, not training it.")] = False,
    batch: Annotated[int | None, typer.Option("--batch", min=1, help="With --serve: most sequences together.")] = None,
    json: Json = False,
) -> None:
    """Tell what training a recipe would need on GPUs that need not be here: weights, FLOP of a token, memory of a GPU
    by tensor, the fastest mesh that fits, tokens a second, days, MWh, tCO2eq and money.

    Computed from the model's shapes and from rates that others published; nothing is run. docs/plan.md has the
    formulas, how far they were from what was published, and the sources of every number. Writes nothing.
    """
    from puna.plan import gpus as kinds

    if gpu == "list":
        show_json({name: kinds.gpu(name).as_json() for name in kinds.gpus()}) if json else show(kinds.listed())
        return
    kind = kinds.gpu(gpu)
    if price is not None and not math.isfinite(price):
        raise InputError(f"--price takes dollars, not {price}")
    if batch is not None and not serve:
        raise InputError("--batch is of --serve", mend="add --serve, or set train.batch")
    if mesh is not None and (table or serve):
        raise InputError(f"--mesh and {'--table' if table else '--serve'} do not go together", mend="take one of them")
    if table:
        _table(recipe, overrides, kind, gpus or 8, price, serve, json)
    elif recipe is None:
        raise InputError("RECIPE is missing", mend="name one, such as llama-7b, or give --table")
    elif serve:
        _serve(recipe, overrides, kind, gpus or 1, batch, json)
    else:
        _plan(recipe, overrides, kind, gpus or 8, mesh, price, json)


def _plan(
    name: str, overrides: list[str] | None, kind: Gpu, gpus: int, mesh: str | None, price: float | None, json: bool
) -> None:
    from puna import recipe as recipes
    from puna.plan import planned, screen

    found = planned.plan(recipes.load(name, overrides or ()), kind, gpus, price=price, mesh=_mesh(mesh, gpus))
    show_json(found.as_json()) if json else show(screen.as_text(found))


def _table(
    first: str | None, rest: list[str] | None, kind: Gpu, gpus: int, price: float | None, serve: bool, json: bool
) -> None:
    from puna import recipe as recipes
    from puna.plan import planned, screen

    if serve:
        raise InputError("--table and --serve do not go together", mend="take one of them")
    overrides = [word for word in (first, *(rest or ())) if word is not None]
    if wrong := next((word for word in overrides if "=" not in word), None):
        raise InputError(
            f"--table is of the paper's recipes, and {wrong} is no KEY=VALUE", mend="leave one of them out"
        )
    plans: list[planned.Plan | str] = []
    for name in PAPERS:
        recipe = recipes.load(name, overrides)
        try:
            plans.append(planned.plan(recipe, kind, gpus, price=price))
        except InputError as error:
            plans.append(str(error))
    if json:
        pairs = zip(PAPERS, plans, strict=True)
        told = [{"recipe": name, "why": found} if isinstance(found, str) else found.as_json() for name, found in pairs]
        show_json({"format": planned.FORMAT, "plans": told})
        return
    names = [name.removeprefix("llama-").upper() for name in PAPERS]
    show(screen.table(plans, names, f"LLaMA on {gpus:,} x {kind.name}"))


def _serve(name: str, overrides: list[str] | None, kind: Gpu, gpus: int, batch: int | None, json: bool) -> None:
    from puna import recipe as recipes
    from puna.model.config import ModelConfig
    from puna.plan import planned, screen
    from puna.plan.serving import serving

    recipe = recipes.load(name, overrides or ())
    config = ModelConfig.from_recipe(recipe, recipe.tokenizer.pieces)
    rows = serving(config, kind, gpus, most=batch)
    if json:
        forms = [row.as_json() for row in rows]
        show_json({"format": planned.FORMAT, "recipe": recipe.name, "gpu": kind.name, "gpus": gpus, "forms": forms})
    else:
        head = f"{recipe.name} writing text on {gpus:,} x {kind.name}"
        show(screen.serving_table(rows, head, config.context))
    if not any(row.fits for row in rows):
        what = f"it does not fit on {gpus:,} x {kind.name} in any form"
        raise InputError(what, where=recipe.name, mend="give more --gpus, or a --gpu with more memory")


def _mesh(text: str | None, gpus: int) -> tuple[int, int, int, int] | None:
    """replicate, shard, tensor, pipeline of `--mesh`; a missing pipeline is 1."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) not in (3, 4) or not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        mend = "a fourth number is the stages of a pipeline"
        raise InputError(f"--mesh takes replicate x shard x tensor, such as 1x64x8, not {text}", mend=mend)
    replicate, shard, tensor, pipeline = (*map(int, parts), *([1] * (4 - len(parts))))
    if replicate * shard * tensor * pipeline != gpus:
        raise InputError(f"--mesh {text} has {replicate * shard * tensor * pipeline:,} ranks, and --gpus are {gpus:,}")
    return replicate, shard, tensor, pipeline
