"""Instruction finetuning (paper, section 4): examples of questions and answers in, a model that answers out."""

ENERGY = "energy.json"
"""In a finetuning's folder: what each of its parts took, in the order in which they ended."""
