"""A server under load: clients that stream, that wait, that leave midway, that do not read, and that send nonsense.

    python benchmarks/serve.py [--model RUN] [--clients 64] [--minutes 10] [--slots 16] [--threads 1]
                               [--json FILE] [--quick]

Starts `puna serve` of RUN, or of a model of the laptop recipe's shape with random weights, and lets the clients ask it
with drawn prompts and lengths until the time is over. Prints the time to a stream's first token (median and 99th
percentile), tokens a second, the slope of the server's resident memory behind the warm-up (a least-squares line through
one value a second), and what was left under way a few seconds after the last client had gone. Every stream is decoded
strictly as UTF-8 and must end as it should; anything else ends the benchmark with status 1. Clients and server share
the machine. --quick: 30 seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from form import metric  # noqa: E402

KINDS = {"stream": 60, "whole": 15, "leave": 10, "slow": 5, "nonsense": 10}  # of a hundred requests
WARM = 0.2  # of the time, at most two minutes: what lies before is no part of the slope
SLOPE = 1.0  # MB a minute
WORDS = ["the", "history", "of", "a", "city", "began", "in", "its", "early", "years", "when", "many", "people", "came"]
NONSENSE = [
    b"",
    b"{",
    b"[]",
    b"\xff\xfe\x00",
    b'{"prompt": 1e999}',
    b'{"prompt": "a", "temperature": NaN}',
    b'{"prompt": "a", "max_tokens": 1e9}',
    b'{"prompt": [[]], "n": -1}',
    b'{"prompt": "a", "stream": "yes"}',
    b'{"prompt": ' + b"[" * 5000,
    b'{"prompt": "' + b"a" * 3_000_000 + b'"}',
]


@dataclass
class Seen:
    """What the clients saw. first: seconds to the first token of each stream."""

    statuses: Counter[str] = field(default_factory=Counter)
    first: list[float] = field(default_factory=list)
    tokens: int = 0
    wrong: list[str] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a run or checkpoint; else one with random weights is made")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1, help="that decode; the clients need the rest of the machine")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="30 seconds")
    asked = parser.parse_args()
    seconds = 30.0 if asked.quick else asked.minutes * 60
    with tempfile.TemporaryDirectory() as made:
        model = asked.model or str(make_model(Path(made) / "model"))
        command = [sys.executable, "-m", "puna.cli", "serve", model, "--port", "0"]
        command += ["--slots", str(asked.slots), "--threads", str(asked.threads)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PUNA_KEY": ""})
        try:
            assert process.stderr is not None
            address = re.search(r"http://([\d.]+):(\d+)", line := process.stderr.readline())
            if not address:
                sys.exit(f"the server did not start: {line}")
            found = asyncio.run(load(address[1], int(address[2]), process.pid, asked.clients, seconds))
            process.terminate()
            process.wait(60)
        finally:
            process.kill()
    if process.returncode:
        found["wrong"].append(f"the server ended with status {process.returncode}")
    told(found)
    if asked.json:
        names = {"first_token_p50": "s", "first_token_p99": "s", "tokens_per_second": "tokens/s", "left": "requests"}
        figures = {f"serve_{name}": metric(found[name], unit) for name, unit in names.items()}
        figures["serve_memory_slope"] = metric(found["slope"], "MB/min", SLOPE)
        asked.json.write_text(json.dumps(figures, indent=1) + "\n")
    sys.exit(1 if found["wrong"] else 0)


def make_model(folder: Path) -> Path:
    """A model of the laptop recipe's shape, with random weights and a tokenizer of a few hundred pieces."""
    from puna import recipe, storage, tokenizer
    from puna.model.config import ModelConfig
    from puna.model.llama import Llama
    from puna.model.weights import initialise, write_model

    trained = tokenizer.train([" ".join(WORDS)] * 3, pieces=300)
    config = ModelConfig.from_recipe(recipe.load("laptop"), tokenizer.Tokenizer(trained).vocabulary)
    model = Llama(config)
    initialise(model, 1)
    storage.write(folder / "tokenizer.model", trained)
    write_model(folder, config, model.state_dict(), tokenizer=storage.digest_bytes(trained))
    return folder


async def load(host: str, port: int, process: int, clients: int, seconds: float) -> dict[str, Any]:
    """Let the clients ask until the time is over; every figure of it."""
    seen, until = Seen(), time.monotonic() + seconds
    watched = asyncio.create_task(memory(process, until))
    begun = time.monotonic()
    await asyncio.gather(*(client(number, host, port, until, seen) for number in range(clients)))
    took = time.monotonic() - begun
    await asyncio.sleep(3)
    _, metrics = await fetched(host, port, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    under = re.findall(r"^(?:puna_choices|puna_prompts_decoding) (\d+)", metrics.decode(), re.M)
    values = np.array(await watched)
    warm = values[:, 0] > min(WARM * seconds, 120)
    slope = float(np.polyfit(values[warm, 0] / 60, values[warm, 1], 1)[0])
    return {
        "first_token_p50": float(np.percentile(seen.first, 50)),
        "first_token_p99": float(np.percentile(seen.first, 99)),
        "streams": len(seen.first),
        "tokens_per_second": seen.tokens / took,
        "slope": slope,
        "memory": float(values[-1, 1]),
        "left": sum(map(int, under)),
        "statuses": dict(sorted(seen.statuses.items())),
        "wrong": seen.wrong + ([f"{sum(map(int, under))} requests are left"] if sum(map(int, under)) else []),
    }


async def memory(process: int, until: float) -> list[tuple[float, float]]:
    """(seconds since the start, MB of resident memory), one a second."""
    begun, server, values = time.monotonic(), psutil.Process(process), []
    while time.monotonic() < until:
        values.append((time.monotonic() - begun, server.memory_info().rss / 1e6))
        await asyncio.sleep(1)
    return values


async def client(number: int, host: str, port: int, until: float, seen: Seen) -> None:
    """Ask, one request behind the other, each on a connection of its own."""
    chance = random.Random(number)
    while time.monotonic() < until:
        kind = chance.choices(list(KINDS), list(KINDS.values()))[0]
        try:
            await asyncio.wait_for(one(kind, chance, host, port, seen), 120)
        except (OSError, asyncio.IncompleteReadError) as error:
            if kind != "nonsense":  # a body too large may be cut off while it is still sent
                seen.wrong.append(f"{kind}: {type(error).__name__} {error}")
        except Exception as error:
            seen.wrong.append(f"{kind}: {type(error).__name__} {error}")


async def one(kind: str, chance: random.Random, host: str, port: int, seen: Seen) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        if kind == "nonsense":
            writer.write(request(chance.choice(NONSENSE)))
            status, _ = await answer(reader)
            if not 400 <= status < 500:
                seen.wrong.append(f"nonsense was answered with {status}")
            seen.statuses[f"nonsense {status}"] += 1
            return
        prompt = " ".join(chance.choices(WORDS, k=chance.randint(1, 25)))
        fields = {"prompt": prompt, "max_tokens": chance.randint(1, 64), "temperature": chance.choice([0, 1.0, 1.5])}
        fields |= {"stream": kind != "whole", "logprobs": chance.choice([None, 5]), "n": chance.choice([1, 1, 1, 2])}
        begun = time.monotonic()
        writer.write(request(json.dumps(fields).encode()))
        if kind == "whole":
            status, body = await answer(reader)
            if status == 200:
                seen.tokens += json.loads(body)["usage"]["completion_tokens"]
            seen.statuses[f"whole {status}"] += 1
        elif kind == "slow":
            for _ in range(chance.randint(1, 5)):
                await reader.read(200)
                await asyncio.sleep(1)
            seen.statuses["slow"] += 1
        else:
            await stream(reader, begun, fields["n"], chance.randint(1, 20) if kind == "leave" else None, seen)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def stream(reader: asyncio.StreamReader, begun: float, n: int, leave: int | None, seen: Seen) -> None:
    """Read a stream, or `leave` pieces of it."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split()[1])
    seen.statuses[f"{'leave' if leave else 'stream'} {status}"] += 1
    if status != 200:
        return
    last, pieces, ended = "", 0, 0
    while line := await reader.readline():
        text = line.decode("utf-8", "strict")
        if not text.startswith("data: "):
            continue
        pieces += 1
        if pieces == 1:
            seen.first.append(time.monotonic() - begun)
        seen.tokens += 1
        last = text.strip()
        ended += '"finish_reason":"' in last
        if pieces == leave:
            return
        if last == "data: [DONE]":
            break
    if last != "data: [DONE]" or ended != n:
        seen.wrong.append(f"a stream ended with {last[:200]!r} and {ended} of {n} choices")


def request(body: bytes) -> bytes:
    head = (
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    )
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    raw = await reader.read()
    while part := await reader.read():
        raw += part
    head, _, body = raw.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


async def fetched(host: str, port: int, asked: bytes) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(asked)
    try:
        return await answer(reader)
    finally:
        writer.close()


def told(found: dict[str, Any]) -> None:
    print(f"first token: {found['first_token_p50']:.3f} s (median), {found['first_token_p99']:.3f} s (99th percentile)")
    print(f"             of {found['streams']} streams")
    print(f"tokens:      {found['tokens_per_second']:.0f} a second, all clients together")
    print(f"memory:      {found['memory']:.0f} MB at the end, {found['slope']:+.2f} MB a minute behind the warm-up")
    print(f"left:        {found['left']} requests under way 3 s after the last client had gone")
    print("answers:     " + ", ".join(f"{name}: {count}" for name, count in found["statuses"].items()))
    for line in found["wrong"][:20]:
        print(f"WRONG        {line}")
    print(f"wrong:       {len(found['wrong'])}")


if __name__ == "__main__":
    main()
