"""Digests of benchmark files as they were when `puna fetch --benchmarks` brought or unpacked them.

Beside FOLDER/NAME, where a release lies, stand NAME.fetch.jsonl, the account of its files, and NAME.unpacked.json, the
digest of each file that came out of its archives. Whoever reads the files compares: a benchmark that was changed since
is another one. Files that somebody put there have no record, and nothing is compared.
"""

from __future__ import annotations

from puna import storage
from puna.errors import InputError
from puna.fetch.account import ENDING, Account
from puna.formats import FETCHED
from puna.storage import Place

UNPACKED = ".unpacked.json"


def note(to: Place, release: str, unpacked: str) -> None:
    """Write down the digests of the files below to/release/unpacked."""
    folder = to / release / unpacked
    paths = [path for path in storage.listing(folder, "**/*") if storage.is_file(path)]
    told = {storage.below(path, to): storage.digest(path) for path in paths}
    storage.write_json(to / f"{release}{UNPACKED}", {"format": FETCHED.version, "files": told})


def digests(folder: Place) -> dict[str, str]:
    """Name below `folder` -> digest, of every file there that was fetched or unpacked. folder: that of all releases, or
    of one. InputError for a record that is none."""
    names = storage.names(folder) if storage.is_folder(folder) else []
    found: dict[str, str] = {}
    for name in names:
        if name.endswith(ENDING):
            found |= _fetched(folder, name.removesuffix(ENDING))
        elif name.endswith(UNPACKED):
            found |= _unpacked(folder / name)
    if not found and storage.is_file(folder.parent / f"{folder.name}{ENDING}"):
        above = _fetched(folder.parent, folder.name) | _unpacked(folder.parent / f"{folder.name}{UNPACKED}")
        found = {name.removeprefix(f"{folder.name}/"): digest for name, digest in above.items()}
    return found


def _fetched(to: Place, release: str) -> dict[str, str]:
    account = Account(to, release)
    return {f"{release}/{name}": done.digest for name, done in account.done.items() if done.digest}


def _unpacked(path: Place) -> dict[str, str]:
    if not storage.is_file(path):
        return {}
    try:
        told = storage.read_json(path)
        FETCHED.refuse_newer(told["format"], path)
        return {str(name): str(digest) for name, digest in told["files"].items()}
    except (TypeError, KeyError, AttributeError):
        mend = "remove it: what was unpacked is then taken as it is"
        raise InputError("is no list of digests", where=str(path), mend=mend) from None
