"""EleutherAI's lm-eval on both sides of Puna: its tasks over a model of ours, and our pack in its own command.

`model.py` is a model as lm-eval asks one; `benchmark.py` a task of the pack as lm-eval runs one, with any of its
models; `python -m puna.evaluate.harness FOLDER --data BENCHMARKS` writes what `lm_eval --include_path FOLDER` reads.
Only these files import lm-eval (extra `eval`); the pack, its prompts and its scores know nothing of it.
"""
