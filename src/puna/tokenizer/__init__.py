"""The tokenizer: SentencePiece byte-pair encoding that gives back every text unchanged (the paper's section 2.1)."""

from puna.tokenizer.sentencepiece_bpe import Ids, Tokenizer, dtype_for, load
from puna.tokenizer.training import train

__all__ = ["Ids", "Tokenizer", "dtype_for", "load", "train"]
