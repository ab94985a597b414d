"""The tokenizer: SentencePiece byte-pair encoding that gives back every text unchanged (the paper's section 2.1).

A model from elsewhere brings its own as a tokenizer.json, which has the same interface (tokenizer_json.py).
"""

from puna import storage
from puna.tokenizer.sentencepiece_bpe import Ids, Tokenizer, dtype_for
from puna.tokenizer.sentencepiece_bpe import load as _load
from puna.tokenizer.training import train

__all__ = ["Ids", "Tokenizer", "dtype_for", "load", "train"]


def load(location: storage.Location) -> Tokenizer:
    """The tokenizer in the file `location`, a tokenizer.model or a tokenizer.json; InputError when it is neither."""
    if str(location).endswith(".json"):
        from puna.tokenizer.tokenizer_json import load_json

        return load_json(location)
    return _load(location)
