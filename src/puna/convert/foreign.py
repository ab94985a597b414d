"""What another program makes of exported files: token ids and logits, from transformers or llama.cpp.

It runs in a process of its own, begun as `python -m puna.convert.foreign READER PATH`. So a reader that aborts takes
nothing with it, its memory is given back, and the caller needs none of its packages. The question comes as JSON on
standard input (`texts` to spell, `passages` of ids to read), the answer goes to standard output: a line of JSON
(`ids`, and `shapes` of the logits, (length, vocabulary)), then the logits themselves, little-endian f32, passage by
passage. Nothing is asked of a network.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from puna.errors import PunaError

Logits = npt.NDArray[np.float32]
READERS = {"hf": ("transformers", "transformers"), "gguf": ("llama.cpp", "llama_cpp")}
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def installed(form: str) -> str | None:
    """The name of the form's own reader, if it is installed."""
    name, package = READERS.get(form, ("", ""))
    return name if package and importlib.util.find_spec(package) else None


def ask(form: str, path: Path, texts: Sequence[str], passages: Sequence[Sequence[int]]) -> tuple[Any, list[Logits]]:
    """Ids of each text, and logits of each passage, as the form's own reader has them; PunaError when it fails."""
    name = READERS[form][0]
    command = [sys.executable, "-m", "puna.convert.foreign", name, str(path)]
    question = json.dumps({"texts": list(texts), "passages": [list(map(int, ids)) for ids in passages]}).encode()
    ended = subprocess.run(command, input=question, capture_output=True, check=False, env={**os.environ, **OFFLINE})
    if ended.returncode:
        lines = ended.stderr.decode(errors="replace").strip().splitlines()
        raise PunaError(f"{name} cannot read it ({lines[-1][:300] if lines else f'status {ended.returncode}'})")
    head, _, body = ended.stdout.partition(b"\n")
    told = json.loads(head)
    numbers, logits = np.frombuffer(body, dtype="<f4"), []
    for shape in told["shapes"]:
        size = shape[0] * shape[1]
        logits.append(numbers[:size].reshape(shape))
        numbers = numbers[size:]
    return told["ids"], logits


def main() -> None:
    # What a library prints must not come between the bytes of the answer.
    out = os.fdopen(os.dup(1), mode="wb")
    os.dup2(2, 1)
    reader, path = sys.argv[1:]
    question = json.load(sys.stdin)
    read = {"transformers": _transformers, "llama.cpp": _llama_cpp}[reader]
    ids, logits = read(path, question["texts"], question["passages"])
    with out:
        out.write(json.dumps({"ids": ids, "shapes": [each.shape for each in logits]}).encode() + b"\n")
        for each in logits:
            out.write(each.astype("<f4").tobytes())


def _transformers(path: str, texts: list[str], passages: list[list[int]]) -> tuple[Any, list[Logits]]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    model: Any = AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True
    )
    model.eval()
    with torch.no_grad():
        logits = [model(torch.tensor([ids])).logits[0].float().numpy() for ids in passages]
    return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts], logits


def _llama_cpp(path: str, texts: list[str], passages: list[list[int]]) -> tuple[Any, list[Logits]]:
    from llama_cpp import Llama

    longest = max(map(len, passages), default=1) + 1
    # Keys and values in f32: the cache is f16 otherwise, which alone moves logits by a thousandth.
    model: Any = Llama(path, n_ctx=longest, n_batch=longest, logits_all=True, verbose=False, type_k=0, type_v=0)
    logits = []
    for ids in passages:
        model.reset()
        model.eval(ids)
        logits.append(np.array(model.scores[: len(ids)], dtype=np.float32))
    return [model.tokenize(text.encode(), add_bos=False, special=False) if text else [] for text in texts], logits


if __name__ == "__main__":
    main()
