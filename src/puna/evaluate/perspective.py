"""Toxicity by PerspectiveAPI, as the paper measured it (section 5.1, Table 11): a text goes out, a score comes back.

Only when asked for by name, with a key. The service takes about one text a second, so hours are said before it begins.
Every score is kept with the day on which it was given, as the model behind the service changes and is not named by it;
what is kept is not asked for again. A text that the service cannot score, or a request that fails, is no score: never
a zero.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import xxhash

from puna import storage
from puna.errors import InputError, PunaError
from puna.fetch.client import LONGEST_WAIT, Clock, Passing, post, retry_after, wait_for
from puna.formats import TOXICITY
from puna.lines import Appender
from puna.storage import Place

URL = "https://commentanalyzer.googleapis.com/v1alpha1/comments:analyze"
KEY = "PERSPECTIVE_API_KEY"
ATTRIBUTE = "TOXICITY"
LONGEST = 20_480  # bytes of UTF-8 that the service takes at most
TRIES = 8  # in a row that may fail before it is given up


@dataclass(frozen=True)
class Toxicity:
    """What the service said of a text: a score from 0 to 1, or why it gives none; and the day."""

    score: float | None
    day: str
    why: str = ""


@dataclass
class Perspective:
    """Asks, at most `per_second`, and keeps what was said in `kept` (JSON lines). language: that of the prompts."""

    key: str
    kept: Place
    url: str = URL
    per_second: float = 1.0
    language: str = "en"
    clock: Clock = field(default_factory=Clock)
    today: Callable[[], str] = lambda: datetime.now(UTC).date().isoformat()

    def __post_init__(self) -> None:
        if not self.key:
            raise InputError(
                "toxicity by PerspectiveAPI needs a key", where=KEY, mend=f"set {KEY}, or give stored scores"
            )
        if not self.key.isascii() or not self.key.isprintable() or " " in self.key:
            raise InputError("is no key: it holds what none does", where=KEY, mend="give the key alone, without quotes")
        if not 0 < self.per_second <= 1000:
            raise InputError(
                f"{self.per_second:g} texts a second cannot be asked", mend="give more than 0, at most 1000"
            )

    @classmethod
    def of_environment(cls, kept: Place, **values: Any) -> Perspective:
        """With the key that PERSPECTIVE_API_KEY holds; a key on a command line would be seen by everybody."""
        return cls(os.environ.get(KEY, "").strip(), kept, **values)

    def said_before(self, count: int) -> str:
        """How long `count` continuations will take, and what leaves this machine. None of them is made yet, so what is
        kept is told, not counted out."""
        hours = count / self.per_second / 3600
        host = self.url.split("/")[2]
        most = f"up to {count:,} texts go to {host}, {self.per_second:g} a second: {hours:.1f} hours"
        return f"{most}; {len(self._known()):,} are kept and not sent again"

    def scores(self, texts: Iterable[str]) -> Iterator[Toxicity]:
        """Of each text in turn. Raises InputError where the key is refused, PunaError when the service fails for long:
        what was scored by then is kept."""
        known, kept = self._known(), Appender(self.kept)
        try:
            if not known:
                kept.line(json.dumps({"format": TOXICITY.version, "attribute": ATTRIBUTE, "url": self.url}))
            begun = self.clock.now() - 1 / self.per_second
            for text in texts:
                digest = _digest(text)
                if digest not in known:
                    begun = self._paced(begun)
                    known[digest] = self._asked(text)
                    line = {"text": digest, "score": known[digest].score, "day": known[digest].day}
                    kept.line(json.dumps(line | ({"why": known[digest].why} if known[digest].why else {})))
                yield known[digest]
        finally:
            kept.close()

    def _paced(self, begun: float) -> float:
        """Waits until a request may begin, `begun` being when the last one was; when it begins."""
        self.clock.sleep(max(0.0, begun + 1 / self.per_second - self.clock.now()))
        return self.clock.now()

    def _asked(self, text: str) -> Toxicity:
        size = len(text.encode("utf-8", "replace"))
        if not text.strip():
            return Toxicity(None, self.today(), "an empty text")
        if size > LONGEST:
            return Toxicity(None, self.today(), f"{size:,} bytes, of {LONGEST:,} that are taken")
        failures = 0
        while True:
            self.clock.check()
            try:
                return self._once(text)
            except Passing as error:
                failures += 1
                if failures >= TRIES:
                    raise PunaError(f"failed {TRIES} times in a row: {error}", where=self.url) from None
                self.clock.sleep(min(LONGEST_WAIT, wait_for(failures) if error.after is None else error.after))

    def _once(self, text: str) -> Toxicity:
        body = {
            "comment": {"text": text},
            "languages": [self.language],
            "requestedAttributes": {ATTRIBUTE: {}},
            "doNotStore": True,
        }
        status, headers, answer = post(self.url, json.dumps(body).encode(), {"X-Goog-Api-Key": self.key})
        if status == 200:
            return Toxicity(_score(answer, self.url), self.today())
        told = _told(answer)
        if status == 429 or status >= 500:
            raise Passing(f"is busy (status {status})", where=self.url, after=retry_after(headers, time.time()))
        if status in (401, 403) or "api key" in told.lower():
            raise InputError(
                f"refuses the key: {told}", where=self.url, mend=f"check {KEY} and that it may use this API"
            )
        if status == 400:  # of this text: its language, its length
            return Toxicity(None, self.today(), told)
        raise PunaError(f"answers with status {status}: {told}", where=self.url)

    def _known(self) -> dict[str, Toxicity]:
        """What was scored before, by the digest of its text."""
        if not storage.exists(self.kept):
            return {}
        known = {}
        with storage.open_read(self.kept) as file:
            for number, data in enumerate(file, 1):
                if not data.endswith(b"\n"):
                    break  # a killed process left it; it is cut off when the file is opened to be written
                line = _line(data, f"{self.kept}:{number}")
                if number == 1:
                    TOXICITY.refuse_newer(line.get("format"), self.kept)
                    continue
                known[str(line["text"])] = Toxicity(line["score"], str(line["day"]), str(line.get("why", "")))
        return known


def _line(data: bytes, where: str) -> dict[str, Any]:
    try:
        line = json.loads(data)
    except (ValueError, RecursionError):
        line = None
    if isinstance(line, dict) and (
        "format" in line or (_is_score(line.get("score", "")) and {"text", "day"} <= line.keys())
    ):
        return line
    raise InputError("is no kept score", where=where, mend="remove that line, and its text is asked again")


def _is_score(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1)


def _score(answer: bytes, url: str) -> float:
    """Out of what the service answers; PunaError where there is none."""
    try:
        value = json.loads(answer)["attributeScores"][ATTRIBUTE]["summaryScore"]["value"]
    except (ValueError, KeyError, TypeError, RecursionError):
        value = None
    if value is None or not _is_score(value):
        raise PunaError(f"gives no score of {ATTRIBUTE} in its answer", where=url)
    return float(value)


def _told(answer: bytes) -> str:
    """What an error says, in one line."""
    try:
        told = str(json.loads(answer)["error"]["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        told = answer[:200].decode("utf-8", "replace")
    return " ".join("".join(c if c.isprintable() else " " for c in told[:300]).split()) or "no reason given"


def _digest(text: str) -> str:
    return xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass"))
