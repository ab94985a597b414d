"""A bucket where the one who asks pays (arXiv's), behind the same face as a web server.

Only named when `--pay` was given. The client is s3fs, of the extra `s3`; credentials are found where the store's own
tools look for them, and are sent to that store alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from puna import remote
from puna.errors import InputError, PunaError
from puna.fetch.client import Answer, Missing, Passing

BLOCK = 8 << 20  # bytes a request: each one is paid for, and held in memory


class Bucket:
    """Asks one bucket. Requests are signed, and say that the one who asks pays."""

    def __init__(self) -> None:
        try:
            import s3fs
        except ImportError:
            mend = "install the extra for object stores: pip install 'puna[s3]'"
            raise InputError("arXiv's bucket needs s3fs", mend=mend) from None
        self._files: Any = s3fs.S3FileSystem(requester_pays=True, use_listings_cache=False)

    def ask(self, url: str, *, start: int = 0, end: int | None = None, validator: str = "") -> Answer:
        """As `Client.ask`."""
        try:
            told = self._files.info(url, refresh=True)
        except FileNotFoundError:
            raise Missing("is not there", where=url, mend="check the recipe's [fetch] tables") from None
        except Exception as error:  # each layer of the client has exceptions of its own
            raise _said(error, url) from error
        tag, size = str(told.get("ETag", "")), int(told["size"])
        if start and validator and validator != tag:
            start = 0
        stop = size if end is None else min(end, size)
        return _Part(self._files, url, tag, start, stop, size)


class _Part:
    def __init__(self, files: Any, url: str, tag: str, start: int, stop: int, size: int) -> None:
        self._files, self._url, self._at, self._stop = files, url, start, stop
        self.status = 206 if start or stop < size else 200
        self.headers: Mapping[str, str] = {"etag": tag, "content-range": f"bytes {start}-{stop - 1}/{size}"}
        self.length: int | None = stop - start
        self.ends = True
        if start > stop:
            self.status = 416

    def read(self) -> bytes:
        if self._at >= self._stop:
            return b""
        end = min(self._at + BLOCK, self._stop)
        try:
            data = bytes(self._files.cat_file(self._url, start=self._at, end=end))
        except Exception as error:
            raise _said(error, self._url) from error
        self._at += len(data)
        return data

    def close(self) -> None:
        """Nothing is held open."""


def _said(error: Exception, url: str) -> PunaError:
    if isinstance(error, PermissionError) or "credential" in str(error).lower():
        mend = "give credentials of an Amazon account, which pays, as its own tools find them"
        return InputError(f"the bucket refuses ({remote.said(error)})", where=url, mend=mend)
    return Passing(f"the bucket does not serve ({remote.said(error)})", where=url)
