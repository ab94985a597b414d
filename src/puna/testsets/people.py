"""Sections 5.1 to 5.3: RealToxicityPrompts, CrowS-Pairs, WinoGender."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from puna import storage
from puna.errors import InputError
from puna.storage import Place
from puna.testsets import records
from puna.testsets.items import Item
from puna.testsets.records import MEND

STATISTICS = ("occupations-stats.tsv", "winogender_occupations-stats.tsv")
PRONOUNS = {
    "male": {"NOM": "he", "POSS": "his", "ACC": "him"},
    "female": {"NOM": "she", "POSS": "her", "ACC": "her"},
    "neutral": {"NOM": "they", "POSS": "their", "ACC": "them"},
}
WORDS = {gender: frozenset(forms.values()) for gender, forms in PRONOUNS.items()}
SENTENCE = re.compile(r"([^.]+)\.([^.]+)\.([01])\.(male|female|neutral)\.txt")


def realtoxicityprompts(location: Place, split: str) -> Iterator[Item]:
    """question: the prompt; extra: continuation (the web page's own), challenging, scores and continuation_scores (by
    attribute of PerspectiveAPI; None where the release has none)."""
    for record in records.json_lines(location):
        prompt, continuation = record.part("prompt"), record.part("continuation")
        extra = {
            "continuation": continuation.text("text", empty=True),
            "challenging": record.truth("challenging"),
            "scores": {name: prompt.real(name) for name in prompt.values if name != "text"},
            "continuation_scores": {name: continuation.real(name) for name in continuation.values if name != "text"},
        }
        key = f"{record.text('filename')}:{record.number('begin')}-{record.number('end')}"
        yield Item("realtoxicityprompts", split or "train", key, prompt.text("text"), extra=extra)


def crows_pairs(location: Place, split: str) -> Iterator[Item]:
    """choices: the sentence that is more of a stereotype, and the one that is less. extra: bias (one of nine), and
    direction: stereo, or antistereo where the second sentence is written against the stereotype."""
    for record in records.table(location):
        choices = (record.text("sent_more"), record.text("sent_less"))
        ways = ("stereo", "antistereo")
        extra = {"bias": record.text("bias_type"), "direction": ways[record.one_of("stereo_antistereo", ways)]}
        yield Item("crows_pairs", split or "test", record.text(""), "", "", choices, extra=extra)


def winogender(location: Place, split: str) -> Iterator[Item]:
    """question: the sentence; choices: occupation and participant, of which `gold` is the one that the pronoun means.
    extra: gender (male, female or neutral: whose pronoun it is), pronoun (as it stands there), percent_female (the
    share of women in the occupation by the Bureau of Labor Statistics, from occupations-stats.tsv beside the file,
    where it lies). Reads all_sentences.tsv, and templates.tsv, whose sentences it writes out."""
    female = _statistics(location)
    for key, sentence, where in _sentences(location):
        match = SENTENCE.fullmatch(key)
        if not match:
            raise InputError(f"sentid is {key[:60]!r}, not such as nurse.patient.0.male.txt", where=where, mend=MEND)
        occupation, participant, gold, gender = match.groups()
        words = [word for word in re.findall(r"\w+", sentence.lower()) if word in WORDS[gender]]
        if len(words) != 1:
            raise InputError(f"has {len(words)} {gender} pronouns, not one", where=where, mend=MEND)
        extra = {"gender": gender, "pronoun": words[0], "percent_female": female.get(occupation)}
        yield Item(
            "winogender", split or "test", key.removesuffix(".txt"), sentence, "", (occupation, participant),
            int(gold), extra=extra,
        )  # fmt: skip


def _sentences(location: Place) -> Iterator[tuple[str, str, str]]:
    """(id, sentence, where) of each sentence of either file, in the same order."""
    for record in records.table(location, tabs=True):
        if "sentid" in record.values:
            yield record.text("sentid"), record.text("sentence"), record.where
            continue
        occupation, other = record.text("occupation(0)"), record.text("other-participant(1)")
        gold, template = "01"[record.one_of("answer", "01")], record.text("sentence")
        for participant in (other, "someone"):
            for gender, forms in PRONOUNS.items():
                key = f"{occupation}.{participant}.{gold}.{gender}.txt"
                yield key, _written_out(template, occupation, participant, forms), record.where


def _written_out(template: str, occupation: str, participant: str, forms: Mapping[str, str]) -> str:
    sentence = template.replace("$OCCUPATION", occupation)
    if participant == "someone":
        sentence = re.sub(r"\b[Tt]he \$PARTICIPANT", "$PARTICIPANT", sentence)
    sentence = sentence.replace("$PARTICIPANT", participant)
    for kind, word in forms.items():
        sentence = sentence.replace(f"${kind}_PRONOUN", word)
    if forms["NOM"] == "they":
        sentence = re.sub(r"\bthey was\b", "they were", sentence)
    return sentence[:1].upper() + sentence[1:]


def _statistics(location: Place) -> dict[str, float | None]:
    for name in STATISTICS:
        if storage.is_file(location.parent / name):
            rows = records.table(location.parent / name, tabs=True)
            return {row.text("occupation"): row.real("bls_pct_female") for row in rows}
    return {}
