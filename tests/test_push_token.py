"""The token of a push goes to the hub that was named, to nobody else, and into no line."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from made_hub import TOKEN, MadeHub, Request, away, made_hub, status
from puna import publish
from puna.errors import InputError, PunaError
from pushing import RUN, Says, _exported, _model, exported, hub, model, push, says

__all__ = ["_exported", "_model", "exported", "hub", "model", "says"]  # fixtures


def _to(hub: MadeHub) -> publish.Destination:
    return publish.destination("me/text", "dataset", hub.address)


def _with_token(other: MadeHub) -> list[str]:
    return [path for _, path, headers in other.asked if any(TOKEN in value for value in headers.values())]


def test_the_store_and_what_is_signed_get_no_token(hub: MadeHub, exported: Path) -> None:
    hub.part = 4_000
    push(exported / "text", _to(hub))
    told = _with_token(hub)
    assert told
    assert all(path.startswith("hub/") and not path.startswith("hub/complete") for path in told)
    assert hub.count("PUT store") > 4


@pytest.mark.parametrize("how", ["verify", "page", "redirect of a look", "redirect of a commit"])
def test_a_hub_that_asks_for_the_token_elsewhere_does_not_get_it_there(how: str, hub: MadeHub, exported: Path) -> None:
    with made_hub() as other:
        to = _to(hub)

        def batch(request: Request) -> None:
            (one,) = json.loads(request.body)["objects"]
            actions = {"upload": {"href": f"{hub.store}/{one['oid']}"}, "verify": {"href": f"{other.address}/verify/x"}}
            request.json({"objects": [{**one, "actions": actions}]})

        def page(request: Request) -> None:
            request.json([], headers={"Link": f'<{other.address}/api/datasets/me/text/tree/main>; rel="next"'})

        hub.repository("datasets/me/text")
        hub.always = {
            "verify": {"objects/batch": batch},
            "page": {"/tree/": page},
            "redirect of a look": {"whoami": away(f"{other.address}/api/whoami-v2")},
            "redirect of a commit": {"/commit/": away(f"{other.address}/api/datasets/me/text/commit/main")},
        }[how]
        with pytest.raises(PunaError) as refused:
            push(exported / "text", to)
        assert TOKEN not in str(refused.value)
        assert not _with_token(other)
        if how in ("verify", "page"):
            assert "asks for the token at another address, 127.0.0.1, which does not get it" in str(refused.value)
            assert not other.asked


def test_a_login_is_for_the_clients_own_hub(hub: MadeHub, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: TOKEN)
    with pytest.raises(InputError, match=r"there is no token for it; set HF_TOKEN to one that may write there$"):
        push(exported / "text", _to(hub))
    assert not hub.asked
    monkeypatch.setenv("HF_ENDPOINT", hub.address + "/")
    push(exported / "text", publish.destination("me/text", "dataset"))
    assert "datasets/me/text" in hub.repositories
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(InputError, match="or log in: hf auth login"):
        push(exported / "text", _to(hub))


@pytest.mark.parametrize("token", ["hf_a b", "hf_\nb", "hf_é"])
def test_a_token_that_is_none_is_not_sent_and_not_shown(
    token: str, hub: MadeHub, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(InputError) as refused:
        push(exported / "text", _to(hub))
    assert "characters that no token has; set HF_TOKEN anew" in str(refused.value)
    assert token not in str(refused.value)
    assert not hub.asked


@pytest.mark.parametrize("number", [400, 401, 403, 500])
def test_a_hub_that_says_the_token_back_is_not_repeated(
    number: int, says: Says, hub: MadeHub, exported: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub.always["repos/create"] = status(number, f"no rights for {TOKEN}\x1b[31m\r\nnext line")
    with caplog.at_level(logging.INFO):
        code, _, err = says(
            RUN, "--to", "dataset", "--out", "out/text", "--push", "me/text", "--hub", hub.address, "--yes"
        )
    assert code == 1
    assert "no rights for [the token]" in err
    assert "\x1b" not in err
    assert TOKEN not in caplog.text


def test_after_a_push_the_client_is_as_it_was(hub: MadeHub, exported: Path) -> None:
    import huggingface_hub

    push(exported / "text", _to(hub))
    with made_hub() as other:
        api = huggingface_hub.HfApi(endpoint=other.address, token=TOKEN)
        assert api.whoami()["name"] == "me"
