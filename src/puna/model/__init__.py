"""The LLaMA: its shape, the reference implementation, attention, loss, weights, cache, and bits per byte.

Tensors are named with their dimensions: B batch, L length (queries), S positions so far (keys), D dim, H heads, G
key-value heads, K head_dim, F head_dim / 2, V vocabulary, N tokens of a flattened batch; L1 is L + 1.
"""
