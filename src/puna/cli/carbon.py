"""`puna carbon`: what a run took in energy and carbon, and the paper's Table 15."""

from __future__ import annotations

from typing import Annotated

import typer

from puna.cli.words import Json, RunFolder, epilog, show, show_json


def add_to(app: typer.Typer) -> None:
    end = epilog(
        "puna carbon runs/laptop", "puna carbon runs/laptop --watts 65 --cores 16", status="0 done, 2 wrong input."
    )
    app.command("carbon", short_help="Energy and CO2 of a run; Table 15.", epilog=end)(carbon)


def carbon(
    run: RunFolder,
    watts: Annotated[
        float | None, typer.Option(min=0.1, help="Stated power of the processors together, in watts.")
    ] = None,
    cores: Annotated[
        int | None,
        typer.Option(min=1, help="Hardware threads with these watts together; else the machine's that did it."),
    ] = None,
    json: Json = False,
) -> None:
    """Tell the energy and the CO2 equivalent of a run, or of a finetuning, by stage, data and evaluation among them.

    Measured where the machine counts its energy and lets it be read (RAPL, NVML); else by the paper's formula with the
    stated power of the processor, --watts or carbon.watts; else unknown, and never a zero. Grid intensity and PUE are
    the recipe's, 0.385 kg a kWh and 1.1 by default, as in the paper's section 6. Writes nothing.
    """
    from puna import storage
    from puna.cost import carbon as accounts

    found = accounts.account(storage.place(run), watts=watts, cores=cores)
    if json:
        show_json(found.as_json())
    else:
        show(accounts.as_text(found))
