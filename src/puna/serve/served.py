"""The model as the server sees it: its name, its tokenizer, its template, and the run that it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from puna import storage
from puna.generate.chat import Template
from puna.serve.refusals import Refusal
from puna.storage import Place
from puna.tokenizer import Tokenizer
from puna.tokenizer.sentencepiece_bpe import lone_surrogate


@dataclass(frozen=True)
class Served:
    """One model. context: tokens of prompt and continuation together. run: its run folder, when it is of one."""

    name: str
    tokenizer: Tokenizer
    context: int
    made: int
    """When its checkpoint was written, seconds since 1970."""
    template: Template | None = None
    run: Place | None = None

    def named(self, asked: str | None) -> None:
        """Refusal when a request asks for another model."""
        if asked is not None and asked != self.name:
            what = f"there is no model {asked!r} here, only {self.name!r}"
            raise Refusal(404, what, param="model", code="model_not_found")

    def room(self, ids: Sequence[int], max_tokens: int | None) -> int:
        """How many tokens are made behind `ids`. Refusal when there are more than the context holds."""
        free = self.context - len(ids)
        wanted = max(free, 1) if max_tokens is None else max_tokens
        if wanted > free:
            what = (
                f"{len(ids)} tokens of prompt and {wanted} to make are more than the model's context of {self.context}"
            )
            raise Refusal(400, what, param="max_tokens" if free >= 0 else None, code="context_length_exceeded")
        return wanted

    def known(self, ids: Sequence[int], param: str) -> Sequence[int]:
        """The ids, if all are of the model's pieces."""
        if (highest := max(ids, default=0)) >= self.tokenizer.vocabulary:
            what = f"{param}: {highest} is not a piece: ids are 0 to {self.tokenizer.vocabulary - 1}"
            raise Refusal(400, what, param=param)
        return ids

    def begin(self, text: str, param: str) -> list[int]:
        """The ids of a prompt's text."""
        self.valid(text, param)
        return self.tokenizer.begin(text)

    def encode(self, text: str, param: str) -> list[int]:
        """The ids of a text alone, without a control piece before it."""
        self.valid(text, param)
        return self.tokenizer.encode(text)

    @staticmethod
    def valid(text: str, param: str) -> None:
        """Refusal when a text is not Unicode."""
        if (at := lone_surrogate(text)) is not None:
            what = f"{param}: holds a lone surrogate at character {at}, which is not valid Unicode"
            raise Refusal(400, what, param=param)

    def report(self) -> Place | None:
        """The page that tells how the model was raised, where it is of a run and the page is written."""
        place = self.run and self.run / "report.html"
        return place if place is not None and storage.is_file(place) else None

    def spelt(self, token: int) -> str:
        """A token in the words of the API: its text, or `bytes:\\xe6\\x9d` when that is no whole character, or the
        name of a control piece."""
        raw = self.tokenizer.decode_bytes([token])
        if not raw:
            return self.tokenizer.pieces[token]
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
