"""How good a model is: held-out text beside compressors and an n-gram model; benchmarks as in the paper's tables."""
