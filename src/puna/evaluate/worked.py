"""Answers of worked solutions: taken out of generated text, brought into one form, and voted on (section 3.4).

Two answers of MATH are the same when their forms are the same text or the same rational number. No algebra is done:
what would take a computer algebra system to see as equal counts as different, so that a score may be a little too
low.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction

from puna.testsets.mathematics import boxed

SAID = re.compile(r"answer is:?\s*", re.IGNORECASE)
NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?|-?\$?\.\d+")
THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
DROPPED = re.compile(
    r"\\left(?![a-z])|\\right(?![a-z])|\\[!,;:> ]|\\quad|\\displaystyle|\\\$|\$|\^\{?\\circ\}?|\\degree|\\?%|~"
)
WORDS = re.compile(r"\\(?:text|mbox|textbf|mathrm|textrm|mathbf)\s*\{([^{}]*)\}")
UNIT = re.compile(r"(?<=[\d}])\s*\\(?:text|mbox|textrm|mathrm)\s*\{[^{}]*\}(?:\^\{?\d\}?)?$")
BARE_FRACTION = re.compile(r"\\frac\s*([^\s{\\])\s*([^\s{\\]|\{[^{}]*\})")
HALF_BARE = re.compile(r"\\frac\s*(\{[^{}]*\})\s*([^\s{\\])")
BARE_ROOT = re.compile(r"\\sqrt\s*([^\s{\[\\])")
LONG = 2000  # characters; a longer "answer" is none


def said(made: str) -> str:
    """What stands behind the last "answer is", up to the end of its line and without a final dot; "" where nothing."""
    found = list(SAID.finditer(made))
    if not found:
        return ""
    return made[found[-1].end() :].split("\n", 1)[0].strip().removesuffix(".").strip()


def of_math(made: str) -> str | None:
    """The answer of a solution: what it says the answer is, else what it puts in a box; None where there is none."""
    told = said(made)
    found = (boxed(told) or told) if told else boxed(made)
    return plain(found) if found and len(found) <= LONG else None


def of_gsm8k(made: str) -> str | None:
    """The number that a solution says is the answer, else its last number, without commas and signs of money."""
    told = NUMBER.search(said(made))
    found = [told[0]] if told else NUMBER.findall(made)
    return number(found[-1]) if found else None


def number(text: str) -> str:
    """One form of a number: `1,200.50` and `$1200.5` are 1200.5, `3.00` is 3."""
    bare = text.replace(",", "").replace("$", "")
    whole, _, rest = bare.partition(".")
    negative, whole, rest = whole.startswith("-"), whole.lstrip("-").lstrip("0") or "0", rest.rstrip("0")
    value = f"{whole}.{rest}" if rest else whole
    return f"-{value}" if negative and value != "0" else value


def plain(answer: str) -> str:
    """One form of an answer in TeX: no layout, no units behind a number, fractions in braces, no spaces."""
    text = answer.strip().removesuffix(".").strip()
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    text = UNIT.sub("", DROPPED.sub("", text).strip())
    text = WORDS.sub(r"\1", text)
    text = HALF_BARE.sub(r"\\frac\1{\2}", BARE_FRACTION.sub(_braced, text))
    text = BARE_ROOT.sub(r"\\sqrt{\1}", text)
    text = THOUSANDS.sub("", text)
    text = re.sub(r"\s+", "", text)
    if re.fullmatch(r"[A-Za-z](?:\\in)?=.+", text):
        text = text.split("=", 1)[1]
    return re.sub(r"\A(-?)\.(?=\d)", r"\g<1>0.", text)


def same(left: str, right: str) -> bool:
    """Whether two answers in one form are equal, as text or as rational numbers."""
    return left == right or ((value := rational(left)) is not None and value == rational(right))


def rational(text: str) -> Fraction | None:
    """The number that an answer in one form is: `12`, `-0.5`, `3/4`, `\\frac{3}{4}`; None for all else."""
    if match := re.fullmatch(r"(-?)\\frac\{(-?\d{1,40})\}\{(-?\d{1,40})\}", text):
        sign, text = match[1], f"{match[2]}/{match[3]}"
        value = rational(text)
        return -value if sign and value is not None else value
    if match := re.fullmatch(r"(-?\d{1,40})/(-?\d{1,40})", text):
        return Fraction(int(match[1]), int(match[2])) if int(match[2]) else None
    return Fraction(text) if re.fullmatch(r"-?\d{1,40}(\.\d{1,40})?", text) else None


def majority(answers: Sequence[str | None], same: Callable[[str, str], bool] = str.__eq__) -> str | None:
    """The answer that most solutions have, of equals the one that came first; None when none has any."""
    votes: Counter[str] = Counter()
    for answer in answers:
        if answer is not None:
            votes[next((known for known in votes if same(known, answer)), answer)] += 1
    return max(votes, key=lambda known: votes[known]) if votes else None


def _braced(match: re.Match[str]) -> str:
    below = match[2] if match[2].startswith("{") else f"{{{match[2]}}}"
    return f"\\frac{{{match[1]}}}{below}"
