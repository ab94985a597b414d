"""The other end of a push: a hub with Hugging Face's protocol, spoken to by that protocol's own client.

The client is loaded when a push is asked for. The token is HF_TOKEN or that of the client's own login, and each request
is looked at before it is sent: one that carries the token goes to the hub that was named, or does not go. A login
belongs to the client's own hub; another one that `--hub` names gets HF_TOKEN or nothing.

Files go by Git LFS, which hubs of this protocol have in common, one after the other: what a hub has already it does not
ask for again, and no file is in memory. Xet, the client's other way, has a client of its own that cannot be looked at.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from packaging.version import Version

from puna.errors import InputError, PunaError
from puna.publish import refusals
from puna.publish.refusals import plain

HUB = "https://huggingface.co"
NAME = re.compile(r"[A-Za-z0-9](?:[\w.-]{0,94}[A-Za-z0-9_])?", re.ASCII)
PORTS = {"http": 80, "https": 443}
LOOPBACK = ("localhost", "127.0.0.1", "::1")
OLDEST = Version("1.31.0")  # of the client, as in pyproject.toml; 1.0 ends with an error behind a commit elsewhere
MOST = 100_000  # files of a repository
TIMEOUT = 120.0  # seconds without a byte
PLAIN = 16_000_000  # bytes of a file that a hub may want inside the commit itself, which is made in memory
OPTIONS = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}


@dataclass(frozen=True)
class Destination:
    """A repository of a hub."""

    hub: str
    """Its address, without a slash at its end."""
    name: str
    """OWNER/NAME."""
    kind: str
    """model or dataset."""

    @property
    def address(self) -> str:
        """Where people see it."""
        return f"{self.hub}/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"


@dataclass(frozen=True)
class File:
    """A file of an export. sha256: of its bytes; blob: the name that git gives them."""

    name: str
    size: int
    sha256: str
    blob: str

    @classmethod
    def of(cls, folder: Path, name: str) -> File:
        """Read in blocks of 1 MiB."""
        size = (folder / name).stat().st_size
        plain, git = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
        with (folder / name).open("rb") as file:
            while block := file.read(1 << 20):
                plain.update(block)
                git.update(block)
        return cls(name, size, plain.hexdigest(), git.hexdigest())


@dataclass(frozen=True)
class Standing:
    """What stands at a destination. user: whose token it is. head: its last commit. files: by name their sha256, or
    git's name of those that lie in git itself."""

    user: str
    exists: bool
    private: bool = True
    head: str = ""
    files: Mapping[str, str] = field(default_factory=dict)

    def has(self, file: File) -> bool:
        return self.files.get(file.name) in (file.sha256, file.blob)


def destination(name: str, kind: str, hub: str | None = None) -> Destination:
    """Where a push goes. hub: an address, else what HF_ENDPOINT says, else Hugging Face's. InputError for what is no
    name or no address."""
    owner, slash, repository = name.partition("/")
    sound = all(NAME.fullmatch(part) and not re.search(r"--|\.\.", part) for part in (owner, repository))
    if not slash or not sound or name.endswith(".git"):
        mend = "give OWNER/NAME, each of letters, digits, -, _ and ., at most 96 of them"
        raise InputError(f"{name[:200]!r} is no name of a repository", mend=mend)
    address = (hub or os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment or "@" in parts.netloc:
        raise InputError(f"{address[:200]!r} is no address of a hub", mend=f"give one such as {HUB}")
    if parts.scheme == "http" and host not in LOOPBACK:
        what = f"{address} is not encrypted, and the token would be read on the way"
        raise InputError(what, mend="give its https address")
    return Destination(address, name, kind)


class Hub:
    """A hub while it is open. Every method raises PunaError, in one line, for what the hub refuses or cannot do."""

    def __init__(self, to: Destination, client: Any, token: str) -> None:
        self.to = to
        self._client, self._token = client, token
        self._api = client.HfApi(endpoint=to.hub, token=token, library_name="puna")
        self._which = {"repo_id": to.name, "repo_type": to.kind}

    def look(self) -> Standing:
        """What stands there now."""
        with self._told("look"):
            user = plain(str(self._api.whoami().get("name", "")))
            try:
                info = self._api.repo_info(**self._which)
            except self._client.errors.RepositoryNotFoundError as error:
                if isinstance(error, self._client.errors.GatedRepoError):
                    raise
                return Standing(user, exists=False)
            if info.id.lower() != self.to.name.lower():
                raise PunaError(f"is called {plain(info.id)} now", where=self.to.address, mend="give that name")
            head = str(info.sha or "")
            return Standing(user, True, bool(info.private), head, self._files(head) if head else {})

    def create(self, *, private: bool) -> str:
        """Make the repository; its first commit, "" where a hub makes none. PunaError where it is not as private as was
        asked, before anything is sent."""
        with self._told("create"):
            self._api.create_repo(self.to.name, repo_type=self.to.kind, private=private)
            info = self._api.repo_info(**self._which)
            if private and not info.private:
                raise PunaError("was made public by the hub, and nothing was sent", where=self.to.address)
            return str(info.sha or "")

    def send(self, folder: Path, file: File, sent: Callable[[int], None]) -> Any:
        """Bring one file to the hub's store; what the commit is to hold of it. sent: is told of bytes as they go.

        Raises PunaError when its bytes are not those that `file` was made of.
        """
        with self._told("send", file.name), _Watched(folder / file.name, sent) as opened:
            addition = self._client.CommitOperationAdd(file.name, opened)
            if addition.upload_info.sha256.hex() != file.sha256:
                raise PunaError("was changed since it was verified", where=str(folder / file.name))
            opened.watched = True
            with warnings.catch_warnings():  # the client hands files to its own transport in a way it warns of
                warnings.simplefilter("ignore")
                self._api.preupload_lfs_files(
                    self.to.name, [addition], repo_type=self.to.kind, num_threads=1, free_memory=True
                )
            opened.watched = False
            if isinstance(addition.path_or_fileobj, bytes):  # it lies in the hub's store
                return addition
            if file.size > PLAIN:
                raise PunaError(f"the hub does not take {file.name} as a large file", where=self.to.address)
            opened.seek(0)
            return self._client.CommitOperationAdd(file.name, opened.read())

    def commit(self, additions: Sequence[Any], gone: Sequence[str], head: str) -> str:
        """Make one commit of what was sent, and take out the names in `gone`; its id. head: the commit that it follows;
        where another came between, nothing is changed."""
        removed = [self._client.CommitOperationDelete(name) for name in gone]
        with self._told("commit"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = self._api.create_commit(
                self.to.name,
                [*additions, *removed],
                repo_type=self.to.kind,
                commit_message="Export by Puna",
                parent_commit=head or None,
            )
            return str(made.oid)

    def compare(self, files: Sequence[File], commit: str) -> None:
        """PunaError unless the commit holds these files with these bytes, by the hub's own digests."""
        with self._told("look"):
            there = Standing("", True, files=self._files(commit))
        if wrong := [file.name for file in files if not there.has(file)]:
            what = f"holds another {wrong[0]} than was sent, or none"
            raise PunaError(what, where=f"{self.to.address}, commit {commit[:12]}", mend="look at it there")

    def _files(self, commit: str) -> dict[str, str]:
        found = self._api.list_repo_tree(self.to.name, repo_type=self.to.kind, revision=commit, recursive=True)
        files: dict[str, str] = {}
        for each in found:
            if hasattr(each, "blob_id"):  # a folder has none
                files[each.path] = each.lfs.sha256 if each.lfs else each.blob_id
            if len(files) > MOST:
                raise PunaError(f"holds more than {MOST:,} files", where=self.to.address, mend="take another name")
        return files

    @contextmanager
    def _told(self, doing: str, name: str = "") -> Iterator[None]:
        try:
            yield
        except Exception as error:
            told = refusals.told(error, self.to.address, self.to.hub, doing, name, self._token)
            if told is None:
                raise
            raise told from None


@contextmanager
def opened(to: Destination) -> Iterator[Hub]:
    """Speak with a hub. InputError where the client or a token is missing."""
    own = (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
    client = _client()
    token = os.environ.get("HF_TOKEN", "").strip()
    if not token and to.hub == own:
        token = client.get_token() or ""
    if not token:
        mend = "set HF_TOKEN to one that may write there" + (", or log in: hf auth login" if to.hub == own else "")
        raise InputError("there is no token for it", where=to.hub, mend=mend)
    if not token.isascii() or not token.isprintable() or " " in token:
        raise InputError("the token holds characters that no token has", where=to.hub, mend="set HF_TOKEN anew")
    with _guarded(client, to.hub):
        yield Hub(to, client, token)


def _client() -> Any:
    """Hugging Face's client, quiet: it reads these options when it is loaded."""
    os.environ.update({name: value for name, value in OPTIONS.items() if name not in os.environ})
    try:
        client: Any = importlib.import_module("huggingface_hub")
        importlib.import_module("huggingface_hub.errors")
    except ImportError:
        raise InputError("the package huggingface_hub is missing", mend="pip install 'puna[hub]'") from None
    if Version(client.__version__) < OLDEST:
        what = f"huggingface_hub {client.__version__} cannot speak with every hub, and {OLDEST} can"
        raise InputError(what, mend="pip install -U 'puna[hub]'")
    client.logging.set_verbosity_error()
    return client


@contextmanager
def _guarded(client: Any, hub: str) -> Iterator[None]:
    """While the block lasts each request is looked at before it is sent."""
    on, address = [True], urlsplit(hub)

    def look(request: Any) -> None:
        url = request.url
        if not on:
            return
        if address.scheme == "https" and url.scheme != "https":
            raise PunaError(f"sends on to {url.host} without encryption, which is not followed", where=hub)
        here = (url.scheme, url.host.lower(), url.port or PORTS.get(url.scheme))
        same = here == (address.scheme, (address.hostname or "").lower(), address.port or PORTS[address.scheme])
        if not same and "authorization" in request.headers:
            raise PunaError(f"asks for the token at another address, {url.host}, which does not get it", where=hub)

    first = client.get_session()
    hooks, kind = [*first.event_hooks["request"], look], type(first)

    def made() -> Any:
        return kind(event_hooks={"request": hooks}, follow_redirects=True, timeout=TIMEOUT)

    client.set_client_factory(made)
    try:
        yield
    finally:
        on.clear()
        client.close_session()


class _Watched(io.BufferedReader):
    """A file that tells how much of it was read for the first time, while it is watched."""

    def __init__(self, path: Path, sent: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(path), buffer_size=1 << 20)
        self.watched = False
        self._sent, self._told = sent, 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if self.watched and (more := self.tell() - self._told) > 0:
            self._told += more
            self._sent(more)
        return data
