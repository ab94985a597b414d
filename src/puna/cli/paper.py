"""`puna paper`: the paper, claim by claim: what does it here, what shows it, and the figure with its age."""

from __future__ import annotations

from typing import Annotated

import typer

from puna.cli.words import Json, epilog, none_empty, show, show_json


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    end = epilog("puna paper", "puna paper 2.4 table 15", "puna paper --open", status="0 done, 2 wrong input.")
    app.command("paper", short_help="The paper, claim by claim, with figures.", epilog=end)(paper)


def paper(
    part: Annotated[
        list[str] | None,
        typer.Argument(metavar="PART", callback=none_empty, help="Such as 2.4, B, table 15, figures; else all of it."),
    ] = None,
    unshown: Annotated[bool, typer.Option("--open", help="Only what is not shown, or only on a small scale.")] = False,
    json: Json = False,
) -> None:
    """Go through "LLaMA: Open and Efficient Foundation Language Models" by section, table and figure: what it claims,
    whether that is shown here, and the figure. Of sections that are named also modules, tests and the command.

    Figures come from result files, each made by benchmarks/record.py, with command, commit, machine and date. Their
    age is told, and which modules have changed since. What needs a cluster says so, with what puna plan tells of it.
    docs/paper.md is the same as a page. Runs nothing, writes nothing.
    """
    import datetime

    from puna.paper.ledger import SHOWN, chosen, ledger
    from puna.paper.screen import Account

    known = ledger()
    claims = known.of(chosen(part, known.titles) if part else list(known.titles))
    if unshown:
        claims = [claim for claim in claims if claim.status not in SHOWN]
    account = Account(known, claims, datetime.datetime.now(datetime.UTC).date())
    show_json(account.as_json()) if json else show(account.as_text(whole=bool(part)))
