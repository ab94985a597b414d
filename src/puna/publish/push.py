"""A push: what it would do is found out and said, and done when somebody agreed.

A repository gets one commit that holds all of the export, or none. Of what it has from an earlier export, and this one
has not (a shard of weights or of documents more), the same commit takes out, since readers would take it for a part of
this one; other files stay. Behind the commit the hub is asked for its digests, which must be those of the disk.

What is pushed was verified just before, and each file's digest is taken then: a file that changes later is not sent.
Interrupted or refused, the export stays, nothing is seen of it on the hub, and the same command goes on: what the hub's
store has it does not take again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from puna import storage
from puna.errors import InputError, Interrupted, PunaError
from puna.progress import progress, size
from puna.publish.data_card import licence_of
from puna.publish.hub import Destination, File, Hub, Standing, opened
from puna.publish.refusals import plain

# The files that an export has, and no others. What lies beside them was not verified.
MADE = {
    "model": (
        *("README.md", "config.json", "generation_config.json", "chat_template.jinja"),
        *("model.safetensors", "model-?????-of-?????.safetensors", "model.safetensors.index.json"),
        *("tokenizer.json", "tokenizer.model", "tokenizer_config.json"),
    ),
    "dataset": ("README.md", "shards.json", "data/*/*.parquet", "notices/*.txt"),
}
CARD = "README.md"
SHOWN = 3  # names of files that are shown of many


@dataclass(frozen=True)
class Push:
    """What a push of a folder would do, at a hub that is open."""

    hub: Hub
    folder: Path
    files: tuple[File, ...]
    standing: Standing
    private: bool
    licence: str
    verified: str

    @property
    def to(self) -> Destination:
        return self.hub.to

    @property
    def missing(self) -> list[File]:
        """Files that are not there with these bytes."""
        return [file for file in self.files if not self.standing.has(file)]

    @property
    def stale(self) -> list[str]:
        """What an earlier export left there that this one does not have."""
        own = {file.name for file in self.files}
        return sorted(name for name in self.standing.files if name not in own and _made(self.to.kind, name))

    @property
    def others(self) -> list[str]:
        """What stays there and is nobody's export."""
        git = ".gitattributes"
        return sorted(name for name in self.standing.files if name != git and not _made(self.to.kind, name))

    def as_text(self) -> str:
        """All that somebody should know who is asked whether to push."""
        total, missing = sum(file.size for file in self.files), self.missing
        replaced = [file.name for file in missing if file.name in self.standing.files]
        known = len(self.files) - len(missing)
        there = f", {known:,} of them are there" if known and missing else ""
        lines = [
            f"Push {self.folder} to {self.to.address}",
            f"  what     a {self.to.kind}: {_count(self.files)}, {size(total)}{there}",
            f"  checked  {self.verified}",
            f"  licence  {plain(self.licence) or 'the card says none'}",
            f"  who      {'everybody can read it' if not self.private else 'private'}; as {self.standing.user}",
        ]
        if not self.standing.exists:
            lines.append("  there    nothing yet: the repository is made")
        elif not missing and not self.stale:
            lines.append("  there    all of it already")
        elif not (replaced or self.stale or self.others):
            lines.append("  there    an empty repository")
        lines += [f"  there    {_names(replaced)} replaced"] if replaced else []
        lines += [f"  there    {_names(self.stale)} of an earlier export taken out"] if self.stale else []
        lines += [f"  there    {_names(self.others)} left as they are"] if self.others else []
        return "\n".join(lines)

    def go(self) -> str:
        """Push; the address of what stands there now. Raises PunaError with how to go on, and Interrupted."""
        stays = f"{self.folder} stays, and the same command goes on"
        missing = self.missing
        try:
            head = self.standing.head if self.standing.exists else self.hub.create(private=self.private)
            if not missing and not self.stale:
                return f"{self.to.address} has all of it already"
            additions = []
            with progress(f"to {self.to.name}", sum(file.size for file in missing), "bytes") as bar:
                for file in missing:
                    before = bar.done
                    additions.append(self.hub.send(self.folder, file, bar.advance))
                    bar.advance(file.size - (bar.done - before))  # what the hub had already
            commit = self.hub.commit(additions, self.stale, head)
            self.hub.compare(self.files, commit)
        except KeyboardInterrupt:
            raise Interrupted(f"the push was interrupted; {stays}") from None
        except PunaError as error:
            mend = f"{error.mend}; {stays}" if error.mend else stays
            raise type(error)(error.what, where=error.where, mend=mend) from None
        return f"{self.to.address}: {_count(self.files)}, and the hub has the digests of the disk"


@contextmanager
def begin(to: Destination, *, public: bool) -> Iterator[Beginning]:
    """Open the hub and look at what stands there, before anything is made that may take long. InputError for a
    repository that is public when nobody said that this is meant."""
    with opened(to) as hub:
        standing = hub.look()
        if standing.exists and not standing.private and not public:
            mend = "give --public if that is meant, or another name"
            raise InputError("is public: everybody can read what is pushed there", where=to.address, mend=mend)
        yield Beginning(hub, standing, private=standing.private if standing.exists else not public)


@dataclass(frozen=True)
class Beginning:
    """A hub that is open for a push whose files are still to be made."""

    hub: Hub
    standing: Standing
    private: bool

    def of(self, folder: Path, verified: str) -> Push:
        """The push of a verified export. verified: who read it back, in words. InputError for a folder that holds
        something else."""
        kind = self.hub.to.kind
        names = list(storage.tree(folder))
        for name in names:
            if not _made(kind, name) or (folder / name).is_symlink():
                mend = "move it elsewhere: a push sends what was verified and nothing else"
                raise InputError(f"{name} is no file of an export", where=str(folder), mend=mend)
        with progress("digests", sum(storage.tree(folder).values()), "bytes") as bar:
            files = []
            for name in names:
                files.append(File.of(folder, name))
                bar.advance(files[-1].size)
        licence = licence_of(storage.read(folder / CARD).decode(errors="replace")) if CARD in names else ""
        return Push(self.hub, folder, tuple(files), self.standing, self.private, licence, verified)


def _made(kind: str, name: str) -> bool:
    """Whether a file of this name is one that exports have."""
    parts = name.split("/")
    for pattern in MADE[kind]:
        wanted = pattern.split("/")
        if len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted)):
            return True
    return False


def _count(files: Sequence[File]) -> str:
    return f"{len(files):,} file{'' if len(files) == 1 else 's'}"


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"{', '.join(map(plain, names[:SHOWN]))}{more}"
