"""An n-gram language model over piece ids, smoothed by interpolated modified Kneser-Ney.

The paper keeps CommonCrawl pages by such a model (section 2.1, through CCNet: 5-grams over SentencePiece pieces,
trained on Wikipedia), and a language model of any size should beat it on held-out text, so it also stands beside the
model in every evaluation. The estimate is equation by equation that of Chen and Goodman (1998, section 4.2) as KenLM's
`lmplz` computes it, so that its files can replace these:

- the highest order counts n-grams; a lower order counts distinct pieces to the left, but n-grams that begin with <s>,
  which have nothing to their left, keep their plain counts;
- three discounts an order, from how many n-grams have (adjusted) count 1, 2, 3 and 4;
- every order is interpolated with the next lower one, and unigrams with the uniform distribution over the whole closed
  vocabulary but <s>, which is never predicted.

Measured against lmplz, all numbers are the same in its single precision; only, when it counts counts for the
discounts, it takes the last n-gram of each lower order with its plain count, which on tiny texts shows.

An n-gram is known by its node: its rank among the n-grams of its order, sorted by (node of all but the last piece,
last piece). Such a pair packs into 64 bits for any order and vocabulary, so training is one sort an order and a lookup
is one binary search an order, over all tokens at once. At order 5, training takes 60 bytes of memory for a token of
ordinary text, 160 where hardly anything repeats.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.signedinteger]
Floats = npt.NDArray[np.float64]

FALLBACK = (0.5, 1.0, 1.5)  # discounts where the text is too small to tell them: lmplz --discount_fallback


@dataclass(frozen=True, slots=True)
class Level:
    """All n-grams of one order, by node."""

    keys: npt.NDArray[np.int64]
    """Sorted; node of all but the last piece, times the vocabulary, plus the last piece. Unigrams: the piece."""
    log10: Floats
    """log10 of the probability of the last piece after the others."""
    backoff: Floats
    """log10 of what a piece unseen after this n-gram is weighted with. Empty for the highest order."""


@dataclass(frozen=True, slots=True)
class NgramModel:
    """Probabilities of a piece after up to order - 1 others; `bos` and `eos` are the ids of <s> and </s>."""

    vocabulary: int
    bos: int
    eos: int
    levels: tuple[Level, ...]

    @property
    def order(self) -> int:
        return len(self.levels)

    def log10_probabilities(self, tokens: npt.ArrayLike) -> Floats:
        """log10 of each token's probability after the up to order - 1 tokens before it: (tokens,) -> (tokens,).

        `tokens` are whole documents one after another, each <s> pieces </s>, as `stream` makes them and token shards
        hold them; no context reaches over a <s>. A <s> itself is given, not predicted: 0.
        """
        stream = np.asarray(tokens, dtype=np.int64)
        begins = stream == self.bos
        nodes = stream
        scores = self.levels[0].log10[stream]
        for lower, level in pairwise(self.levels):
            contexts = _contexts(nodes, begins)
            in_context = contexts >= 0
            scores[in_context] += lower.backoff[contexts[in_context]]
            nodes = np.where(in_context, find(level.keys, contexts * self.vocabulary + stream), -1)
            known = nodes >= 0
            scores[known] = level.log10[nodes[known]]
        scores[begins] = 0.0
        return scores


def train(documents: Iterable[npt.ArrayLike], *, order: int = 5, vocabulary: int, bos: int, eos: int) -> NgramModel:
    """The model of `documents`, each the piece ids of a text without <s> and </s>.

    Where discounts cannot be told from the counts of an order (no n-gram of count 1, of 2 or of 3, or a value
    out of (0, count]), as in tiny texts, FALLBACK stands for them. ValueError: no documents, or ids that are no pieces.
    """
    tokens = stream(documents, vocabulary=vocabulary, bos=bos, eos=eos)
    if not tokens.size:
        raise ValueError("no documents to train on")
    if order < 1 or tokens.size >= 2**31:
        raise ValueError(f"cannot train order {order} on {tokens.size} tokens")
    grams = _grams(tokens, order, vocabulary, bos)
    del tokens

    gram = grams.pop(0)
    discount = discounts(gram.counts)[np.minimum(gram.counts, 3)]
    total = gram.counts.sum()
    probabilities: Floats = (gram.counts - discount) / total + discount.sum() / total / (vocabulary - 1)
    probabilities[bos] = 1.0
    levels = []
    while grams:
        keys, size = gram.keys, gram.keys.size
        gram = grams.pop(0)
        context = gram.keys // vocabulary
        discount = discounts(gram.counts)[np.minimum(gram.counts, 3)]
        totals = np.bincount(context, weights=gram.counts, minlength=size)
        backoff = np.bincount(context, weights=discount, minlength=size).astype(np.float64, copy=False)
        np.divide(backoff, totals, out=backoff, where=totals > 0)
        backoff[totals == 0] = 1.0
        levels.append(Level(keys, _log10(probabilities), _log10(backoff)))
        probabilities = (gram.counts - discount) / totals[context] + backoff[context] * probabilities[gram.suffix]
        del context, discount, totals, backoff
    levels.append(Level(gram.keys, _log10(probabilities), np.empty(0)))
    return NgramModel(vocabulary, bos, eos, tuple(levels))


def stream(documents: Iterable[npt.ArrayLike], *, vocabulary: int, bos: int, eos: int) -> npt.NDArray[np.int32]:
    """The documents as one array of tokens, each as <s> pieces </s>. ValueError for ids that are no pieces of text."""
    first, last = np.array([bos], np.int32), np.array([eos], np.int32)
    parts: list[npt.NDArray[np.int32]] = []
    for number, document in enumerate(documents):
        ids = np.asarray(document)
        if ids.size and (ids.min() < 0 or ids.max() >= vocabulary or np.isin(ids, (bos, eos)).any()):
            raise ValueError(f"document {number} holds ids that are <s>, </s> or outside 0 to {vocabulary - 1}")
        parts += (first, ids.astype(np.int32), last)
    return np.concatenate(parts) if parts else np.empty(0, np.int32)


def discounts(counts: Ints) -> Floats:
    """What is taken off an n-gram of count 0, 1, 2, and 3 or more: Chen and Goodman's equation 26, or FALLBACK."""
    one, two, three, four = (float(np.count_nonzero(counts == number)) for number in (1, 2, 3, 4))
    if one and two and three:
        share = one / (one + 2 * two)
        found = (1 - 2 * share * two / one, 2 - 3 * share * three / two, 3 - 4 * share * four / three)
        if all(0 < discount <= count for count, discount in enumerate(found, start=1)):
            return np.array([0.0, *found])
    return np.array([0.0, *FALLBACK])


def find(keys: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The node of each wanted key, -1 where there is none."""
    if not keys.size:
        return np.full(wanted.shape, -1, np.int64)
    places = np.searchsorted(keys, wanted)
    places[places == keys.size] = 0
    return np.where(keys[places] == wanted, places, -1)


@dataclass(frozen=True, slots=True)
class _Grams:
    """The n-grams of one order in a text, by node."""

    keys: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int32]
    """Adjusted: distinct pieces to the left; plain for the highest order and where <s> leaves no left."""
    suffix: npt.NDArray[np.int32]
    """Node, one order lower, of all but the first piece. Empty for unigrams."""


def _grams(tokens: npt.NDArray[np.int32], order: int, vocabulary: int, bos: int) -> list[_Grams]:
    begins = tokens == bos
    nodes = tokens  # of the n-gram that ends at each token, -1 where its document began too late for one
    keys = np.arange(vocabulary, dtype=np.int64)
    counts = np.bincount(tokens, minlength=vocabulary).astype(np.int32)
    suffix = np.empty(0, np.int32)
    from_bos = keys == bos
    grams = []
    for _ in range(order - 1):
        longer_keys, longer_counts, firsts, longer_nodes = _lengthen(tokens, nodes, begins, vocabulary)
        longer_suffix = nodes[firsts]
        left = np.bincount(longer_suffix, minlength=keys.size).astype(np.int32)
        grams.append(_Grams(keys, np.where(from_bos, counts, left), suffix))
        from_bos = from_bos[longer_keys // vocabulary]
        keys, counts, suffix, nodes = longer_keys, longer_counts, longer_suffix, longer_nodes
    grams.append(_Grams(keys, counts, suffix))
    grams[0].counts[bos] = 0
    return grams


def _lengthen(
    tokens: npt.NDArray[np.int32], nodes: npt.NDArray[np.int32], begins: npt.NDArray[np.bool_], vocabulary: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.signedinteger], npt.NDArray[np.int32]]:
    """The next order: its keys, their counts, a token where each ends, and the node that ends at every token."""
    contexts = _contexts(nodes, begins)
    ends = np.flatnonzero(contexts >= 0).astype(np.int32)
    packed = contexts[ends].astype(np.int64) * vocabulary + tokens[ends]
    del contexts
    by_key = np.argsort(packed)
    ends, packed = ends[by_key], packed[by_key]
    del by_key
    new = np.ones(packed.size, bool)
    np.not_equal(packed[1:], packed[:-1], out=new[1:])
    firsts = np.flatnonzero(new)
    counts = np.diff(firsts, append=packed.size).astype(np.int32)
    longer = np.full(tokens.size, -1, np.int32)
    longer[ends] = np.cumsum(new, dtype=np.int32) - 1
    return packed[firsts], counts, ends[firsts], longer


def _contexts(nodes: Ints, begins: npt.NDArray[np.bool_]) -> Ints:
    """Node of the n-gram that ends just before each token, -1 where there is none in its document."""
    contexts = np.roll(nodes, 1)
    contexts[begins] = -1
    contexts[:1] = -1
    return contexts


def _log10(probabilities: Floats) -> Floats:
    # Rounding may leave a certain piece a hair above 1, and a reader of ARPA files refuses that.
    return np.minimum(np.log10(probabilities), 0.0)
