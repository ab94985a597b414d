"""What a push refuses and is refused: one line that says what, where and the mend, and nothing lost."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from made_hub import MadeHub, cut, status
from puna import publish
from puna.errors import InputError, PunaError
from puna.publish.hub import OLDEST
from pushing import RUN, Says, _exported, _model, exported, files, hub, model, push, says, without_git

__all__ = ["_exported", "_model", "exported", "hub", "model", "says"]  # fixtures


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--push", "me"), "'me' is no name of a repository; give OWNER/NAME"),
        (("--push", "me/a/b"), "'me/a/b' is no name"),
        (("--push", "me/a..b"), "'me/a..b' is no name"),
        (("--push", ""), "--push is empty"),
        (("--push", "me/a", "--hub", "ftp://x"), "'ftp://x' is no address of a hub"),
        (("--push", "me/a", "--hub", "https://u:p@x"), "is no address of a hub"),
        (("--push", "me/a", "--hub", "http://hub.example"), "is not encrypted, and the token would be read on the way"),
        (("--hub", "https://x"), "--hub, --public and --yes go with --push"),
        (("--dtype", "bf16"), "documents have no --dtype"),
    ],
)
def test_what_is_typed_wrong_is_one_line_before_anything_is_made(
    words: tuple[str, ...], said: str, says: Says, hub: MadeHub, tmp_path: Path
) -> None:
    yes = () if "--dtype" in words or "--push" not in words else ("--yes",)
    code, _, err = says(RUN, "--to", "dataset", "--out", "text", *words, *yes)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "text").exists()
    code, _, err = says(RUN, "--to", "gguf", "--out", "text", "--push", "me/a", "--yes")
    assert (code, err.split(";")[0]) == (2, "error: --push goes with --to hf and --to dataset, not gguf")


@given(st.text(alphabet="abZ09-_./~é \n", max_size=12))
def test_no_name_is_taken_that_the_client_would_refuse(name: str) -> None:
    from huggingface_hub.utils import validate_repo_id

    try:
        publish.destination(name, "model", "https://hub.example")
    except InputError:
        return
    validate_repo_id(name)
    assert name.count("/") == 1


@pytest.mark.parametrize(
    ("asked", "fault", "code", "said"),
    [
        ("whoami", status(401, "Invalid username or password."), 1, "does not know the token"),
        ("GET hub/api/datasets", status(403, "Forbidden"), 1, "does not let this token write there"),
        ("repos/create", status(403, "You don't have the rights"), 1, "does not let this token write there (You don't"),
        ("repos/create", status(404, "", "RepoNotFound"), 1, "is not there, or this token may not see it"),
        ("repos/create", status(402, "Private storage limit reached"), 1, "has no room for it (Private storage limit"),
        ("preupload", status(403, "Storage quota exceeded"), 1, "has no room for it (Storage quota"),
        ("preupload", status(404, "", "RepoNotFound"), 1, "is not there, or this token may not see it"),
        ("lfs/objects/batch", status(500, "broken"), 1, "answers with status 500, is busy"),
        ("lfs/objects/batch", status(413, "too large"), 1, "has no room for it (too large)"),
        ("PUT store", status(403, "expired"), 1, "its store at localhost did not take it (status 403)"),
        ("PUT store", status(503), 1, "its store at localhost did not take it (status 503)"),
        ("PUT store", cut, 1, "the connection failed"),
        ("verify/", status(404, "not stored"), 1, "is not there"),
        ("validate-yaml", lambda r: r.json({"errors": [{"message": "bad header"}]}, 400), 1, "bad header"),
        ("commit/main", status(412, "A commit has happened since"), 1, "was changed by somebody else meanwhile"),
        ("commit/main", status(429), 1, "asks to be left alone for a time"),
        ("commit/main", cut, 1, "the connection failed"),
    ],
)
def test_what_a_hub_refuses_is_one_line_and_the_same_command_goes_on(
    asked: str, fault: Any, code: int, said: str, says: Says, hub: MadeHub, exported: Path
) -> None:
    words = (RUN, "--to", "dataset", "--out", "out/text", "--push", "me/text", "--hub", hub.address, "--yes")
    before = files(exported / "text")
    hub.always[asked] = fault
    ended, _, err = says(*words)
    last = err.splitlines()[-1]
    assert ended == code
    assert last.startswith(f"error: {hub.address}")
    assert said in last
    assert "Traceback" not in err
    begun = asked not in ("whoami", "GET hub/api/datasets")
    assert ("out/text stays, and the same command goes on" in last) is begun
    assert files(exported / "text") == before
    found = hub.repositories.get("datasets/me/text")
    assert found is None or not without_git(found.files)
    if fault is cut:
        hub.always.clear()
        ended, _, err = says(*words)
        assert ended == 0, err
        assert without_git(hub.repositories["datasets/me/text"].files) == before


def test_a_hub_that_cannot_be_reached_or_may_not_be_asked_is_one_line(
    says: Says, hub: MadeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    words = (RUN, "--to", "dataset", "--out", "text", "--push", "me/text", "--yes", "--hub")
    code, _, err = says(*words, "http://127.0.0.1:9")
    assert code == 1
    assert err.startswith("error: http://127.0.0.1:9: cannot be reached (")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    code, _, err = says(*words, hub.address)
    assert (code, err) == (2, f"error: {hub.address}: the client is told to ask nobody; unset HF_HUB_OFFLINE\n")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "__version__", "1.0.0")
    code, _, err = says(*words, hub.address)
    assert code == 2
    assert err.startswith("error: huggingface_hub 1.0.0 cannot speak with every hub, and 1.31.0 can; pip install -U")
    assert not hub.asked
    assert (
        f"huggingface_hub>={OLDEST.major}.{OLDEST.minor}" in (Path(__file__).parents[1] / "pyproject.toml").read_text()
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    code, _, err = says(*words, hub.address)
    assert (code, err) == (2, "error: the package huggingface_hub is missing; pip install 'puna[hub]'\n")


@pytest.mark.parametrize(
    ("asked", "answer", "said"),
    [
        ("whoami", b"<html>a page</html>", "does not answer as a hub does (JSONDecodeError"),
        ("whoami", b"[1, 2]", "does not answer as a hub does (AttributeError"),
        ("GET hub/api/datasets", b'{"sha": 1}', "does not answer as a hub does (KeyError"),
        ("preupload", b'{"files": 3}', "does not take it (preupload_info is improperly formatted"),
        ("preupload", b'{"files": []}', "does not answer as a hub does (KeyError"),
        ("objects/batch", b'{"objects": [{"oid": 1}]}', "does not take it (lfs_batch_actions is improperly formatted"),
        ("/commit/", b"{}", "does not answer as a hub does (KeyError"),
    ],
)
def test_what_is_no_hub_is_told_in_one_line(asked: str, answer: bytes, said: str, hub: MadeHub, exported: Path) -> None:
    hub.always[asked] = lambda request: request.send(answer)
    with pytest.raises(PunaError) as refused:
        push(exported / "text", publish.destination("me/text", "dataset", hub.address))
    assert said in str(refused.value)


def test_names_that_a_hub_tells_do_nothing_to_the_terminal(
    hub: MadeHub, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.owner = "me\x1b[31m"
    hub.repository("datasets/me/text", files={"\x1b[2Jmine\n.txt": b"mine", "data/a/\x1bb.parquet": b"old"})
    to = publish.destination("me/text", "dataset", hub.address)
    with publish.begin(to, public=False) as beginning:
        told = beginning.of(exported / "text", "compared").as_text()
    assert all(line.isprintable() for line in told.splitlines())
    assert "?[2Jmine .txt left as they are" in told
    monkeypatch.setattr("puna.publish.hub.MOST", 2)
    with pytest.raises(PunaError, match="holds more than 2 files"):
        push(exported / "text", to)
