"""Answers of worked solutions: taken out of generated text, brought into one form, and voted on (section 3.4).

Two answers of MATH are the same when their forms are the same text or the same rational number. No algebra is done:
what would take a computer algebra system to see as equal counts as different, so that a score may be a little too
low. Where the normalisation of Minerva (Lewkowycz et al. 2022, appendix D), whose set-up the paper takes, makes one of
two spellings of an answer, so does this one (test_evaluate_scorers.py).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction

from puna.testsets.mathematics import boxed

SAID = re.compile(r"answer is:?\s*|####\s*", re.IGNORECASE)
NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?|-?\$?\.\d+")
IN_DOLLARS = re.compile(r"\$((?:\\.|[^$\\])+)\$")
# Of TeX, a comma that no list has; and of plain text, where the whole answer is one number: (3,100) is a pair.
TEX_THOUSANDS = re.compile(r"(?<=\d)(?:,\\!|\{,\})(?=\d{3}(?!\d))")
THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?=(?:\.\d+)?(?:[^\d,.][^,]*)?\Z)")
# What an answer is called: `x =`, `f(x) =`, `x \\in`.
NAMED = re.compile(r"(?:[A-Za-z]|\\[a-z]+)(?:_\w|_\{\w+\})?(?:\([a-z]\))?\s*(?:=|\\in(?![a-z]))([^=]+)")
DROPPED = re.compile(
    r"\\left(?![a-z])|\\right(?![a-z])|\\[!,;:> ]|\\quad|\\displaystyle|\\\$|\$|\^\{?\\circ\}?|\\degree|\\?%|~"
)
WORDS = re.compile(r"\\(?:text|mbox|textbf|mathrm|textrm|mathbf)\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
PLAIN_UNIT = re.compile(
    r"(?:(?<=[\d})])|(?<=\\pi))\s+(?!(?:and|sin|cos|tan|log)\b)(?:[A-Za-z]{3,}|[ckm]m|ft|kg)(?:\s+[A-Za-z]+)*(?:\^\{?\d\}?)?\Z"
)
UNIT = re.compile(r"(?<=[\d}])\s*\\(?:text|mbox|textrm|mathrm)\s*\{[^{}]*\}(?:\^\{?\d\}?)?$")
BARE_FRACTION = re.compile(r"\\frac\s*([^\s{\\])\s*([^\s{\\]|\{[^{}]*\})")
HALF_BARE = re.compile(r"\\frac\s*(\{[^{}]*\})\s*([^\s{\\])")
BARE_ROOT = re.compile(r"\\sqrt\s*([^\s{\[\\])")
BARE_SCRIPT = re.compile(r"([_^])\{(\w)\}")
LETTER = re.compile(r"\(([A-Z])\)")  # of a multiple choice
LONG = 2000  # characters; a longer "answer" is none


def said(made: str) -> str:
    """What stands behind the last "answer is" or GSM8k's "####", up to the end of its line and without a final dot; ""
    where nothing."""
    found = list(SAID.finditer(made))
    if not found:
        return ""
    return made[found[-1].end() :].split("\n", 1)[0].strip().removesuffix(".").strip()


def of_math(made: str) -> str | None:
    """The answer of a solution: what it says the answer is, else what it puts in a box; None where there is none."""
    told = said(made)
    found = (boxed(told) or _in_dollars(told)) if told else boxed(made)
    return plain(found) if found and len(found) <= LONG else None


def of_gsm8k(made: str) -> str | None:
    """The number that a solution says is the answer, of a calculation there (`10 - 4 = 6`) its result; else its last
    number. Without commas and signs of money."""
    told = NUMBER.search(said(made).rpartition("=")[2])
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
    """One form of an answer in TeX: no layout, no name before it, no units behind a number, no commas between
    thousands, fractions in braces, no spaces."""
    text = answer.strip().removesuffix(".").strip()
    text = re.sub(r"\\[dt]frac", r"\\frac", TEX_THOUSANDS.sub("", text))
    text = UNIT.sub("", DROPPED.sub("", text).strip())
    text = PLAIN_UNIT.sub("", WORDS.sub(r"\1", text))
    text = HALF_BARE.sub(r"\\frac\1{\2}", BARE_FRACTION.sub(_braced, text))
    text = BARE_SCRIPT.sub(r"\1\2", BARE_ROOT.sub(r"\\sqrt{\1}", text))
    if named := NAMED.fullmatch(text):
        text = named[1]
    text = re.sub(r"\s+", "", text)
    if thousands := THOUSANDS.match(text):
        text = thousands[0].replace(",", "") + text[thousands.end() :]
    text = LETTER.sub(r"\1", text) if LETTER.fullmatch(text) else text
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


def _in_dollars(told: str) -> str:
    """What stands between signs of mathematics at the beginning: a sentence may follow."""
    found = IN_DOLLARS.match(told)
    return found[1] if found else told
