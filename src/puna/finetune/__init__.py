"""Instruction finetuning (paper, section 4): examples of questions and answers in, a model that answers out."""
