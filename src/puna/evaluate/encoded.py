"""Questions as ids: where a context ends and a choice begins, and what is cut where a model's context is too short.

Context and choice are encoded as one text, as a model met them in training. What is scored are the tokens behind those
that the text has in common with its context alone: where a token spans the border it belongs to the choice, and no
token of a choice is lost or scored as if it stood at the beginning of a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from puna.evaluate.task import ANSWER, Choice, Prompt, Ranking
from puna.tokenizer import Tokenizer
from puna.tokenizer.prefix import common

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    context: Ids
    """At least one."""
    choice: Ids


@dataclass(frozen=True, slots=True)
class Pairs:
    """A ranking."""

    pairs: tuple[Pair, ...]
    alone: tuple[Pair, ...]
    """Each choice behind "Answer:", where that is asked for."""
    cut: bool
    """Whether something did not fit and was cut."""

    @property
    def size(self) -> int:
        """Tokens of the longest."""
        return max(len(pair.context) + len(pair.choice) for pair in (*self.pairs, *self.alone))


@dataclass(frozen=True, slots=True)
class Begun:
    """A prompt."""

    ids: Ids
    cut: bool


def pair(tokenizer: Tokenizer, choice: Choice) -> Pair:
    whole, context = tokenizer.begin(choice.context + choice.text), tokenizer.begin(choice.context)
    border = common(whole, context)
    # Something must stand before a text to be scored: <s>, also where a tokenizer does not begin texts with it.
    return Pair(tuple(whole[:border]) or (tokenizer.bos,), tuple(whole[border:]))


def ranking(tokenizer: Tokenizer, asked: Ranking, context: int, *, alone: bool) -> Pairs:
    """The choices of a ranking, each at most `context` tokens with what stands before it.

    All lose the same part of their context, its beginning behind <s>: as much as the longest choice needs. A choice
    that is too long by itself loses its end.
    """
    pairs = [pair(tokenizer, choice) for choice in asked.choices]
    behind = [pair(tokenizer, Choice(ANSWER, choice.text)) for choice in asked.choices] if alone else []
    fitted = _fitted(pairs, context), _fitted(behind, context)
    return Pairs(*fitted, cut=fitted != (tuple(pairs), tuple(behind)))


def begun(tokenizer: Tokenizer, asked: Prompt, context: int) -> Begun:
    """A prompt, cut at its beginning so that its text fits behind it into `context` tokens, or into half of them."""
    ids = tokenizer.begin(asked.text) or [tokenizer.bos]
    room = max(context - asked.tokens, context // 2, 1)
    return Begun(tuple(_end(ids, room)), len(ids) > room)


def _fitted(pairs: Sequence[Pair], context: int) -> tuple[Pair, ...]:
    most = max((len(pair.choice) for pair in pairs), default=0)
    room = max(context - most, 1)
    return tuple(Pair(_end(pair.context, room), pair.choice[: context - 1]) for pair in pairs)


def _end(ids: Sequence[int], room: int) -> Ids:
    """At most `room` ids: the first, and the last of the others."""
    return tuple(ids) if len(ids) <= room else (ids[0], *ids[len(ids) - room + 1 :])
