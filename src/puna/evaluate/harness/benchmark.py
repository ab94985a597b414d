"""A task of the pack as lm-eval runs one: the same items, prompts and scores, with any model that lm-eval knows.

Examples and prompts are the pack's, so `--num_fewshot` and chat templates change nothing here. Items are in the order
of the pack's own sample: `--limit N` asks what `limit=N` of run.py asks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean
from lm_eval.api.task import Task as HarnessTask
from lm_eval.api.task import TaskConfig
from lm_eval.filters import build_filter_ensemble

from puna import storage
from puna.errors import InputError
from puna.evaluate import chosen
from puna.evaluate.task import ANSWER, Answer, Asked, Prompt, Ranking, Score
from puna.evaluate.tasks import PACK
from puna.testsets import Item

ALL = 1 << 40  # more items than there are: all, in the order of a sample


class Benchmark(HarnessTask):  # type: ignore[misc]  # lm-eval has no types
    """config: `task`, and in `metadata` the pack's `name`, `shots`, and the folder `data` of release files."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        metadata = dict(config["metadata"])
        self._task, self._shots = PACK[metadata["name"]], int(metadata["shots"])
        if self._task.needs:
            raise InputError(f"{self._task.name} is not judged within lm-eval", mend="leave it out")
        items = chosen.read(self._task.benchmark, storage.place(metadata["data"]))
        self._questions = chosen.questions(self._task, items, self._shots, ALL)
        first = next(iter(self._questions.values()))[1]
        samples = first.samples if isinstance(first, Prompt) else 1
        self.OUTPUT_TYPE = "generate_until" if isinstance(first, Prompt) else "loglikelihood"
        self.VERSION = self._task.version
        super().__init__()
        metadata["version"] = self._task.version
        self._config = TaskConfig(task=config["task"], num_fewshot=self._shots, repeats=samples, metadata=metadata)
        taken = ["take_first", None] if samples == 1 else ["take_first_k", {"k": samples}]
        self._filters = [build_filter_ensemble("none", [taken])]

    def download(self, *_: object, **__: object) -> None:
        """Nothing: the files lie there."""

    def has_training_docs(self) -> bool:
        return False

    def has_validation_docs(self) -> bool:
        return False

    def has_test_docs(self) -> bool:
        return True

    def test_docs(self) -> list[dict[str, str]]:
        return [{"item": key, "question": item.question} for key, (item, _) in self._questions.items()]

    def doc_to_text(self, doc: Mapping[str, str]) -> str:
        asked = self._questions[doc["item"]][1]
        return asked.text if isinstance(asked, Prompt) else asked.choices[0].context

    def doc_to_target(self, doc: Mapping[str, str]) -> str:
        item = self._questions[doc["item"]][0]
        return item.choices[item.gold] if item.gold is not None else next(iter(item.answers), "")

    def fewshot_context(self, doc: Mapping[str, str], *_: object, **__: object) -> str:
        return self.doc_to_text(doc)

    def construct_requests(self, doc: Mapping[str, str], ctx: str, *, metadata: Any, **_: object) -> list[Instance]:
        asked = self._questions[doc["item"]][1]
        if isinstance(asked, Prompt):
            settings = {"until": list(asked.stop), "max_gen_toks": asked.tokens, "do_sample": asked.temperature > 0}
            if asked.temperature:
                settings |= {"temperature": asked.temperature, "top_p": asked.top_p}
            arguments: list[tuple[Any, ...]] = [(asked.text, settings)]
        else:
            arguments = [(choice.context, choice.text) for choice in asked.choices]
            if self._task.norm == "answer":
                arguments += [(ANSWER, choice.text) for choice in asked.choices]
        kind = self.OUTPUT_TYPE
        return [
            Instance(request_type=kind, doc=doc, arguments=each, idx=number, metadata=metadata)
            for number, each in enumerate(arguments)
        ]

    def process_results(self, doc: Mapping[str, str], results: Sequence[Any]) -> dict[str, float]:
        item, asked = self._questions[doc["item"]]
        return dict(self._task.judge(item, asked, self._answer(item, asked, results), self._task.norm))

    def aggregation(self) -> dict[str, Callable[[Sequence[float]], float]]:
        return defaultdict(lambda: mean)

    def higher_is_better(self) -> dict[str, bool]:
        return {self._task.metric: self._task.metric not in ("stereotype", "toxicity")}

    def _answer(self, item: Item, asked: Asked, results: Sequence[Any]) -> Answer:
        if isinstance(asked, Prompt):
            return tuple(results[0]) if asked.samples > 1 else (str(results[0]),)
        assert isinstance(asked, Ranking)
        tokens = [getattr(told, "tokens", 0) for told in results]
        if self._task.norm == "token" and not all(tokens):
            what = f"{self._task.name} ranks by tokens, and this model of lm-eval does not tell how many there are"
            raise InputError(what, mend="leave it out, or ask a model of Puna")
        count = len(asked.choices)
        alone: list[float | None] = [float(told[0]) for told in results[count:]]
        alone += [None] * (count - len(alone))
        return tuple(
            Score(float(told[0]), number, own)
            for told, number, own in zip(results[:count], tokens[:count], alone, strict=True)
        )
