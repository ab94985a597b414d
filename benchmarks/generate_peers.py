"""The engines beside which benchmarks/generate.py puts Puna's.

Each gives a run of the same work, or says in words why there is none.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

CONTEXT = 1024


class How(NamedTuple):
    dtype: str
    texts: int
    start: int
    prompt: int
    """Tokens of the prompt that is read; 0 where texts are written."""
    steps: int
    threads: int
    quick: bool


Run = Callable[[], None]


def transformers(model: Any, how: How) -> Run | str:
    """LlamaForCausalLM with a static cache, compiled, tokens drawn greedily."""
    if not importlib.util.find_spec("transformers"):
        return "pip install transformers"
    if how.prompt and how.quick:
        return "takes a minute to read a prompt in bfloat16 where the processor has none"
    if how.dtype == "int8":
        return "it has no weights of 8 bits on a CPU"
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, StaticCache

    shape = model.config
    config = LlamaConfig(
        hidden_size=shape.dim,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        vocab_size=shape.vocabulary,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=shape.tied,
    )
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[how.dtype]
    theirs = LlamaForCausalLM(config).to(dtype).eval()
    call = theirs if how.quick else torch.compile(theirs, dynamic=False)
    cache = StaticCache(config=config, max_cache_len=CONTEXT)
    ids = torch.arange(3, 3 + max(how.prompt, how.start)).repeat(how.texts, 1)

    @torch.no_grad()
    def at(ids: Any, place: int) -> Any:
        where = torch.arange(place, place + ids.shape[1])
        out = call(ids, past_key_values=cache, cache_position=where, position_ids=where[None], logits_to_keep=1)
        return out.logits[:, -1].argmax(-1, keepdim=True)

    if how.prompt:
        return lambda: (cache.reset(), at(ids, 0), None)[-1]
    state = {"ids": at(ids, 0), "place": how.start}

    def write() -> None:
        for _ in range(how.steps):
            state["ids"] = at(state["ids"], state["place"])
            state["place"] += 1

    return write


def llama_cpp(model: Any, how: How) -> Run | str:
    """llama.cpp through llama-cpp-python, from a GGUF file; it decodes, and nothing is drawn."""
    if not importlib.util.find_spec("llama_cpp") or not importlib.util.find_spec("gguf"):
        return "pip install llama-cpp-python gguf"
    import ctypes

    import llama_cpp as library

    quiet = library.llama_log_callback(lambda level, text, data: None)
    library.llama_log_set(quiet, ctypes.c_void_p(0))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.gguf")
        _write_gguf(file, model, how.dtype)
        settings = library.llama_model_default_params()
        settings.use_mmap = False
        loaded = library.llama_model_load_from_file(str(file).encode(), settings)
    asked = library.llama_context_default_params()
    asked.n_ctx, asked.n_batch, asked.n_ubatch = CONTEXT * how.texts, 512, 512
    asked.n_seq_max, asked.n_threads, asked.n_threads_batch = how.texts, how.threads, how.threads
    context = library.llama_init_from_model(loaded, asked)
    batch = library.llama_batch_init(512, 0, how.texts)

    def at(tokens: list[int], place: int, texts: int) -> None:
        """Read `tokens` of each text from position `place`, with the scores of the last."""
        batch.n_tokens = len(tokens) * texts
        for index in range(batch.n_tokens):
            text, token = divmod(index, len(tokens))
            batch.token[index], batch.pos[index] = tokens[token], place + token
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, text
            batch.logits[index] = token == len(tokens) - 1
        assert library.llama_decode(context, batch) == 0
        library.llama_get_logits(context)

    def clear() -> None:
        library.llama_memory_clear(library.llama_get_memory(context), True)

    keep = (quiet, loaded)  # as long as the run is
    if how.prompt:
        return lambda: (clear(), at(list(range(3, 3 + how.prompt)), 0, 1), keep, None)[-1]
    for place in range(how.start):
        at([3 + place], place, how.texts)
    state = {"place": how.start}

    def write() -> None:
        for _ in range(how.steps):
            at([5], state["place"], how.texts)
            state["place"] += 1

    return write


def _write_gguf(file: Path, model: Any, dtype: str) -> None:
    import gguf
    import numpy as np

    kind = {"f32": "F32", "bf16": "BF16", "int8": "Q8_0"}[dtype]
    kind = getattr(gguf.GGMLQuantizationType, kind)
    shape, writer = model.config, gguf.GGUFWriter(str(file), "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(shape.dim)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"<{number}>" for number in range(shape.vocabulary)])
    writer.add_token_scores([0.0] * shape.vocabulary)
    writer.add_token_types([gguf.TokenType.NORMAL] * shape.vocabulary)
    names = {"attention_norm": "attn_norm", "ffn_norm": "ffn_norm", "attention.wq": "attn_q", "attention.wk": "attn_k"}
    names |= {"attention.wv": "attn_v", "attention.wo": "attn_output", "feed_forward.w1": "ffn_gate"}
    names |= {"feed_forward.w2": "ffn_down", "feed_forward.w3": "ffn_up"}
    names |= {"tok_embeddings": "token_embd", "norm": "output_norm", "output": "output"}
    for name, tensor in model.state_dict().items():
        layer, _, rest = name.removesuffix(".weight").removeprefix("layers.").partition(".")
        written = f"blk.{layer}.{names[rest]}" if rest else names[layer]
        values = tensor.numpy().astype(np.float32)
        if tensor.dim() == 2:
            writer.add_tensor(f"{written}.weight", gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(f"{written}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


PEERS: dict[str, Callable[[Any, How], Run | str]] = {"transformers": transformers, "llama.cpp": llama_cpp}
