"""How fast Puna decodes and reads prompts, beside the machine's memory and beside other engines.

    python benchmarks/generate.py [NAME ...] [--json FILE] [--quick] [--rounds N] [--threads 1 2]

    decode_110m_f32           dim 768, 12 layers, 12 heads, vocabulary 32,000: one text from position 64 on
    decode_110m_bf16          the same with weights in bfloat16
    decode_110m_int8          in 8 bits; llama.cpp's Q8_0 beside it
    prefill_110m_bf16         a prompt of 512 tokens
    decode_110m_batch16       16 texts at once, in bfloat16
    decode_smollm2_bf16, decode_smollm2_int8
                              the shape of SmolLM2-135M: dim 576, 30 layers, 9 heads over 3, vocabulary 49,152, tied

Tokens a second of processor time, over all threads: on a machine that others use too, the clock on the wall says more
of them. All run in turn in one process, and ratios are taken round by round: medians and ranges of 5. Weights are
random. Ours is the whole engine with greedy draws. The limit of decoding is the memory: bytes of weights, keys and
values, at the speed of a sum over 256 MB measured in the same round.

    pip install transformers llama-cpp-python gguf

`transformers` has a static cache and torch.compile, but not with --quick, which takes 2 rounds of fewer tokens:
compiling takes a minute. `llama.cpp` reads a GGUF file of the same weights.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

import generate_peers
from form import metric

SHAPE_110M = {"dim": 768, "heads": 12, "kv_heads": 12, "layers": 12, "hidden": 2048, "vocabulary": 32000}
SMOLLM2 = {"dim": 576, "heads": 9, "kv_heads": 3, "layers": 30, "hidden": 1536, "vocabulary": 49152, "tied": True}
CONTEXT = 1024
START = 64  # tokens before the first that is measured
PROMPT = 512


class Case(NamedTuple):
    shape: dict[str, Any]
    dtype: str
    texts: int = 1
    prompt: bool = False


CASES = {
    "decode_110m_f32": Case(SHAPE_110M, "f32"),
    "decode_110m_bf16": Case(SHAPE_110M, "bf16"),
    "decode_110m_int8": Case(SHAPE_110M, "int8"),
    "prefill_110m_bf16": Case(SHAPE_110M, "bf16", prompt=True),
    "decode_110m_batch16": Case(SHAPE_110M, "bf16", texts=16),
    "decode_smollm2_bf16": Case(SMOLLM2, "bf16"),
    "decode_smollm2_int8": Case(SMOLLM2, "int8"),
}


def main() -> None:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="*", help=f"of {', '.join(CASES)}; all without one, the first five with --quick")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="two rounds, fewer tokens, nothing compiled, one thread")
    parser.add_argument("--rounds", type=int, help="rounds instead of 5, or 2 of --quick")
    parser.add_argument("--threads", type=int, nargs="+", help="numbers of threads, each in its turn; else 1 and 2")
    asked = parser.parse_args()
    unknown = set(asked.name) - set(CASES)
    if unknown:
        parser.error(f"no figure is named {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    result = {}
    for name in asked.name or list(CASES)[: 5 if asked.quick else None]:
        for threads in asked.threads or ([1] if asked.quick else [1, 2]):
            key = name if threads == 1 else f"{name}_{threads}_threads"
            result[key] = measured(CASES[name], threads, asked)
            show(key, result[key])
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")


def measured(case: Case, threads: int, asked: argparse.Namespace) -> dict[str, Any]:
    import torch

    from puna.generate.packed import pack

    torch.set_num_threads(threads)
    steps = 1 if case.prompt else 6 if asked.quick else 32
    model = made(tuple(case.shape.items()))
    packed = pack(model, case.dtype)
    runs: dict[str, Callable[[], None]] = {"ours": ours(packed, case, steps)}
    how = generate_peers.How(case.dtype, case.texts, START, PROMPT if case.prompt else 0, steps, threads, asked.quick)
    for name, peer in generate_peers.PEERS.items():
        run = peer(model, how)
        if isinstance(run, str):
            print(f"  without {name}: {run}", flush=True)
        else:
            runs[name] = run
    for run in runs.values():
        run()
    taken: dict[str, list[float]] = {name: [] for name in runs}
    read: list[float] = []
    memory = torch.ones(1 << 25, dtype=torch.int64)
    for _ in range(asked.rounds or (2 if asked.quick else 5)):
        read.append(memory.nbytes / seconds(lambda: memory.sum()))
        for name, run in runs.items():
            taken[name].append(case.texts * (PROMPT if case.prompt else steps) / seconds(run))
    cache = (
        case.texts * 2 * 4 * case.shape["layers"] * (case.shape["dim"] // case.shape["heads"]) * case.shape["kv_heads"]
    )
    size = packed.bytes + cache * (START + steps / 2)
    limit = None if case.prompt else case.texts * statistics.median(read) / size
    rates = {name: statistics.median(found) for name, found in taken.items()}
    ratio = {}
    for name in rates.keys() - {"ours"}:
        found = [mine / theirs for mine, theirs in zip(taken["ours"], taken[name], strict=True)]
        ratio[name] = {"median": statistics.median(found), "min": min(found), "max": max(found)}
    return metric(rates.pop("ours"), "tokens/s/core", limit, rates, ratio)


@functools.cache
def made(shape: tuple[tuple[str, Any], ...]) -> Any:
    """A model with random weights."""
    import torch

    from puna.model.config import ModelConfig
    from puna.model.llama import Llama

    model = Llama(ModelConfig(context=CONTEXT, **dict(shape)))
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            torch.nn.init.constant_(tensor, 1) if "norm" in name else tensor.normal_(std=0.02)
    return model


def ours(packed: Any, case: Case, steps: int) -> Callable[[], None]:
    """A run of the engine: `steps` tokens of every text, or a prompt and its first token."""
    import puna.tokenizer
    from puna.generate.engine import Engine
    from puna.generate.request import Request
    from puna.generate.sampling import Sampling

    class Ids(puna.tokenizer.Tokenizer):
        """Ids without a text."""

        def __init__(self, vocabulary: int) -> None:
            self.vocabulary = vocabulary

        def decode_bytes(self, ids: Any) -> bytes:
            return b"x" * len(ids)

    engine = Engine(packed, Ids(packed.config.vocabulary), slots=case.texts)
    greedy = Sampling(temperature=0)
    if case.prompt:

        def read() -> None:
            engine.slots.clear(0)
            engine.submit(Request(tuple(range(3, 3 + PROMPT)), 1, greedy, ends=()))
            while engine.busy:
                engine.step()

        return read
    for text in range(case.texts):
        engine.submit(Request((1, 5 + text, *range(3, START + 1)), CONTEXT, greedy, ends=(), slide=True))
    while engine.counts.generated_tokens < case.texts:
        engine.step()

    def write() -> None:
        for _ in range(steps):
            engine.step()

    return write


def seconds(run: Callable[[], object]) -> float:
    """Processor seconds of a run, over all threads of this process."""
    before = time.process_time()
    run()
    return time.process_time() - before


def show(name: str, found: dict[str, Any]) -> None:
    limit = (
        f"; memory allows {found['limit']:.0f}: {100 * found['value'] / found['limit']:.0f} %" if found["limit"] else ""
    )
    print(f"{name}: {found['value']:.0f} {found['unit']}{limit}")
    for peer, value in found["peers"].items():
        ratio = found["ratio"][peer]
        print(f"    {peer} {value:.0f}: {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})", flush=True)


if __name__ == "__main__":
    main()
