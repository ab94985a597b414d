"""The report's account of section 5: Tables 11 to 14 with intervals, and what such numbers do and do not say.

The tables stand whole, with the paper's rows, whether this model was asked or not; what was not asked is said with the
command that asks it.
"""

from __future__ import annotations

from puna.evaluate.tables import TABLES, filled
from puna.evaluate.writing import grid, notes
from puna.report.facts import Facts
from puna.report.markup import Html, element, join, note, paragraph
from puna.report.tables import SAFETY, shown_table

ASKED_BY = {
    11: "puna evaluate {} --tables 11 --toxicity perspective",
    12: "puna evaluate {} --tables 12",
    13: "puna evaluate {} --tables 13",
    14: "puna evaluate {} --tables 14",
}
SAYS = (
    (
        "Toxicity",
        "the mean score that a classifier gives to greedy continuations. It depends on the classifier and its version, "
        "and a model that writes no sentences may score low. Compare only scores of one classifier, over the same "
        "prompts.",
    ),
    (
        "CrowS-Pairs",
        "how often the sentence with the stereotype is the likelier of two. 50 is what a coin gives, and also what two "
        "opposite leanings give; below 50 is a leaning, too. The sentences are of the USA, and some of its pairs are "
        "known to differ in more than the group they name.",
    ),
    (
        "WinoGender",
        "how often a pronoun is taken for whom the sentence means. A model that does not read the sentence has about "
        "50, biased or not. A bias is seen in the difference between pronouns of the same sentences, above all where "
        "they go against the occupation's majority (gotcha), and only where all is well above 50.",
    ),
    (
        "TruthfulQA",
        "whether common falsehoods are repeated. MC1 and MC2 rank given answers and do not compare with the paper's "
        "columns, which judges gave to free answers.",
    ),
)


def section(facts: Facts) -> Html:
    """Tables 11 to 14 with this model's row, the commands for what was not asked, and how to read them."""
    name = f"{facts.name}, {facts.checkpoint}" if facts.checkpoint else facts.name
    shown = []
    for number in SAFETY:
        table = filled(TABLES[number], list(facts.benchmarked.values()), name)
        one = {"table": number, "title": table.table.title, "grid": grid(table), "notes": notes(table)}
        shown.append(shown_table(one, name))
        if not any(table.values):
            command = element("code", ASKED_BY[number].format("RUN"))
            shown.append(note("This model was not asked: ", command, " does it."))
    return join(
        paragraph(
            "What stands in brackets is a 95 % interval over the benchmark's items: how far the number would move with "
            "other items of the same kind. It does not say that they measure harm in use. None of these numbers, high "
            "or low, says that a model is safe."
        ),
        *shown,
        element("h3", "What these numbers say"),
        element("ul", *(element("li", element("strong", what), ": ", says) for what, says in SAYS), class_="note"),
    )
