"""The commands between Puna's form of a model and those of others: `import` and `export`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from puna.cli.generating import ModelName
from puna.cli.words import Quiet, epilog, not_empty, show
from puna.errors import InputError


class To(StrEnum):
    """What an export is written as: puna.convert.FORMS, which this file must not import for `--help`."""

    hf = "hf"
    gguf = "gguf"
    meta = "meta"
    puna = "puna"


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
        status="0 done, 1 what was written was not what the model is: nothing is left, 2 wrong input.",
    )
    app.command("export", short_help="Write a model as others read it, compared.", epilog=end)(export)


def take(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", callback=not_empty, help="A model's folder or file, as it came.")
    ],
    out: Annotated[
        str, typer.Option("--out", metavar="FOLDER", callback=not_empty, help="Where Puna's folder of it goes.")
    ],
    form: Annotated[To | None, typer.Option("--from", help="Its form; else told by what lies there.")] = None,
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
    to: Annotated[To, typer.Option("--to", help="The form to write.")],
    out: Annotated[str, typer.Option("--out", metavar="PATH", callback=not_empty, help="The folder or file to make.")],
    dtype: Annotated[
        Written | None, typer.Option("--dtype", help="What weights are stored as; else as they are. q*: gguf only.")
    ] = None,
    shard_size: Annotated[
        str, typer.Option("--shard-size", callback=not_empty, help="Of hf: the largest file of weights.")
    ] = "5 GB",
    licence: Annotated[
        str, typer.Option("--licence", metavar="ID", help="Of hf: the card's, as the hub names it (apache-2.0).")
    ] = "",
    ranks: Annotated[int, typer.Option("--ranks", min=1, max=100, help="Of meta: shards of model parallelism.")] = 1,
    require_reader: Annotated[
        bool, typer.Option("--require-reader", help="Fail unless the form's own program is there to read it back.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Write a model in another form, read it back, and compare it with the model before PATH gets its name.

    The form's own program reads it where it is installed (transformers for hf, llama.cpp for gguf), otherwise Puna;
    which one it was is printed. Its logits and token ids on real text must be the model's. When they are not, nothing
    is left on disk and the reason is told.
    """
    from puna.convert import export as convert
    from puna.progress import configure
    from puna.recipe_values import count

    configure(quiet=quiet)
    try:
        size = count(shard_size, "bytes")
    except ValueError:
        raise InputError(f"--shard-size {shard_size} is no size", mend="give one such as '5 GB'") from None
    said = convert(
        model,
        to.value,
        out,
        dtype=dtype and dtype.value,
        require_reader=require_reader,
        shard_size=size,
        licence=licence,
        ranks=ranks,
    )
    show(f"{out}: {said}")
