"""The whole way in order: every station's steps as one graph, from raw dumps to the report.

What each command does is a part of this graph: `puna data` ends after the documents, `puna train` after the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from puna import recipe as recipes
from puna import space, storage
from puna.compiler import compiler, name_torch_without_spaces
from puna.data import pipeline
from puna.data.brought import Look
from puna.data.pipeline import Located
from puna.data.sources import locate
from puna.engine import PROCESSES, end_workers, opened, refuse_unknown, usable_cpus
from puna.errors import InputError, PunaError, ToldElsewhere
from puna.evaluate import cloze, present
from puna.last_screen import last_screen
from puna.parallel import meeting
from puna.parallel.meeting import Meeting
from puna.progress import configure, say, size
from puna.recipe import Recipe
from puna.records import of_step, read_records
from puna.run import open_run, read_recipe
from puna.space import Need
from puna.steps import Context, Step, refuse_newer, run_steps
from puna.storage import Place
from puna.tokens import steps as token_steps
from puna.train.extras import refuse_missing
from puna.train.result import of_the_result

NO_RUN = Look()
WITHOUT_COMPILER = {"laptop": "laptop-plain"}  # what runs in its place where torch.compile cannot
OF_SOME_RUNS = {"tables": 1}  # versions of steps that not every run has


@dataclass(frozen=True)
class Options:
    """What a command line says beside the recipe; none of it is part of the result."""

    workers: int | None = None
    engine: str = PROCESSES
    threads: int | None = None
    take_over: bool = False
    verify: bool = False
    allow_other: bool = False
    ranks: Meeting | None = None
    """Of which this process is the first."""


def work(name: str, overrides: Sequence[str], out: str | None, target: str | None, options: Options) -> str:
    """Do the steps of a recipe up to `target` (None: all) in its run folder; return the last screen.

    Of several ranks the first does them, and the others train with it: they return "".
    """
    name_torch_without_spaces()
    if meeting.rank() is None:
        return _work(name, overrides, out, target, options)
    if target not in (None, "train"):
        mend = f"give puna {target} alone, and puna train to torchrun"
        raise InputError("torchrun starts ranks, and only training has any use for them", mend=mend)
    ranks = meeting.Meeting()
    if ranks.rank:
        return _train_along(ranks, options)
    try:
        return _work(name, overrides, out, target, replace(options, ranks=ranks))
    finally:
        ranks.tell("over", None)


def _work(name: str, overrides: Sequence[str], out: str | None, target: str | None, options: Options) -> str:
    recipe = recipes.load(_for_this_machine(name), overrides)
    if recipe.family is not None:
        what = "is a family of models, which puna run alone raises, by one process"
        raise InputError(what, where=f"recipe {recipe.name}", mend="give family=none for one model")
    folder = bring(recipe, storage.place(out) if out else Path("runs") / recipe.name, target, options)
    return last_screen(folder, target)


def bring(recipe: Recipe, folder: Place, target: str | tuple[str, ...] | None, options: Options) -> Place:
    """Bring the steps of a recipe up to `target` to done in a run folder; return the name by which it was held."""
    _refuse_impossible(recipe, options)
    folder = _seen_everywhere(folder, options)
    inputs = locate_inputs(recipe, folder)
    steps = build(recipe, inputs, options, Look(folder))
    refuse_newer(folder, steps, pipeline.OF_SOME_SOURCES | OF_SOME_RUNS)
    space.check(folder, "a run folder", space.BEGUN)
    with (
        open_run(folder, recipe, take_over=options.take_over) as run,
        opened(options.engine, run.folder, _local(inputs), options.workers) as engine,
    ):
        workers = options.workers or (engine.workers if engine else usable_cpus())
        say(f"{recipe.name}: into {folder}, {workers} data workers")
        _foretell(recipe, inputs, run.folder, target)
        records = run_steps(
            run.folder,
            steps,
            workers=workers,
            verify=options.verify,
            targets=targets(steps, target),
            still=run.still,
            engine=engine,
        )
        if bad := pipeline.bad_share(records, recipe):
            raise PunaError("; ".join(bad), mend="mend the input, or raise data.max_bad_share")
    return folder


def _seen_everywhere(folder: Place, options: Options) -> Place:
    """The folder by a name that other processes have for it too."""
    return folder if options.engine == PROCESSES or storage.is_remote(folder) else Path(str(folder)).absolute()


def _local(inputs: Mapping[str, Located]) -> list[tuple[str, int]]:
    """The files of this machine that tasks read, and their bytes."""
    entries = [entry for located in inputs.values() for entry in located.entries]
    of_packages = [(str(Path(e.location) / member), size) for e in entries for member, size in e.members]
    files = [(e.location, e.size) for e in entries if not e.members and not storage.is_remote(e.location)]
    return files + of_packages


def _foretell(
    recipe: Recipe, inputs: Mapping[str, Located], folder: Place, station: str | tuple[str, ...] | None
) -> None:
    """Before the first step: what the whole run may take of the disk, and whether that is there. A guess refuses
    nothing; each step does, when it knows more."""
    if read_records(folder):
        return
    raw = {name: pipeline.raw_bytes(recipe.sources[name], located) for name, located in inputs.items()}
    parts = space.whole(recipe, raw, station)
    total, there = sum(parts.values()), space.free(folder)
    told = ", ".join(f"{part} {size(parts[part])}" for part in sorted(parts, key=parts.__getitem__, reverse=True))
    say(f"  up to about {size(total)} of disk: {told}")
    if there is not None and there < total:
        say(f"  only {size(there)} are free there, so it may have to stop on the way; free more, or use --out")


def build(recipe: Recipe, inputs: Mapping[str, Located], options: Options, look: Look = NO_RUN) -> list[Step]:
    """Every step of a run, in order; a test holds that each stands after what it needs."""
    names = tuple(inputs)
    made = recipe.model_dump(mode="json")
    documents = tuple(f"documents.{name}" for name in names)
    graph = [
        *pipeline.steps(recipe, inputs, look),
        *token_steps.steps(recipe, names),
        Step(
            "baselines",
            partial(_baselines, recipe),
            ("evaluations/baselines.json",),
            ("manifest", *documents),
            {"baselines": made["evaluate"]["baselines"], "ngram_order": made["evaluate"]["ngram_order"]},
        ),
        Step(
            "cloze_items",
            partial(_cloze_items, recipe),
            ("evaluations/cloze_items.json",),
            ("manifest", *documents),
            {name: made["evaluate"][name] for name in ("cloze_items", "ngram_order")} | {"seed": recipe.seed},
            version=cloze.RULE,
            space=lambda context: space.small(cloze.room(recipe.evaluate.cloze_items, context.counts("heldout"))),
        ),
        Step(
            "train",
            partial(_train, recipe, options),
            ("checkpoints/*/*", "metrics.jsonl", "losses.jsonl", "machine.json"),
            ("mixture",),
            {"model": made["model"], "train": of_the_result(made["train"]), "seed": recipe.training_seed},
            space=partial(_train_space, recipe),
        ),
        Step(
            "evaluate",
            partial(_evaluate, recipe),
            ("evaluations/heldout.json",),
            ("train", "baselines"),
            {"context": recipe.evaluate.context or recipe.train.context, "stride": recipe.evaluate.stride},
            space=partial(_model_space, recipe),
        ),
        Step(
            "cloze",
            partial(_cloze, recipe),
            ("evaluations/cloze.json",),
            ("train", "cloze_items"),
            space=partial(_model_space, recipe),
        ),
        Step(
            "samples",
            partial(_samples, recipe),
            ("evaluations/samples.json",),
            ("train",),
            made["samples"],
            space=partial(_model_space, recipe),
        ),
        *_tables(recipe),
    ]
    return [
        *graph,
        Step(
            "report",
            _report,
            ("report.html",),
            tuple(step.name for step in graph),
            {"recipe": recipes.chosen(recipe)},
            reads=False,
        ),
    ]


def _tables(recipe: Recipe) -> list[Step]:
    """The step that asks the benchmarks which are present; none where there are none."""
    values = present.present(recipe)
    if values is None:
        return []
    answers = present.ANSWER * recipe.evaluate.benchmark_items * len(values["tasks"])
    return [
        Step(
            "tables",
            lambda context: present.evaluate(context.folder, recipe),
            ("/".join((*present.FOLDER, "*")),),
            ("train",),
            values,
            version=OF_SOME_RUNS["tables"],
            space=lambda context: replace(_model_space(recipe, context), bytes=space.FLOOR + answers),
        )
    ]


def targets(steps: Sequence[Step], station: str | tuple[str, ...] | None) -> list[str] | None:
    """The steps that a command ends with: all that are named STATION or STATION.SOURCE, and with documents the notices
    of their licences; None for the whole graph."""
    if station is None:
        return None
    named = station if isinstance(station, tuple) else (station,)
    wanted = (*named, "notice") if station == "documents" else named
    return [step.name for step in steps if step.name.split(".")[0] in wanted]


def locate_inputs(recipe: Recipe, folder: Place) -> dict[str, Located]:
    """The inputs of every source that names some; InputError when there is none at all.

    Raw dumps may be taken away when they have been read: what the run in `folder` recorded of them stands for them.
    """
    found = {}
    for name, source in recipe.sources.items():
        if source.inputs:
            try:
                found[name] = pipeline.look(locate(name, source))
            except InputError as missing:
                found[name] = _recorded(recipe, folder, name, missing)
    if not found:
        first = next(name for name, _ in recipe.sources.items())
        mend = f"name dumps, for example sources.{first}.inputs='[\"dumps/*\"]'"
        raise InputError("no source has any inputs", where=f"recipe {recipe.name}", mend=mend)
    for name, source in recipe.sources.items():
        if not source.inputs:
            say(f"{name}: no inputs, left out")
    return found


def _recorded(recipe: Recipe, folder: Place, name: str, missing: InputError) -> Located:
    record = of_step(folder, f"inputs.{name}")
    if record is None or of_step(folder, f"extract.{name}") is None:
        raise missing
    if recipe.sources[name].inputs != read_recipe(folder).sources[name].inputs:
        raise missing
    say(f"{name}: {missing}; going on with what was read of it before")
    return Located((), record["values"]["inputs"], missing)


def _baselines(recipe: Recipe, context: Context) -> Mapping[str, Any]:
    from puna.evaluate import heldout

    return heldout.baselines(context.folder, recipe, workers=context.workers, engine=context.engine)


def _cloze_items(recipe: Recipe, context: Context) -> Mapping[str, Any]:
    from puna.evaluate import cloze_items

    return cloze_items.make(context.folder, recipe, workers=context.workers, engine=context.engine)


def _train(recipe: Recipe, options: Options, context: Context) -> Mapping[str, Any]:
    from puna.evaluate.while_training import HeldoutLoss
    from puna.train.loop import train

    end_workers()
    if options.ranks:
        options.ranks.tell("train", [str(context.folder), context.fingerprint])
    asked = recipe.train.device
    with options.ranks.group(_alike(context.folder), asked) if options.ranks else nullcontext():
        done = train(
            context.folder,
            recipe,
            fingerprint=context.fingerprint,
            threads=options.threads,
            allow_other=options.allow_other,
            callbacks=[HeldoutLoss(recipe)] if recipe.train.evaluate_every else (),
        )
    last = context.folder / done["checkpoint"]
    digests = [storage.digest(last / name) for name in ("model.safetensors", "config.json")]
    context.produced = storage.digest_bytes("".join(digests).encode())
    return done


def _train_along(ranks: Meeting, options: Options) -> str:
    """On a rank that is not the first: train when that one does."""
    from puna.parallel.peers import GRACE
    from puna.train.loop import train

    configure(quiet=True)
    what, told = ranks.hear("train", "over")
    if what == "train":
        folder = storage.place(told[0])
        try:
            alike, recipe = _alike(folder), read_recipe(folder)
            with ranks.group(alike, recipe.train.device):
                train(folder, recipe, fingerprint=told[1], threads=options.threads, allow_other=options.allow_other)
        except ToldElsewhere:
            ranks.over(GRACE)  # torchrun ends all ranks behind the first, also the one that is about to say why
            raise
    return ""


def _alike(folder: Place) -> dict[str, str]:
    """What of the run in a folder must be the same for all ranks."""
    return {"recipe": storage.digest_bytes(recipes.as_toml(read_recipe(folder)).encode())}


def _train_space(recipe: Recipe, context: Context) -> Need:
    sizes = (context.records[step]["outputs"] for step in context.records if step.startswith("tokens."))
    tokens = sum(output["size"] for outputs in sizes for output in outputs.values())
    return space.training(recipe, context.counts("tokenizer")["pieces"], context.counts("mixture")["steps"], tokens)


def _model_space(recipe: Recipe, context: Context) -> Need:
    return space.small(read=4 * recipe.model.parameters(context.counts("tokenizer")["pieces"]))


def _evaluate(recipe: Recipe, context: Context) -> Mapping[str, Any]:
    from puna.evaluate import heldout

    return heldout.evaluate(context.folder, recipe)


def _cloze(recipe: Recipe, context: Context) -> Mapping[str, Any]:
    from puna.evaluate import cloze_answers

    found: Mapping[str, Any] = cloze_answers.evaluate(context.folder, recipe.train.device)["results"]
    return found


def _samples(recipe: Recipe, context: Context) -> Mapping[str, Any]:
    from puna.evaluate.samples import samples

    return {"samples": len(samples(context.folder, recipe)["samples"])}


def _report(context: Context) -> Mapping[str, Any]:
    from puna.report import write

    return {"bytes": storage.size(write(context.folder))}


def _refuse_impossible(recipe: Recipe, options: Options) -> None:
    """What could not be done here is refused before anything of an earlier result is moved."""
    refuse_unknown(options.engine)
    refuse_missing(recipe.train.log_to)
    processes = options.workers if options.engine == PROCESSES else None
    for option, value, most in (("--threads", options.threads, 8), ("--workers", processes, 64)):
        if value and value > most * usable_cpus():
            raise InputError(f"{option} {value} on {usable_cpus()} CPUs", mend=f"give at most {most * usable_cpus()}")
    if recipe.train.compile == "on" and not compiler():
        raise InputError("no C++ compiler is here", where="train.compile=on", mend="install g++, or set it to auto")


def _for_this_machine(name: str) -> str:
    """The recipe that can run here: where there is no C++ compiler, the plain twin of the one named, and say so."""
    plain = WITHOUT_COMPILER.get(name)
    if plain is None or compiler():
        return name
    say(f"no C++ compiler here, so torch.compile cannot run: the recipe {plain} in place of {name}, with fewer tokens")
    return plain
