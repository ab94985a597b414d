"""C4's rules on the text of a page (Raffel et al. 2020, section 2.2): which lines stay, and which pages.

A line stays that ends in a mark of punctuation, has enough words, and speaks of neither JavaScript nor policies. A page
is dropped with a placeholder text, a curly bracket (code), a word of the user's list, or with too few sentences left.
Spans of three sentences that repeat are another step's, and so is the language.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from puna import storage
from puna.recipe_sources import C4

SENTENCE = re.compile(r"[.?!。！？…]+[\"'”’»)\]]*(?=\s|$)")
CITATION = re.compile(r"\[(?:\d*|edit|citation needed)\]")  # what Wikipedia's pages have within lines


@dataclass(frozen=True, slots=True)
class Verdict:
    """The text that is left of a page, or the rule that drops it."""

    text: str
    rule: str = ""


class Rules:
    """C4's rules with a recipe's numbers."""

    def __init__(self, recipe: C4) -> None:
        self.recipe = recipe
        self.ends, self.ellipsis = tuple(recipe.end_marks), tuple(recipe.ellipsis)
        self.lines = _any_of(recipe.drop_lines)
        self.pages = _any_of(recipe.drop_pages)
        self.bad = bad_words(recipe.bad_words)

    def judge(self, text: str) -> Verdict:
        """Rules, in order: `placeholder` (one of drop_pages), `bad words`, `sentences`, `short`."""
        if self.pages and self.pages.search(text):
            return Verdict("", "placeholder")
        if self.bad and self.bad.search(text):
            return Verdict("", "bad words")
        kept = "\n".join(line for line in map(self._line, text.split("\n")) if line)
        if sentences(kept) < self.recipe.min_sentences:
            return Verdict(kept, "sentences")
        if len(kept) < max(1, self.recipe.min_characters):
            return Verdict(kept, "short")
        return Verdict(kept)

    def _line(self, line: str) -> str:
        """A line that stays, without marks of citations; else an empty one."""
        line = CITATION.sub("", line).strip()
        if not line.endswith(self.ends) or line.endswith(self.ellipsis):
            return ""
        if len(line.split()) < self.recipe.min_words or (self.lines and self.lines.search(line)):
            return ""
        return line


def sentences(text: str) -> int:
    """Sentences of a text, by the marks that end them; a line ends a sentence too."""
    return sum(max(1, len(SENTENCE.findall(line))) for line in text.split("\n") if line)


def bad_words(files: Sequence[str]) -> re.Pattern[str] | None:
    """What matches a word of one of the files, one a line in UTF-8, where it stands for itself; None without words.
    InputError where a file is missing."""
    words = {word.strip() for file in files for word in storage.read(file).decode(errors="replace").split("\n")}
    found = "|".join(re.escape(word) for word in sorted(words - {""}))
    return re.compile(rf"(?<!\w)(?:{found})(?!\w)", re.IGNORECASE) if found else None


def _any_of(texts: Iterable[str]) -> re.Pattern[str] | None:
    found = "|".join(re.escape(text) for text in texts if text)
    return re.compile(found, re.IGNORECASE) if found else None
