"""`puna finetune`: a model learns to answer, from files of instructions."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from puna.cli.generating import ModelName
from puna.cli.words import ENDINGS, OtherMachine, Quiet, TakeOver, Threads, epilog, not_empty, one_of, show
from puna.errors import InputError

if TYPE_CHECKING:
    from puna.finetune.choose import Source

EXAMPLES = (
    "puna finetune smollm instructions/ --out runs/smollm-chat",
    "puna finetune runs/mine alpaca.json=2 flan.jsonl=0.5 --out runs/mine-chat",
    "puna finetune smollm instructions/ --lora 16 --out runs/smollm-lora",
    "puna chat runs/mine-chat",
)


def add_to(app: typer.Typer) -> None:
    app.command("finetune", short_help="Teach a model to answer.", epilog=epilog(*EXAMPLES, status=ENDINGS))(finetune)


def finetune(
    model: ModelName,
    data: Annotated[
        list[str],
        typer.Argument(metavar="DATA", callback=not_empty, help="Files or folders; DATA=2 is read twice an epoch."),
    ],
    out: Annotated[str, typer.Option("--out", metavar="FOLDER", callback=not_empty, help="Where all of it goes.")],
    benchmarks: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", callback=not_empty, help="Benchmarks whose questions are kept out."),
    ] = None,
    mmlu: Annotated[
        int, typer.Option(min=0, help="Items of MMLU, below --benchmarks, asked before and after; 0: none.")
    ] = 0,
    text: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", callback=not_empty, help="Plain text, measured in bits per byte before and after."
        ),
    ] = None,
    epochs: Annotated[float, typer.Option(min=0.001, max=1000, help="How often all of it is read.")] = 2.0,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            min=1e-9, max=1.0, help="The highest; then a cosine to a tenth. Unset: 5e-5, and with --lora 2e-4."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=65536, help="Rows of a step.")] = 16,
    micro_batch: Annotated[int, typer.Option(min=1, max=65536, help="Rows at once, which bounds memory.")] = 2,
    context: Annotated[int, typer.Option(min=16, max=1_000_000, help="Tokens of a row; examples are packed.")] = 1024,
    lora_rank: Annotated[
        int,
        typer.Option(
            "--lora", min=0, max=4096, help="Rank of adapters that are trained in place of all weights; 0: none."
        ),
    ] = 0,
    lora_alpha: Annotated[
        float | None,
        typer.Option(min=0.001, max=1e6, help="Adapters count alpha / rank times. Unset: twice the rank."),
    ] = None,
    heldout: Annotated[
        int | None, typer.Option(min=0, max=100_000, help="Examples kept aside to measure by; else a tenth, up to 100.")
    ] = None,
    checkpoint_every: Annotated[
        int | None, typer.Option(min=1, help="Steps between checkpoints; else a tenth of all, up to 100.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the order of examples.")] = 1,
    layer: Annotated[str, typer.Option(help="auto, reference, selective, full, hand or lean.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    threads: Threads = None,
    allow_other_machine: OtherMachine = False,
    take_over: TakeOver = False,
    quiet: Quiet = False,
) -> None:
    """Finetune a model on instructions; ends with what changed on answers that were held out.

    DATA are JSON lines, a JSON list, or Parquet, whose records have one of these sets of keys: messages (OpenAI),
    conversations (ShareGPT), instruction and output with or without input (Alpaca), instruction and response with or
    without context (Dolly), instruction and instances (Self-Instruct), inputs and targets (FLAN), prompt and completion
    (T0). Equal examples are read once, and with --benchmarks none that holds a benchmark's question. The model's own
    chat template is used, else a plain one; it is exported with the model. Answers alone are learnt.

    Stopped at any moment, the same command goes on. The optimizer is the paper's. All weights are changed, or with
    --lora RANK adapters beside them, which are kept in FOLDER/adapter and merged. FOLDER is a model then, for every
    command. Documents: docs/finetune.md.
    """
    from puna import storage
    from puna.evaluate.before_after import Mmlu
    from puna.finetune import tune as tuning
    from puna.finetune.lora import LORA_RATE, MODES, Lora
    from puna.last_screen import called
    from puna.progress import configure

    configure(quiet=quiet)
    if mmlu and not benchmarks:
        raise InputError("--mmlu asks benchmarks", mend="name their folder with --benchmarks")
    one_of("--layer", layer, ("auto", "reference", "selective", "full", "hand", "lean"))
    if lora_alpha and not lora_rank:
        raise InputError("--lora-alpha is of adapters", mend="give their rank with --lora")
    if lora_rank and layer not in MODES:
        raise InputError(f"--layer {layer} trains all weights", mend=f"with --lora choose {', '.join(MODES)}")
    lora = Lora(lora_rank, lora_alpha or 2 * lora_rank) if lora_rank else None
    rate = learning_rate or (LORA_RATE if lora else tuning.Settings.learning_rate)
    one_of("--dtype", dtype, ("auto", "float32", "bfloat16"))
    settings = tuning.Settings(
        epochs, context, batch, min(micro_batch, batch), rate, heldout=heldout,
        checkpoint_every=checkpoint_every, seed=seed, layer=layer, dtype=dtype, lora=lora,
    )  # fmt: skip
    folder = storage.place(out)
    measure = Mmlu(storage.place(benchmarks), folder / "evaluations" / "mmlu", mmlu) if mmlu and benchmarks else None
    found = tuning.tune(
        model,
        [_source(word) for word in data],
        out,
        settings,
        benchmarks=benchmarks,
        plain=text,
        threads=threads,
        allow_other=allow_other_machine,
        take_over=take_over,
        measure=measure,
    )
    next_one = f"{called()} chat {shlex.quote(out)}, or generate, serve, evaluate, export"
    show("\n".join([*_lines(found), f"{out}: {next_one}"]))


def _source(word: str) -> Source:
    """A file or folder, and the weight behind its last `=` if that is a number."""
    from puna import storage
    from puna.finetune.choose import Source

    name, equals, number = word.rpartition("=")
    try:
        weight = float(number) if equals and name else None
    except ValueError:
        weight = None
    if weight is None:
        return Source(storage.place(word))
    if not 0 < weight <= 1000:
        raise InputError(f"weight {number} is not above 0 and at most 1000", where=name)
    return Source(storage.place(name), weight)


def _lines(found: dict[str, Any]) -> list[str]:
    """What changed, in lines for people."""
    lines = []
    answers = found["answers"]
    if answers["before"]:
        change = answers["change"]
        error = f" ± {change['error']:.3f}" if change["error"] is not None else ""
        lines.append(
            f"held-out answers: {answers['before']['loss']:.3f} -> {answers['after']['loss']:.3f} nats a token "
            f"({change['loss']:+.3f}{error}; {answers['examples']:,} examples)"
        )
    plain = found["bits_per_byte"]
    if plain["before"] is not None:
        lines.append(f"plain text: {plain['before']:.3f} -> {plain['after']:.3f} bits per byte")
    before, after = (found["measured"][when].get("mmlu") for when in ("before", "after"))
    if before and after:
        from puna.evaluate.before_after import CHANCE, PAPER

        near = all(abs(one["accuracy"] - CHANCE) < 2 * (one["error"] or 0) for one in (before, after))
        told = " (both are chance)" if near else ""
        values = [f"{100 * one['accuracy']:.1f} ± {100 * (one['error'] or 0):.1f}" for one in (before, after)]
        what = f"MMLU, 5-shot, {before['items']:,} items: {values[0]} -> {values[1]}{told}"
        lines.append(f"{what}; the paper's 65B: {PAPER['before']} -> {PAPER['after']}")
    return lines
