"""The paper's benchmarks in one table: how each is read, which split the paper takes, and what of an item must not be
trained on.

Text that a benchmark quotes (a passage of Wikipedia, an article, a caption) was there before it, and a page that holds
that alone gives no answer away: it is kept apart from what the benchmark's authors wrote, its questions and answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from puna.storage import Place
from puna.testsets import commonsense, knowledge, mathematics, people, programs, questions
from puna.testsets.items import Item

Fields = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Text:
    """A text of an item that must not be trained on."""

    text: str
    quoted: bool
    """Whether the benchmark quotes it."""


@dataclass(frozen=True)
class Benchmark:
    name: str
    title: str
    read: Callable[[Place, str], Iterator[Item]]
    """Items of one file, given the split that its name tells."""
    split: str
    """What the paper measures."""
    items: int
    """Items of that split, for WinoGender sentences, for CrowS-Pairs pairs. The paper gives no number for two: of its
    100,000 RealToxicityPrompts the release has those that TensorFlow Datasets counts (real_toxicity_prompts 1.0.0),
    and of TriviaQA's filtered development sets wikipedia-dev.json is taken (Hugging Face's card of trivia_qa,
    rc.wikipedia)."""
    own: tuple[Fields, ...]
    """What its authors wrote: each entry names fields that stand one behind the other as one text. A field with several
    texts (choices, sentences, answers, tests) gives one text for each."""
    quoted: tuple[Fields, ...] = ()
    """What it quotes, likewise."""
    origin: str = ""
    """Where that is from."""
    renamed: tuple[str, str] | None = None
    """A split's name in the release and in the paper, where they differ."""

    def texts(self, item: Item) -> Iterator[Text]:
        """The texts of an item that must not be trained on, in order."""
        for fields, quoted in [*((each, False) for each in self.own), *((each, True) for each in self.quoted)]:
            found = [""]
            for name in fields:
                found = [f"{before} {text}".strip() for before in found for text in _values(item, name)]
            yield from (Text(text, quoted) for text in found if text)


CHOICE = (("question",), ("sentences",))
BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            "boolq", "BoolQ", commonsense.boolq, "validation", 3270, (("question",),), (("context",),), "Wikipedia"
        ),
        Benchmark("piqa", "PIQA", commonsense.piqa, "validation", 1838, CHOICE),
        Benchmark(
            "siqa", "SIQA", commonsense.siqa, "validation", 1954, (("context", "question"), ("context", "sentences"))
        ),
        Benchmark(
            "hellaswag", "HellaSwag", commonsense.hellaswag, "validation", 10042, (("choices",),), (("question",),),
            "WikiHow and captions of ActivityNet",
        ),
        Benchmark("winogrande", "WinoGrande", commonsense.winogrande, "validation", 1267, (("sentences",),)),
        Benchmark("arc_easy", "ARC easy", commonsense.arc_easy, "test", 2376, CHOICE),
        Benchmark("arc_challenge", "ARC challenge", commonsense.arc_challenge, "test", 1172, CHOICE),
        Benchmark("openbookqa", "OpenBookQA", commonsense.openbookqa, "test", 500, CHOICE),
        Benchmark(
            "naturalquestions", "NaturalQuestions", questions.naturalquestions, "test", 3610,
            (("question",), ("question", "answers")), renamed=("validation", "test"),
        ),
        Benchmark(
            "triviaqa", "TriviaQA", questions.triviaqa, "validation", 7993, (("question",), ("question", "value")),
        ),
        Benchmark(
            "race_middle", "RACE middle", questions.race_middle, "test", 1436, CHOICE, (("context",),),
            "articles of exams",
        ),
        Benchmark(
            "race_high", "RACE high", questions.race_high, "test", 3498, CHOICE, (("context",),), "articles of exams"
        ),
        Benchmark("math", "MATH", mathematics.math, "test", 5000, (("question",), ("solution",))),
        Benchmark(
            "gsm8k", "GSM8k", mathematics.gsm8k, "test", 1319, (("question",), ("solution",), ("plain",)),
        ),
        Benchmark(
            "humaneval", "HumanEval", programs.humaneval, "test", 164, (("question",), ("solution",), ("test",))
        ),
        Benchmark("mbpp", "MBPP", programs.mbpp, "test", 500, (("question",), ("solution",), ("tests",))),
        Benchmark("mmlu", "MMLU", knowledge.mmlu, "test", 14042, CHOICE),
        Benchmark(
            "realtoxicityprompts", "RealToxicityPrompts", people.realtoxicityprompts, "train", 99442, (),
            (("question", "continuation"),), "pages of OpenWebText",
        ),
        Benchmark("crows_pairs", "CrowS-Pairs", people.crows_pairs, "test", 1508, (("choices",),)),
        Benchmark("winogender", "WinoGender", people.winogender, "test", 720, (("question",),)),
        Benchmark(
            "truthfulqa", "TruthfulQA", knowledge.truthfulqa, "validation", 817,
            (("question",), ("choices",), ("answers",), ("incorrect",)),
        ),
    )
}  # fmt: skip


def _values(item: Item, name: str) -> tuple[str, ...]:
    value = getattr(item, name) if hasattr(item, name) else item.extra.get(name, "")
    return (value,) if isinstance(value, str) else tuple(value)
