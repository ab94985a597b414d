"""What a hub or the way to it refuses, in one line each: what, where, and the mend.

The client raises its own errors around those of its transport, which it has had of two packages so far. So an error is
known by what it carries, an answer with a status, or by its name, along the chain of what caused it.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from puna.errors import InputError, PunaError

LONG = 300  # characters of what a hub says that are shown
NO_ROOM = ("quota", "storage limit", "storage space", "payment", "exceeded")
UNREACHED = ("ConnectError", "ConnectTimeout", "ProxyError", "UnsupportedProtocol")
BROKEN = ("ReadError", "WriteError", "ReadTimeout", "WriteTimeout", "RemoteProtocolError", "TooManyRedirects")
STATUS = {
    400: ("does not take what was sent", ""),
    401: ("does not know the token", "set HF_TOKEN to a valid one of that hub, or log in again: hf auth login"),
    402: ("has no room for it", "make room there, or have the owner's plan changed"),
    403: ("does not let this token write there", "take a token that may write, or another OWNER"),
    404: ("is not there, or this token may not see it", "look at OWNER/NAME and at what the token may do"),
    409: ("was changed by somebody else meanwhile, and nothing of it was touched", "look at it"),
    412: ("was changed by somebody else meanwhile, and nothing of it was touched", "look at it"),
    413: ("has no room for it", "make room there, or have the owner's plan changed"),
    429: ("asks to be left alone for a time", "wait some minutes"),
    507: ("has no room for it", "make room there, or have the owner's plan changed"),
}


def told(error: BaseException, where: str, hub: str, doing: str, name: str, token: str) -> PunaError | None:
    """One line for an error of the client; None for what is none of the hub's doing, but a defect. doing: look, create,
    send or commit; name: the file that was sent."""

    def clean(text: object) -> str:
        """What a hub says, without what could be the token."""
        return plain(str(text).replace(token, "[the token]"))

    chain = list(_chain(error))
    for each in chain:
        if isinstance(each, PunaError):
            return each
    of_file = f"{name}: " if doing == "send" and name else ""
    for each in chain:
        response = getattr(each, "response", None)
        if response is not None and isinstance(getattr(response, "status_code", None), int):
            said = clean(getattr(each, "server_message", None) or "")
            return _answered(response, said, where, hub, of_file)
    names = {type(each).__name__: each for each in chain}
    if "OfflineModeIsEnabled" in names:
        return InputError("the client is told to ask nobody", where=hub, mend="unset HF_HUB_OFFLINE")
    if found := [each for kind, each in names.items() if kind in UNREACHED]:
        return PunaError(
            f"cannot be reached ({clean(found[0])})", where=hub, mend="look at the address and the network"
        )
    if found := [each for kind, each in names.items() if kind in BROKEN]:
        return PunaError(f"{of_file}the connection failed ({clean(found[0]) or type(found[0]).__name__})", where=hub)
    # The client makes ValueErrors of what a hub says in the body of a good answer: of LFS, and of a card's header.
    if isinstance(error, ValueError) and doing in ("send", "commit"):
        room = any(word in str(error).lower() for word in NO_ROOM)
        what = "has no room for it" if room else "does not take it"
        return PunaError(f"{of_file}{what} ({clean(error)})", where=where)
    if isinstance(error, ValueError | LookupError | TypeError | AttributeError | AssertionError):
        what = f"{of_file}does not answer as a hub does ({type(error).__name__}: {clean(error)})"
        return PunaError(what, where=hub, mend="look at the address")
    return None


def plain(text: str) -> str:
    """What comes from a hub, on one line and as characters that do nothing to a terminal."""
    return "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))[:LONG]


def _answered(response: object, said: str, where: str, hub: str, of_file: str) -> PunaError:
    status = response.status_code  # type: ignore[attr-defined]
    asked = urlsplit(str(response.request.url))  # type: ignore[attr-defined]
    if (asked.hostname, asked.port) != (urlsplit(hub).hostname, urlsplit(hub).port):
        what = f"{of_file}its store at {asked.hostname} did not take it (status {status})"
        return PunaError(what, where=where, mend="the address may have been too old" if status == 403 else "")
    what, mend = STATUS.get(status, (f"answers with status {status}" + (", is busy" if status >= 500 else ""), ""))
    if status in (400, 403) and any(word in said.lower() for word in NO_ROOM):
        what, mend = STATUS[402]
    shown = f" ({said})" if said else f" (status {status})" if status in STATUS else ""
    return PunaError(f"{of_file}{what}{shown}", where=hub if status == 401 else where, mend=mend)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came from."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__
