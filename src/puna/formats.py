"""The formats of a run's files in one table, and the one line that is said of a file that a newer Puna wrote.

Each kind of file holds its format's number. The one here is written, and compared by whoever reads: a larger one is
refused before anything in the folder is changed. Whoever comes to write a kind of file so that an older Puna would
misread it raises its number here and the `version` of the step that writes it (steps.py); docs/run-folder.md shows the
table. What lies in work/ holds no number: its folder is named by a fingerprint that the step's version is part of.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from puna import storage
from puna.errors import InputError
from puna.storage import Location, Place

INDEX_MAGIC = b"punatok\n"  # what the index of a token shard begins with; its format follows, a little-endian uint16
PARQUET_KEY = b"puna.format"  # of a shard of documents, in its schema's metadata: "documents/1"


class Newer(InputError):
    """A newer Puna wrote it. Never taken for damage, which would be mended by doing the work again."""

    def __init__(self, what: str, where: object, how: str) -> None:
        super().__init__(f"this {what} was written by a newer Puna ({how})", where=str(where), mend="update puna")


@dataclass(frozen=True)
class Format:
    """A kind of file."""

    what: str
    """Its name to people."""
    files: tuple[str, ...]
    """Where such files lie in a run folder, as patterns."""
    version: int = 1
    """What this Puna writes, and the largest that it reads."""
    many: bool = False
    """Whether their number grows with the corpus. One step writes all of a folder, so the first one tells of them."""

    def refuse_newer(self, found: object, where: object) -> None:
        """Raise Newer when `found`, the number in the file `where`, is larger than what this Puna reads."""
        if isinstance(found, int) and found > self.version:
            raise Newer(self.what, where, f"format {found}, this one reads {self.version}")

    def refuse_newer_file(self, path: Place) -> None:
        """Raise Newer when a number in the file is larger; a file that is not there or is damaged passes."""
        for found in numbers(path):
            self.refuse_newer(found, path)


RECIPE = Format("recipe", ("recipe.toml",))
INPUTS = Format("list of inputs", ("inputs/*.json",))
DOCUMENTS = Format("shard of documents", ("documents/*/*.parquet", "heldout/*/*.parquet"), many=True)
SHARD = Format("token shard", ("tokens/*/*.idx",), many=True)
MANIFEST = Format("manifest of tokens", ("tokens/manifest.json",))
MIXTURE = Format("mixture of tokens", ("tokens/mixture.json",))
CHECKPOINT = Format("checkpoint", ("checkpoints/*/checkpoint.json",))
CONFIG = Format("model's config", ("checkpoints/*/config.json",))
STATE = Format("state of a training", ("checkpoints/*/state.json",))
METRICS = Format("file of metrics", ("metrics.jsonl",))
LOSSES = Format("file of window losses", ("losses.jsonl",))
MACHINE = Format("list of machines", ("machine.json",))
BASELINES = Format("table of baselines", ("evaluations/baselines.json",))
HELDOUT = Format("table of bits per byte", ("evaluations/heldout.json",))
SAMPLES = Format("gallery of samples", ("evaluations/samples.json",))
CLOZE_ITEMS = Format("list of cloze items", ("evaluations/cloze_items.json",))
CLOZE = Format("table of cloze items", ("evaluations/cloze.json",))
RECORD = Format("record", ("records/*.json", "superseded/*/*.json"))
TRACE = Format("index of text", ("trace/index.json",))
LOCK = Format("lock", ("run.lock",))
PROGRESS = Format("account of progress", ("progress.json",))
ANSWERS = Format("file of answers", ())  # beside a model's other evaluations: docs/evaluate.md
RESULTS = Format("table of benchmarks", ())  # there, too
OVERLAP = Format("list of items that training documents hold", ())  # there, for all checkpoints
FETCHED = Format("account of a fetch", ())  # beside the dumps, in no run folder: docs/fetch.md
ORIGIN = Format("record of where a model came from", ())  # in a folder that puna import made
FINETUNE = Format("finetuning", ())  # finetune.json and evaluations of a folder that puna finetune made
TOXICITY = Format("list of toxicity scores", ())  # kept wherever evaluate is told to
REFERENCE = Format("classifier of cited pages", ())  # may be brought along from another run: docs/run-folder.md

FORMATS = (
    RECIPE, INPUTS, DOCUMENTS, SHARD, MANIFEST, MIXTURE, CHECKPOINT, CONFIG, STATE, METRICS, LOSSES, MACHINE,
    BASELINES, HELDOUT, SAMPLES, CLOZE_ITEMS, CLOZE, RECORD, TRACE, LOCK, PROGRESS,
)  # fmt: skip


def refuse_newer(folder: Place) -> None:
    """Raise Newer when a file of the run in `folder` is of a newer format; called before anything in it is changed."""
    for format in FORMATS:
        for pattern in format.files:
            found = storage.listing(folder, pattern)
            firsts = {str(path.parent): path for path in reversed(found)}
            for path in firsts.values() if format.many else found:
                format.refuse_newer_file(path)


def refuse_newer_output(folder: Place, name: str) -> None:
    """Raise Newer when the file `name` of the run in `folder` is of a newer format; any other file passes."""
    for format in FORMATS:
        if any(PurePosixPath(name).match(pattern) for pattern in format.files):
            format.refuse_newer_file(folder / name)


def numbers(path: Place) -> Iterator[object]:
    """The format's numbers in a file: one, or one for each line of .jsonl and each entry of a list."""
    try:
        if path.suffix == ".parquet":
            yield _of_documents(path)
        elif path.suffix == ".idx":
            with storage.open_read(path) as file:
                head = file.read(len(INDEX_MAGIC) + 2)
            if head.startswith(INDEX_MAGIC):
                yield int.from_bytes(head[len(INDEX_MAGIC) :], "little")
        elif path.suffix == ".jsonl":
            yield from (int(found) for found in re.findall(rb'"format": ?(\d+)', storage.read(path)))
        else:
            text = (storage.find(path) or b"").decode()
            value = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
            yield from (one.get("format") for one in (value if isinstance(value, list) else [value]))
    except (InputError, OSError, ValueError, AttributeError, RecursionError):
        return


def _of_documents(location: Location) -> int | None:
    import pyarrow.parquet as pq

    with storage.open_read(location) as file:
        return documents_number((pq.read_schema(file).metadata or {}).get(PARQUET_KEY, b""))


def documents_number(found: bytes) -> int | None:
    """The number in a shard of documents' metadata; None when it is no such shard."""
    match = re.fullmatch(rb"documents/(\d+)", found)
    return int(match[1]) if match else None
