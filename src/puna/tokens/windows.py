"""window(i): the tokens of the i-th training window of a run, for any i, from (seed, manifest digest, i) alone.

i -> whose turn (turns.py) -> how many windows that source had before -> (epoch, position in it) -> the window at that
position in the epoch's own order (permutation.py) -> tokens [k * context, k * context + context + 1) of the source's
shards laid end to end. One token more than the context, so that each position has its target; the next window starts
with that token. The rest of a source that fills no window is not read in any epoch.

No state but the maps of shards it has read from: any number of ranks may ask for any windows in any order. A batch is a
range of i. Nothing ends at the plan's last window: i beyond it is defined too, for a run that skips some on purpose.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from puna.errors import InputError
from puna.storage import Place
from puna.tokens import manifest as manifests
from puna.tokens import mixture as mixtures
from puna.tokens.permutation import permute, permute_all, position_of, round_keys
from puna.tokens.shards import Part, Shard

OPEN_SHARDS = 4096  # maps kept at once; the kernel allows some 65,000 a process


@dataclass(frozen=True, slots=True)
class Where:
    """Where a window comes from."""

    source: str
    epoch: int  # from 0
    index: int  # the window's number in the source, which is not the order of reading
    start: int  # its first token, counted over the source's shards laid end to end


class Windows:
    """The training windows of the run in `folder`, from tokens/manifest.json and tokens/mixture.json.

    len(): the windows that training reads. InputError when the tokens are not those that the mixture was made for, or a
    shard is missing or damaged; shards are opened when first read from.
    """

    def __init__(self, folder: Place) -> None:
        self.folder = folder
        self.manifest = manifests.read(self.folder)
        self.mixture = mixtures.read(self.folder)
        if self.mixture.manifest != self.manifest.digest:
            where = str(manifests.folder_of(self.folder) / mixtures.NAME)
            raise InputError("was made for other tokens than there are now", where=where, mend=mixtures.MEND)
        self.context = self.mixture.context
        self._names = list(self.mixture.sources)
        self._sizes = [ration.epoch_windows for ration in self.mixture.sources.values()]
        self._turns = self.mixture.turns
        # For each source the first token of each of its shards, and the end.
        self._starts = [
            [0, *accumulate(shard.tokens for shard in self.manifest.sources[name].shards)] for name in self._names
        ]
        self._shard = lru_cache(maxsize=OPEN_SHARDS)(self._open)
        self._keys = lru_cache(maxsize=1024)(self._epoch_keys)

    def __len__(self) -> int:
        return self.mixture.windows

    def window(self, i: int) -> npt.NDArray[np.int64]:
        """(context + 1,): the tokens of window `i`, counted from 0."""
        source, _, index = self._locate(i)
        row = np.empty(self.context + 1, dtype=np.int64)
        self._read(source, index * self.context, row)
        return row

    def batch(self, start: int, count: int) -> npt.NDArray[np.int64]:
        """(count, context + 1): the windows `start` to `start + count`, not with it."""
        if start < 0 or count < 0:
            raise InputError(f"there is no batch of {count} windows at {start}: windows are counted from 0")
        sources, ordinals = self._turns.turns_of(np.arange(start, start + count, dtype=np.int64))
        rows = np.empty((count, self.context + 1), dtype=np.int64)
        for source in np.unique(sources).tolist():
            size = self._sizes[source]
            theirs = np.flatnonzero(sources == source)
            epochs, positions = np.divmod(ordinals[theirs], size)
            for epoch in np.unique(epochs).tolist():
                chosen = epochs == epoch
                indices = permute_all(positions[chosen], size, self._keys(source, epoch))
                for row, index in zip(theirs[chosen].tolist(), indices.tolist(), strict=True):
                    self._read(source, index * self.context, rows[row])
        return rows

    def where(self, i: int) -> Where:
        """The source, epoch and place of window `i`."""
        source, epoch, index = self._locate(i)
        return Where(self._names[source], epoch, index, index * self.context)

    def documents(self, i: int) -> list[Part]:
        """(document id, first, last) of each document in window `i`: `window(i)[first:last]` is what it holds of it,
        <s> and </s> included."""
        source, _, index = self._locate(i)
        start, found = index * self.context, []
        for shard, first, last, place in self._pieces(source, start, start + self.context + 1):
            parts = self._shard(source, shard).parts(first, last)
            found += [Part(part.document, place + part.first, place + part.last) for part in parts]
        return found

    def readings(self, source: str, first: int, last: int, *, past: int = 0) -> list[int]:
        """The windows that training reads and that hold one of the tokens `first` to `last` (not with it) of a source,
        counted over its shards laid end to end; in order. past: windows behind the plan that are among them, since as
        many were passed over."""
        number = self._names.index(source)
        size = self._sizes[number]
        # The last token of a window is the first of the next one, for it is a target only.
        indices = range(max(0, (first - 1) // self.context), min(size, -(-last // self.context)))
        found, epoch = [], 0
        while self._turns.index(number, epoch * size) < len(self) + past:
            keys = self._keys(number, epoch)
            ordinals = (epoch * size + position_of(index, size, keys) for index in indices)
            found += [i for i in (self._turns.index(number, ordinal) for ordinal in ordinals) if i < len(self) + past]
            epoch += 1
        return sorted(found)

    def _locate(self, i: int) -> tuple[int, int, int]:
        """(source, epoch, index) of window `i`."""
        if i < 0:
            raise InputError(f"there is no window {i}: windows are counted from 0")
        source, ordinal = self._turns.turn(i)
        epoch, position = divmod(ordinal, self._sizes[source])
        return source, epoch, permute(position, self._sizes[source], self._keys(source, epoch))

    def _read(self, source: int, start: int, row: npt.NDArray[np.int64]) -> None:
        """Fill `row` with the source's tokens from `start` on."""
        for shard, first, last, place in self._pieces(source, start, start + len(row)):
            row[place : place + last - first] = self._shard(source, shard).tokens[first:last]

    def _pieces(self, source: int, start: int, stop: int) -> list[tuple[int, int, int, int]]:
        """Tokens `start` to `stop` of a source as (shard, first, last, place): tokens `first` to `last` of that shard
        stand `place` tokens after `start`."""
        starts = self._starts[source]
        shard = bisect_right(starts, start) - 1
        found = []
        while shard < len(starts) - 1 and starts[shard] < stop:
            first, last = max(start, starts[shard]), min(stop, starts[shard + 1])
            if first < last:
                found.append((shard, first - starts[shard], last - starts[shard], first - start))
            shard += 1
        return found

    def _open(self, source: int, shard: int) -> Shard:
        name = self._names[source]
        entry = self.manifest.sources[name].shards[shard]
        opened = Shard.open(manifests.stem(self.folder, name, entry.name))
        if (opened.header.digest, opened.header.tokens) != (entry.bin, entry.tokens):
            where = f"{opened.stem}.idx"
            raise InputError("not the shard that the manifest names", where=where, mend=manifests.MEND)
        return opened

    def _epoch_keys(self, source: int, epoch: int) -> tuple[int, ...]:
        return round_keys(self.mixture.seed, self.manifest.digest, self._names[source], epoch)
