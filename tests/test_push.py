"""A push: asked for, agreed to, whole or not to be seen, and gone on with by the same command."""

from __future__ import annotations

import io
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from made_hub import TOKEN, MadeHub, sha256, status
from puna import publish
from puna.errors import InputError, PunaError
from puna.publish.hub import Hub
from pushing import RUN, Says, _exported, _model, exported, files, hub, model, push, says, without_git

__all__ = ["_exported", "_model", "exported", "hub", "model", "says"]  # fixtures


class Typed(io.StringIO):
    """A terminal at which an answer is typed."""

    def isatty(self) -> bool:
        return True


def test_a_model_is_exported_compared_and_pushed_and_comes_back_the_same(
    says: Says, hub: MadeHub, model: Path, tmp_path: Path
) -> None:
    import huggingface_hub

    words = (model, "--to", "hf", "--out", "out", "--shard-size", "200 kB", "--push", "me/made", "--hub", hub.address)
    code, out, err = says(*words, "--yes")
    assert code == 0, err
    assert out.splitlines()[-1] == f"{hub.address}/me/made: 10 files, and the hub has the digests of the disk"
    there = hub.repositories["models/me/made"]
    assert there.private
    assert without_git(there.files) == files(tmp_path / "out")
    back = huggingface_hub.snapshot_download(
        "me/made", endpoint=hub.address, token=TOKEN, cache_dir=tmp_path / "cache", etag_timeout=10
    )
    assert without_git(files(Path(back))) == files(tmp_path / "out")


def test_documents_are_pushed_as_a_data_set_and_come_back_the_same(
    says: Says, hub: MadeHub, tmp_path: Path, proved: Any
) -> None:
    import huggingface_hub

    hub.part = 4_000  # bytes: large files go in pieces
    words = (RUN, "--to", "dataset", "--out", "text", "--push", "me/text", "--hub", hub.address, "--public", "--yes")
    code, _, err = says(*words)
    assert code == 0, err
    there = hub.repositories["datasets/me/text"]
    assert not there.private
    assert without_git(there.files) == files(tmp_path / "text")
    assert hub.count("PUT store/.*/2$") == 4
    back = huggingface_hub.snapshot_download(
        "me/text", repo_type="dataset", endpoint=hub.address, token=TOKEN, cache_dir=tmp_path / "cache"
    )
    assert without_git(files(Path(back))) == files(tmp_path / "text")
    proved(f"pushed and got back: {len(there.files) - 1} files, {sum(map(len, there.files.values())):,} bytes, equal")


@pytest.mark.parametrize(
    ("typed", "agreed"), [("y\n", True), ("yes\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_it_says_what_it_would_do_and_asks(
    typed: str, agreed: bool, says: Says, hub: MadeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Typed(typed))
    code, out, err = says(RUN, "--to", "dataset", "--out", "text", "--push", "me/text", "--hub", hub.address)
    assert code == 0, err
    total = sum(map(len, files(tmp_path / "text").values()))
    assert f"Push text to {hub.address}/datasets/me/text" in err
    assert f"  what     a dataset: 6 files, {total / 1000:.1f} kB\n" in err
    assert "  checked  10 documents of 1 source, " in err
    assert "  licence  cc\n" in err
    assert "  who      private; as me\n" in err
    assert "  there    nothing yet: the repository is made\n" in err
    assert err.endswith("Push it? y or n\n") or agreed
    assert bool(hub.repositories) is agreed
    assert ("nothing was pushed" in out) is not agreed
    assert hub.count("POST|PUT") == 0 or agreed


def test_where_nobody_can_be_asked_nothing_is_made_and_nobody_is_reached(
    says: Says, hub: MadeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    code, _, err = says(RUN, "--to", "dataset", "--out", "text", "--push", "me/text", "--hub", hub.address)
    assert (code, err) == (2, "error: there is no terminal to ask on whether to push; give --yes\n")
    assert not hub.asked
    assert not (tmp_path / "text").exists()


def test_what_the_hub_has_already_is_not_sent_again(says: Says, hub: MadeHub, exported: Path) -> None:
    words = (RUN, "--to", "dataset", "--out", "out/text", "--push", "me/text", "--hub", hub.address, "--yes")
    last = sorted(exported.glob("text/data/*/train-*"))[-1]
    hub.always[f"PUT store/{sha256(last.read_bytes())}"] = status(400, "refused")
    assert says(*words)[0] == 1
    first = hub.count("PUT store")
    hub.always.clear()
    assert says(*words)[0] == 0
    assert hub.count("PUT store") == first + 1
    code, out, err = says(*words)
    assert (code, out.splitlines()[-1]) == (0, f"{hub.address}/datasets/me/text has all of it already")
    assert "6 files, " in err
    assert "all of it already" in err
    assert hub.count("POST .*commit") == 1


def test_an_interrupted_push_says_that_it_goes_on_and_leaves_nothing_to_be_seen(
    says: Says, hub: MadeHub, exported: Path
) -> None:
    words = (RUN, "--to", "dataset", "--out", "out/text", "--push", "me/text", "--hub", hub.address, "--yes")
    hub.always["PUT store"] = lambda request: os.kill(os.getpid(), signal.SIGINT)
    code, _, err = says(*words)
    assert code == 130
    assert err.splitlines()[-1] == "the push was interrupted; out/text stays, and the same command goes on"
    assert not without_git(hub.repositories["datasets/me/text"].files)
    hub.always.clear()
    assert says(*words)[0] == 0


def test_an_export_that_is_another_models_is_not_pushed(says: Says, hub: MadeHub, model: Path, exported: Path) -> None:
    words = (model, "--to", "hf", "--out", "out/hf", "--push", "me/made", "--hub", hub.address, "--yes")
    config = exported / "hf" / "config.json"
    right = config.read_text()
    config.write_text(right.replace('"rope_theta": 20000.0', '"rope_theta": 10000.0'))
    code, _, err = says(*words)
    assert code == 1
    assert "the rotary base is 10000.0, and was to be 20000.0" in err
    assert not hub.repositories
    config.write_text(right)
    assert says(*words)[0] == 0


def test_a_licence_that_the_card_does_not_say_is_not_passed_over(says: Says, hub: MadeHub, exported: Path) -> None:
    words = (RUN, "--to", "dataset", "--out", "out/text", "--push", "me/text", "--hub", hub.address, "--yes")
    code, _, err = says(*words, "--licence", "mit")
    assert code == 2
    assert "out/text/README.md: its card says cc of the licence, not mit; edit it, or remove the export" in err
    assert not hub.repositories
    assert says(*words, "--licence", "cc")[0] == 0


@pytest.mark.parametrize("strange", ["notes.txt", ".env", "data/x.bin", "pytorch_model.bin", ".git/config", "link"])
def test_what_lies_beside_an_export_is_not_pushed(strange: str, hub: MadeHub, exported: Path) -> None:
    to = publish.destination("me/made", "model", hub.address)
    if strange == "link":
        strange = "chat_template.jinja"
        (exported / "hf" / strange).symlink_to("/etc/hostname")
    else:
        (exported / "hf" / strange).parent.mkdir(parents=True, exist_ok=True)
        (exported / "hf" / strange).write_text("a secret")
    with pytest.raises(InputError, match=f"{strange} is no file of an export"):
        push(exported / "hf", to)
    assert not hub.repositories


def test_a_file_that_changed_since_it_was_compared_is_not_sent(hub: MadeHub, exported: Path) -> None:
    to = publish.destination("me/made", "model", hub.address)
    with publish.begin(to, public=False) as beginning:
        found = beginning.of(exported / "hf", "compared")
        weights = sorted((exported / "hf").glob("*.safetensors"))[-1]
        weights.write_bytes(weights.read_bytes()[:-1] + b"?")
        with pytest.raises(PunaError, match=r"was changed since it was verified; .* stays"):
            found.go()
    assert not without_git(hub.repositories["models/me/made"].files)


def test_of_an_earlier_export_nothing_stays_and_of_others_everything(
    says: Says, hub: MadeHub, model: Path, exported: Path
) -> None:
    old = {"model-00004-of-00004.safetensors": b"old", "model.safetensors": b"old", "README.md": b"---\nold"}
    mine = {"evaluation.md": b"mine", "pictures/loss.png": b"mine"}
    there = hub.repository("models/me/made", files={**old, **mine})
    words = (model, "--to", "hf", "--out", "out/hf", "--push", "me/made", "--hub", hub.address, "--yes")
    code, _, err = says(*words)
    assert code == 0, err
    assert "  there    README.md replaced" in err
    assert "  there    model-00004-of-00004.safetensors, model.safetensors of an earlier export taken out" in err
    assert "  there    evaluation.md, pictures/loss.png left as they are" in err
    assert without_git(there.files) == {**mine, **files(exported / "hf")}


def test_a_public_repository_is_not_written_to_unless_that_is_said(says: Says, hub: MadeHub, exported: Path) -> None:
    there = hub.repository("datasets/me/text", private=False)
    words = (RUN, "--to", "dataset", "--out", "out/text", "--push", "me/text", "--hub", hub.address, "--yes")
    code, _, err = says(*words)
    assert code == 2
    assert "is public: everybody can read what is pushed there; give --public if that is meant" in err
    assert not without_git(there.files)
    code, _, err = says(*words, "--public")
    assert code == 0
    assert "  who      everybody can read it; as me" in err


def test_a_hub_that_makes_public_what_was_to_be_private_is_sent_nothing(hub: MadeHub, exported: Path) -> None:
    hub.deaf = True
    with pytest.raises(PunaError, match="was made public by the hub, and nothing was sent"):
        push(exported / "text", publish.destination("me/text", "dataset", hub.address))
    assert hub.count("PUT|preupload|commit") == 0


def test_a_repository_that_has_another_name_now_is_told(hub: MadeHub, exported: Path) -> None:
    hub.repository("datasets/me/new")
    told = {"id": "me/new", "sha": "0" * 40, "private": True, "tags": [], "downloads": 0, "likes": 0}
    hub.always["GET hub/api/datasets/me/text"] = lambda request: request.json(told)
    with pytest.raises(PunaError, match="is called me/new now; give that name"):
        push(exported / "text", publish.destination("me/text", "dataset", hub.address))


def test_what_somebody_else_changed_meanwhile_is_not_overwritten(
    hub: MadeHub, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = hub.repository("datasets/me/text", files={"README.md": b"---\ntheirs"})
    right = Hub.commit

    def late(self: Hub, *arguments: Any) -> str:
        there.commit({**there.files, "README.md": b"---\nnewer"})
        return right(self, *arguments)

    monkeypatch.setattr(Hub, "commit", late)
    with pytest.raises(PunaError, match="was changed by somebody else meanwhile, and nothing of it was touched"):
        push(exported / "text", publish.destination("me/text", "dataset", hub.address))
    assert without_git(there.files) == {"README.md": b"---\nnewer"}


def test_a_hub_that_keeps_other_bytes_or_leaves_a_file_out_is_found_out(hub: MadeHub, exported: Path) -> None:
    to = publish.destination("me/text", "dataset", hub.address)
    hub.ignored = ("shards.json",)  # by a .gitignore that nobody sees
    with pytest.raises(PunaError, match=r"holds another shards\.json than was sent, or none"):
        push(exported / "text", to)
    hub.ignored = ()
    assert "has the digests of the disk" in push(exported / "text", to)
    there = hub.repositories["datasets/me/text"]
    name = next(name for name in there.files if name.endswith(".parquet"))
    there.commit({**there.files, name: b"other bytes"})
    with publish.begin(to, public=False) as beginning:
        assert [file.name for file in beginning.of(exported / "text", "").missing] == [name]


def test_a_large_file_that_a_hub_wants_in_its_commit_is_refused(
    hub: MadeHub, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("puna.publish.hub.PLAIN", 1000)
    with pytest.raises(PunaError, match=r"does not take .* as a large file"):
        push(exported / "text", publish.destination("me/text", "dataset", hub.address))


def test_progress_is_told_by_bytes_and_ends_at_all_of_them(
    hub: MadeHub, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from puna.publish import push as pushes

    bars: list[Any] = []

    class Watched:
        def __enter__(self) -> SimpleNamespace:
            return self.bar

        def __exit__(self, *error: object) -> None:
            bars.append(self.bar)

        def __init__(self, label: str, total: float, unit: str) -> None:
            self.bar = SimpleNamespace(label=label, total=total, done=0.0)
            self.bar.advance = lambda amount: setattr(self.bar, "done", self.bar.done + amount)

    monkeypatch.setattr(pushes, "progress", Watched)
    hub.part = 3_000
    shutil.copytree(exported / "text", exported / "again")
    push(exported / "text", publish.destination("me/text", "dataset", hub.address))
    push(exported / "again", publish.destination("me/again", "dataset", hub.address))
    assert {bar.label for bar in bars} == {"digests", "to me/text", "to me/again"}
    assert all(bar.done == bar.total > 0 for bar in bars)
