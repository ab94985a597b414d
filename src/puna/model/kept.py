"""What a layer keeps of a token until its backward pass, by mode, counted without loading torch.

Paper, section 2.4. The modes are those of modes.py. Whoever foresees memory counts with this: training, for the mode
that fits (train/memory.py), and the planner, for ranks that are not there (plan/).
"""

from __future__ import annotations

from puna.model.config import ModelConfig


def layer_bytes(config: ModelConfig, width: int, mode: str) -> int:
    """Bytes that a layer keeps of one token until its backward pass; width: bytes of an element.

    D dim, G kv_heads * head_dim, F hidden, in elements; a logsumexp a head in f32 or wider:
    - hand: 4 D + 2 G + 2 F, and the logsumexps (`kept_bytes` of hand.py); lean: 4 D + 2 G + F, and they;
    - selective: 5 D + 2 G + 2 F, and the logsumexps: x, and what five matmuls of the attention and the feed-forward's
      three gave; compiled, torch leaves out one D;
    - reference: x, both norms before and behind their weights, q, k and v a head each, the attention's output, the sum
      behind it, and in the feed-forward w1, its silu, w3 and the product: 10 D + 4 F, the logsumexps, and like them a
      number a norm; in 16 bits the norms keep f32 as well: 12 D + 4 F. Compiled, torch keeps less;
    - full: D.
    """
    dim, keys, hidden = config.dim, config.kv_heads * config.head_dim, config.hidden
    if mode == "full":
        return width * dim
    elements = {
        "hand": 4 * dim + 2 * keys + 2 * hidden,
        "lean": 4 * dim + 2 * keys + hidden,
        "selective": 5 * dim + 2 * keys + 2 * hidden,
        "reference": (10 if width >= 4 else 12) * dim + 4 * hidden,
    }[mode]
    inverses = 2 if mode == "reference" else 0
    return width * elements + max(4, width) * (config.heads + inverses)
