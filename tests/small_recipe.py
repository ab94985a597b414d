"""A recipe as small as one can be, for tests of what a run does behind its training."""

RECIPE = """
name = "small"
[sources.wikipedia]
share = 1
[model]
dim = 16
heads = 2
layers = 1
[train]
context = 32
steps = 10
learning_rate = 1e-3
[evaluate]
ngram_order = 3
"""
