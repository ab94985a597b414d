"""`puna generate`: text that a model goes on with, from a prompt or a file of them, as plain text or as JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, AnyStr

import typer

from puna.cli.words import Threads, epilog, not_empty, show
from puna.errors import InputError, Interrupted

if TYPE_CHECKING:
    from puna.generate.batch import Sampled
    from puna.generate.engine import Engine
    from puna.generate.request import Request

ModelName = Annotated[
    str, typer.Argument(metavar="MODEL", callback=not_empty, help="A run, a checkpoint or an imported folder.")
]
Temperature = Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token.")]
TopP = Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the probability to sample from.")]
TopK = Annotated[int, typer.Option(min=0, help="Sample from the k likeliest tokens; 0: from all.")]
MinP = Annotated[float, typer.Option(min=0.0, max=1.0, help="Sample from tokens this likely beside the likeliest.")]
Penalty = Annotated[float, typer.Option("--repetition-penalty", help="Above 1: less of what was said.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same text.")]
Stop = Annotated[list[str] | None, typer.Option(help="Text to stop before; may be given several times.")]
DType = Annotated[
    str, typer.Option("--dtype", help="Weights as f32, bf16 or int8: a half and a quarter of the memory.")
]
LONGEST = 4_000_000  # bytes of a prompt, whose ids take some sixty times their size in memory
# Control characters as the pictures that Unicode has of them, or its sign for what cannot be shown.
PICTURES = {number: 0x2400 + number for number in range(32) if chr(number) not in "\n\t"}
PICTURES |= {0x7F: 0x2421} | dict.fromkeys((*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)), 0xFFFD)
EXAMPLES = (
    "puna generate runs/laptop 'The history of'",
    "puna generate runs/laptop/checkpoints/step-000672 'The ' --temperature 0",
    "puna generate runs/laptop - < prompt.txt",
    "puna generate runs/laptop --file prompts.jsonl --jsonl -n 4 > made.jsonl",
)


def add_to(app: typer.Typer) -> None:
    status = "0 done, 1 failed, 2 no model there that can be read, or a wrong option, 130 interrupted."
    end = epilog(*EXAMPLES, status=status)
    app.command("generate", short_help="Go on from a prompt with a model.", epilog=end)(generate)


def generate(
    model: ModelName,
    prompt: Annotated[
        str, typer.Argument(metavar="PROMPT", help="Text to go on from; - reads it from standard input.")
    ] = "",
    file: Annotated[
        str | None,
        typer.Option(
            "--file", metavar="FILE", callback=not_empty, help="A text to go on from; of *.jsonl each line's `prompt`."
        ),
    ] = None,
    tokens: Annotated[int, typer.Option(min=1, help="Most tokens to add.")] = 128,
    n: Annotated[int, typer.Option("-n", min=1, max=1024, help="Samples of each prompt; the i-th has seed + i.")] = 1,
    temperature: Temperature = 0.8,
    top_p: TopP = 0.95,
    top_k: TopK = 0,
    min_p: MinP = 0.0,
    repetition_penalty: Penalty = 1.0,
    seed: Seed = 1,
    stop: Stop = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="One JSON object a sample, without the prompt.")] = False,
    logprobs: Annotated[
        int | None, typer.Option(min=0, max=100, help="With --jsonl: each token's, and of so many alternatives.")
    ] = None,
    dtype: DType = "f32",
    slots: Annotated[int, typer.Option(min=1, max=256, help="Samples made at a time.")] = 8,
    threads: Threads = None,
) -> None:
    """Go on from a prompt; prompt and text are printed as they come.

    Reads the newest checkpoint of a run, or the checkpoint named, and its tokenizer. Writes nothing. A text longer than
    the model's context goes on from the last half of it. With --jsonl each line has `prompt` (its number, from 0),
    `sample`, `text`, `finish_reason` ("stop" or "length"), `tokens` (ids), and `logprobs` where asked for: for each
    token `id`, `text`, `logprob` and `top`, pairs of id and logprob.
    """
    from puna.generate import load
    from puna.generate.request import Request
    from puna.generate.sampling import Sampling

    if file is not None and prompt:
        raise InputError("PROMPT and --file were both given", mend="give one of them")
    if logprobs is not None and not jsonl:
        raise InputError("--logprobs are for --jsonl", mend="add --jsonl")
    sampling = Sampling(temperature, top_p, top_k, min_p, repetition_penalty, seed)
    prompts = _prompts(file) if file is not None else iter([_given(prompt)])
    if threads:
        use_threads(threads)
    loaded = load(model)
    engine = loaded.engine(slots=min(slots, n) if file is None else slots, dtype=dtype)
    texts: list[str] = []

    def requests() -> Iterator[Request]:
        for text in prompts:
            texts.append("" if jsonl else text)
            ids = tuple(loaded.tokenizer.begin(text))
            yield Request(ids, tokens, sampling, n, tuple(stop or ()), logprobs=logprobs, slide=True)

    with interruptible():
        if jsonl:
            _as_lines(engine, requests(), logprobs)
        else:
            _as_text(engine, requests(), texts, several=n > 1 or file is not None)


def _as_text(engine: Engine, requests: Iterator[Request], texts: list[str], *, several: bool) -> None:
    """Prompt and text as they come; of several, each whole, with a line of --- between."""
    from puna.generate.batch import samples

    if several:
        for number, sample in enumerate(samples(engine, requests)):
            refuse_error(sample.error)
            show(shown(("---\n" if number else "") + texts[sample.request] + sample.text))
        return
    from puna.generate.request import Prompt

    engine.submit(next(requests))
    show(shown(texts[0]), end="")  # after what is wrong with the options was told
    while engine.busy:
        for event in engine.step():
            if not isinstance(event, Prompt):
                refuse_error(getattr(event, "error", ""))
                show(shown(event.text), end="")
    show("")


def _as_lines(engine: Engine, requests: Iterator[Request], logprobs: int | None) -> None:
    from puna.generate.batch import samples

    for sample in samples(engine, requests):
        refuse_error(sample.error)
        show(json.dumps(_line(sample, logprobs is not None), ensure_ascii=False))


def _line(sample: Sampled, logprobs: bool) -> dict[str, Any]:
    line: dict[str, Any] = {
        "prompt": sample.request,
        "sample": sample.sample,
        "text": sample.text,
        "finish_reason": sample.reason,
        "tokens": [token.id for token in sample.tokens],
    }
    if logprobs:
        line["logprobs"] = [
            {
                "id": token.id,
                "text": token.bytes.decode(errors="replace"),
                "logprob": token.logprob,
                "top": token.top,
            }
            for token in sample.tokens
        ]
    return line


def _given(prompt: str) -> str:
    if prompt != "-":
        return valid_text(prompt, "PROMPT")
    return valid_text(_bounded(sys.stdin.read(LONGEST + 1), "standard input"), "standard input")


def _prompts(file: str) -> Iterator[str]:
    """The text of a file, or of each line of a *.jsonl its `prompt`, read as they are needed."""
    from puna import storage

    if not file.endswith(".jsonl"):
        with storage.open_read(file) as whole:
            data = _bounded(whole.read(LONGEST + 1), file)
        try:
            yield data.decode()
        except UnicodeDecodeError as error:
            raise InputError(f"is not UTF-8 at byte {error.start}", where=file) from None
        return
    with storage.open_read(file) as lines:
        for number, line in enumerate(iter(lambda: lines.readline(LONGEST + 1), b""), 1):
            _bounded(line, f"{file}:{number}")
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                found = None
            if not isinstance(found, dict) or not isinstance(found.get("prompt"), str):
                what = "is no JSON object with a text as `prompt`"
                raise InputError(what, where=f"{file}:{number}", mend='write {"prompt": "..."}')
            yield valid_text(found["prompt"], f"{file}:{number}")


def _bounded(text: AnyStr, where: str) -> AnyStr:
    """`text`, unless it is longer than a prompt may be, of which the model sees the end alone."""
    if len(text) > LONGEST:
        what = f"is longer than the {LONGEST:,} bytes that a prompt may have"
        raise InputError(what, where=where, mend="give its end: a model reads no more than its context")
    return text


def valid_text(text: str, where: str) -> str:
    """`text`, unless it holds what no text can: Python reads bytes that are not UTF-8 as halves of characters."""
    from puna.tokenizer.sentencepiece_bpe import lone_surrogate

    if (at := lone_surrogate(text)) is not None:
        raise InputError(f"is not valid Unicode at character {at}", where=where)
    return text


def refuse_error(error: str) -> None:
    from puna.errors import PunaError

    if error:
        raise PunaError(error)


@contextmanager
def interruptible() -> Iterator[None]:
    """What Ctrl-C ends here is not gone on with."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("interrupted; what was printed stands, and nothing else was kept") from None


def shown(text: str) -> str:
    """`text` as a terminal may have it: one that obeys what a model writes could be made to do much. Others than
    terminals get it as it is."""
    return text.translate(PICTURES) if sys.stdout.isatty() else text


def use_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
