"""`puna evaluate`: the paper's benchmarks over a model, and the paper's tables with its row."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from puna.cli.generating import DType, ModelName, use_threads
from puna.cli.words import Json, Threads, epilog, not_empty, one_of, show, show_json
from puna.errors import InputError

if TYPE_CHECKING:
    from puna.evaluate.others import Others
    from puna.evaluate.run import Wanted
    from puna.evaluate.tables import Table
    from puna.evaluate.task import Judge
    from puna.storage import Place

EXAMPLES = (
    "puna evaluate runs/laptop --tables 3,9",
    "puna evaluate runs/laptop --tasks boolq,triviaqa --shots 5 --limit 200",
    "puna evaluate smollm --tasks humaneval --samples 10 --allow-code",
    "puna evaluate runs/laptop --tasks mine --include tasks",
    "puna evaluate runs/laptop --watch --tasks hellaswag,piqa --limit 500",
)


def add_to(app: typer.Typer) -> None:
    status = "0 done, 1 the work failed, 2 wrong input or benchmarks that are not there, 130 interrupted and resumable."
    app.command("evaluate", short_help="The paper's benchmarks and tables.", epilog=epilog(*EXAMPLES, status=status))(
        evaluate
    )


def evaluate(
    model: ModelName,
    tasks: Annotated[
        str | None, typer.Option(callback=not_empty, help="Names of tasks, with commas between; of lm-eval's too.")
    ] = None,
    tables: Annotated[
        str | None, typer.Option(callback=not_empty, help="Tables of the paper, such as 3,9; their tasks are asked.")
    ] = None,
    data: Annotated[
        str, typer.Option(metavar="FOLDER", callback=not_empty, help="Holds the benchmarks' release files.")
    ] = "benchmarks",
    include: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", callback=not_empty, help="Holds tasks for lm-eval, as its --include_path."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many items of each task.")] = None,
    shots: Annotated[int | None, typer.Option(min=0, max=256, help="Examples; else as many as the paper.")] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Samples of an item, where the paper draws many.")
    ] = None,
    norm: Annotated[str | None, typer.Option(help="Rank by char, token, answer or none; else as the paper.")] = None,
    toxicity: Annotated[
        str | None,
        typer.Option(callback=not_empty, help="perspective, MODULE:FUNCTION, or a FILE of lines of text and score."),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(callback=not_empty, help="Of TruthfulQA: two models, TRUTH,HELP, or a FILE of judgements."),
    ] = None,
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Run programs of the model, in a cage.")] = False,
    compare: Annotated[
        bool, typer.Option("--compare/--no-compare", help="Look for the items in the documents that a run trained on.")
    ] = True,
    watch: Annotated[
        bool, typer.Option("--watch", help="Ask each checkpoint of a run as it lands, until its training ends.")
    ] = False,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", metavar="FOLDER", callback=not_empty, help="For answers and tables; else beside the model."
        ),
    ] = None,
    dtype: DType = "f32",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Ask a model the paper's benchmarks, and print the paper's tables with its row.

    Reads release files below --data, wherever they lie. Keeps every answer in --out as it comes: stopped at any moment,
    the same command goes on, and another norm or table asks nothing twice. Writes results.json, tables.md and
    tables.tex there. Of a run, items that stand in its training documents are counted, and the score without them is
    told; that pass over the documents is made once. Reaches no network, but for --toxicity perspective, which needs a
    key in PERSPECTIVE_API_KEY. Without --tasks and --tables: every task whose files are there. A name that is not among
    these tasks is looked up in --include and in lm-eval (extra eval), whose data must be on this machine. Prompts and
    protocol: docs/evaluate.md.
    """
    from puna import storage
    from puna.evaluate import asking, results
    from puna.evaluate.task import NORMS
    from puna.evaluate.watching import watch as watched

    if norm is not None:
        one_of("--norm", norm, NORMS)
    if watch and (out or json):
        raise InputError("--watch writes into the run", mend="leave --out and --json out")
    chosen, shown, unknown = _chosen(tasks, tables, storage.place(data), shots, judged=judge is not None)
    others = _others(unknown, include, shots, limit) if unknown or include else None
    if threads:
        use_threads(threads)
    asked = asking.Asking(
        chosen,
        shown,
        storage.place(data),
        lambda folder: _outside(toxicity, judge, allow_code, folder),
        limit,
        next((each for each in NORMS if each == norm), None),
        samples,
        dtype,
        _hours if toxicity == "perspective" else None,
        compare,
        others,
        _named(toxicity, judge),
        present=not (tasks or tables),
    )
    if watch:
        from puna.report import figure2

        for each in watched(storage.place(model), asked):
            drawn = figure2.write(storage.place(model))
            show(f"{each.name}\n{asking.as_text(each)}" + (f"\nDrawn    {drawn}" if drawn else ""))
        return
    found = asking.ask(model, asked, storage.place(out) if out else None)
    if json:
        show_json(results.as_json(found.folder, found.name, found.results, found.tables, found.others))
        return
    show(asking.as_text(found))


def _chosen(
    tasks: str | None, tables: str | None, data: Place, shots: int | None, *, judged: bool
) -> tuple[list[Wanted], list[Table], list[str]]:
    """What is asked, the tables that are shown, and the names that the pack does not have."""
    from puna.evaluate.run import Wanted
    from puna.evaluate.tables import numbered, wanted
    from puna.evaluate.tasks import PACK
    from puna.testsets import look

    shown = numbered(tables) if tables else []
    if shots is not None and tables and not tasks:
        what = f"--shots {shots} says nothing of --tables, whose columns have the paper's examples"
        raise InputError(what, mend="name tasks with --tasks, or leave it out")
    names = [word.strip() for word in (tasks or "").split(",") if word.strip()]
    if tasks and not names:
        raise InputError(f"--tasks {tasks} names none", mend=f"there are {', '.join(PACK)}")
    unknown = list(dict.fromkeys(name for name in names if name not in PACK))
    names = [name for name in names if name in PACK]
    # Table 14 has multiple choice too, which needs nobody.
    pairs = [pair for pair in wanted(shown) if judged or PACK[pair[0]].needs != "truth"]
    if not names and not shown and not unknown:
        there = {name for name, _ in look(data).files}
        names = [name for name, task in PACK.items() if task.benchmark in there and not task.needs]
        if not names:
            what = f"holds what needs --tasks alone: {', '.join(sorted(there))}" if there else "holds no benchmark"
            mend = (
                "name tasks with --tasks"
                if there
                else "puna fetch --benchmarks brings them, or name their folder with --data"
            )
            raise InputError(what, where=str(data), mend=mend)
    for name in names:
        pairs += [(name, number) for number in ((shots,) if shots is not None else PACK[name].shots)]
    return [Wanted(PACK[name], number) for name, number in dict.fromkeys(pairs)], shown, unknown


def _others(names: list[str], include: str | None, shots: int | None, limit: int | None) -> Others:
    """Tasks of lm-eval."""
    from difflib import get_close_matches
    from importlib.util import find_spec
    from pathlib import Path

    from puna.evaluate.tasks import PACK

    if not names:
        raise InputError("--include names tasks for lm-eval", mend="say which with --tasks, or leave it out")
    if find_spec("lm_eval") is None:
        near = get_close_matches(names[0], PACK, 3, 0.6)
        guess = f"did you mean {' or '.join(near)}? " if near else f"there are {', '.join(PACK)}; "
        mend = f"{guess}for a task of lm-eval: pip install 'puna[eval]'"
        raise InputError(f"--tasks {names[0]} is no task of the pack", mend=mend)
    from puna.evaluate.harness.others import Tasks

    return Tasks(names, Path(include).expanduser() if include else None, shots, limit)


def _hours(folder: Place, count: int) -> str:
    from puna.evaluate.perspective import Perspective

    return Perspective.of_environment(folder / "toxicity.jsonl").said_before(count)


def _named(toxicity: str | None, judge: str | None) -> dict[str, str]:
    """Who judges, for people: the service, a function, models, or a file by its name alone."""
    scorer = "PerspectiveAPI" if toxicity == "perspective" else _basename(toxicity)
    judges = " and ".join(map(_basename, (judge or "").split(",")))
    return {name: who for name, who in (("toxicity", scorer), ("truth", judges)) if who}


def _basename(word: str | None) -> str:
    return (word or "").rstrip("/").rpartition("/")[2]


def _outside(toxicity: str | None, judge: str | None, allow_code: bool, folder: Place) -> dict[str, Judge]:
    from puna.evaluate import judged, outside
    from puna.evaluate.perspective import Perspective

    found = {}
    if allow_code:
        found["programs"] = outside.programs()
    if toxicity == "perspective":
        found["toxicity"] = outside.toxicity(outside.asked(Perspective.of_environment(folder / "toxicity.jsonl")))
    elif toxicity and re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", toxicity):
        found["toxicity"] = outside.toxicity(outside.local(toxicity))
    elif toxicity:
        mend = "give perspective, MODULE:FUNCTION, or a FILE of scores"
        found["toxicity"] = outside.toxicity(outside.stored(_file("--toxicity", toxicity, mend)))
    if judge:
        first, comma, second = (part.strip() for part in judge.partition(","))
        if comma and not (first and second):
            raise InputError(f"--judge {judge} lacks a model", mend="give two, TRUTH,HELP, or a FILE of judgements")
        mend = "give two models, TRUTH,HELP, or a FILE of judgements"
        pair = judged.by_models(first, second) if comma else judged.stored(_file("--judge", judge, mend))
        found["truth"] = judged.Truthful(*pair)
    return found


def _file(option: str, name: str, mend: str) -> Place:
    from puna import storage

    file = storage.place(name)
    if not storage.is_file(file):
        raise InputError("is no file", where=f"{option} {name}", mend=mend)
    return file
