"""The commands between Puna's form of a model and those of others: `import` and `export`, which pushes too."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from puna.cli.generating import ModelName
from puna.cli.words import Quiet, epilog, not_empty, show
from puna.errors import InputError


class From(StrEnum):
    """The forms of models: puna.convert.FORMS, which this file must not import for `--help`."""

    hf = "hf"
    gguf = "gguf"
    meta = "meta"
    puna = "puna"


class To(StrEnum):
    """What an export is written as: a form of models, or a data set."""

    hf = "hf"
    gguf = "gguf"
    meta = "meta"
    puna = "puna"
    dataset = "dataset"


class Stored(StrEnum):
    f32 = "f32"
    bf16 = "bf16"
    f16 = "f16"


class Written(StrEnum):
    f32 = "f32"
    bf16 = "bf16"
    f16 = "f16"
    q8_0 = "q8_0"
    q4_0 = "q4_0"


def add_to(app: typer.Typer) -> None:
    end = epilog(
        "puna import SmolLM2-135M.gguf --out models/smollm2",
        "puna generate models/smollm2 'The '",
        status="0 done, 1 failed, 2 no model that is known, or a damaged one.",
    )
    app.command("import", short_help="Take in a model of Hugging Face, GGUF or Meta.", epilog=end)(take)
    end = epilog(
        "puna export runs/laptop --to hf --out laptop-hf",
        "puna export runs/laptop --to gguf --dtype q8_0 --out laptop.gguf",
        "puna export runs/laptop --to dataset --out laptop-text",
        "puna export runs/laptop --to hf --out laptop-hf --push OWNER/laptop",
        status="0 done, 1 what was written was not what the model is (nothing is left), or the hub refused, 2 wrong "
        "input, 130 interrupted: again, a push goes on.",
    )
    app.command("export", short_help="Write a model or documents as others read them.", epilog=end)(export)


def take(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", callback=not_empty, help="A model's folder or file, as it came.")
    ],
    out: Annotated[
        str, typer.Option("--out", metavar="FOLDER", callback=not_empty, help="Where Puna's folder of it goes.")
    ],
    form: Annotated[From | None, typer.Option("--from", help="Its form; else told by what lies there.")] = None,
    dtype: Annotated[
        Stored | None, typer.Option("--dtype", help="What weights are stored as; else as they are.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Take a model in: FOLDER then is a model that generate, chat, serve and export take, beside origin.json, which
    tells what it was made from.

    Reads SOURCE alone, executes nothing in it, and refuses in one line what is damaged, lies about its sizes, or is no
    LLaMA. Quantised weights become f32.
    """
    from puna.convert import take as convert
    from puna.progress import configure

    configure(quiet=quiet)
    parts = convert(source, out, form=form and form.value, dtype=dtype and dtype.value)
    count = sum(tensor.numel() for tensor in parts.state.values())
    show(f"{out}: {count:,} parameters, {parts.tokenizer.vocabulary:,} pieces\nTry it:  puna generate {out} 'The '")


def export(
    model: ModelName,
    to: Annotated[To, typer.Option("--to", help="The form to write; dataset: the documents of a run.")],
    out: Annotated[str, typer.Option("--out", metavar="PATH", callback=not_empty, help="The folder or file to make.")],
    dtype: Annotated[
        Written | None, typer.Option("--dtype", help="What weights are stored as; else as they are. q*: gguf only.")
    ] = None,
    shard_size: Annotated[
        str, typer.Option("--shard-size", callback=not_empty, help="Of hf: the largest file of weights.")
    ] = "5 GB",
    licence: Annotated[
        str, typer.Option("--licence", metavar="ID", help="Of hf, dataset: the card's, by the hub's name (apache-2.0).")
    ] = "",
    train_only: Annotated[
        bool, typer.Option("--train-only", help="Of dataset: without what is held out, which is else its split test.")
    ] = False,
    ranks: Annotated[int, typer.Option("--ranks", min=1, max=100, help="Of meta: shards of model parallelism.")] = 1,
    require_reader: Annotated[
        bool, typer.Option("--require-reader", help="Fail unless the form's own program is there to read it back.")
    ] = False,
    push: Annotated[
        str | None,
        typer.Option("--push", metavar="OWNER/NAME", callback=not_empty, help="Of hf, dataset: send it to a hub, too."),
    ] = None,
    hub: Annotated[
        str | None,
        typer.Option("--hub", metavar="URL", callback=not_empty, help="The hub; else HF_ENDPOINT, or Hugging Face's."),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="With --push: for everybody to read; else private.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --push: do not ask whether to.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write a model in another form, read it back, and compare it with the model before PATH gets its name.

    The form's own program reads it where it is installed (transformers for hf, llama.cpp for gguf), otherwise Puna;
    which one it was is printed. Its logits and token ids on real text must be the model's. When they are not, nothing
    is left on disk and the reason is told.

    dataset writes the documents of a run as Parquet with a card, by source, and reads every row back.

    --push then says what would be sent, and where to, and asks. The token is HF_TOKEN, or that of `hf auth login`. When
    PATH is there already, it is compared again and pushed, so that the same command goes on where a push ended.
    """
    from puna.progress import configure
    from puna.recipe_values import count

    configure(quiet=quiet)
    try:
        size = count(shard_size, "bytes")
    except ValueError:
        raise InputError(f"--shard-size {shard_size} is no size", mend="give one such as '5 GB'") from None

    def write() -> str:
        if to is To.dataset:
            from puna import publish

            return publish.write(model, out, licence=licence, heldout=not train_only)
        from puna.convert import card
        from puna.convert import export as convert
        from puna.publish import model_card

        return convert(
            model,
            to.value,
            out,
            dtype=dtype and dtype.value,
            require_reader=require_reader,
            shard_size=size,
            licence=licence,
            card=model_card.of(model) if to is To.hf else card.text,
            ranks=ranks,
        )

    def check() -> str:
        if to is To.dataset:
            from puna import publish

            return publish.check(model, out, heldout=not train_only)
        from puna.convert import check as compare

        return compare(model, to.value, out, dtype=dtype and dtype.value, require_reader=require_reader)

    if to is To.dataset and (dtype or require_reader):
        raise InputError("documents have no --dtype and no --require-reader", mend="leave them out")
    if push is None:
        if hub or public or yes:
            raise InputError("--hub, --public and --yes go with --push", mend="give --push OWNER/NAME, or none of them")
        show(f"{out}: {write()}")
        return
    if to not in (To.hf, To.dataset):
        raise InputError(f"--push goes with --to hf and --to dataset, not {to.value}", mend="push it by other means")
    _push(write, check, Path(out), push, to, hub, licence=licence, public=public, yes=yes)


def _push(
    write: Callable[[], str],
    check: Callable[[], str],
    out: Path,
    name: str,
    to: To,
    hub: str | None,
    *,
    licence: str,
    public: bool,
    yes: bool,
) -> None:
    """Export unless that is done, compare, ask, and push."""
    from puna import publish
    from puna.progress import say, tell

    if not yes and not sys.stdin.isatty():
        raise InputError("there is no terminal to ask on whether to push", mend="give --yes")
    destination = publish.destination(name, "dataset" if to is To.dataset else "model", hub)
    with publish.begin(destination, public=public) as beginning:
        verified = check() if out.exists() else write()
        show(f"{out}: {verified}")
        push = beginning.of(out, verified)
        if licence and push.licence != licence:  # what lies there was exported with another
            what = f"its card says {push.licence or 'nothing'} of the licence, not {licence}"
            raise InputError(what, where=str(out / "README.md"), mend="edit it, or remove the export")
        (say if yes else tell)(push.as_text())
        if not yes and not _agreed():
            show("nothing was pushed")
            return
        show(push.go())


def _agreed() -> bool:
    from puna.progress import tell

    tell("Push it? y or n")
    return sys.stdin.readline().strip().lower() in ("y", "yes")
