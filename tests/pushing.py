"""What tests of pushes share: a local hub, a token of it, small exports, and `puna export` as it is typed."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import made_parts
from made_hub import TOKEN, MadeHub, made_hub
from puna import convert, publish
from puna.convert import foreign
from typed import Says, said

RUN = Path(__file__).parent / "fixtures" / "run-1"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[MadeHub]:
    """A hub, its token in HF_TOKEN, no login, and no waiting between the client's own tries."""
    client = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: no push is tried")
    for name in list(os.environ):
        if name.startswith("HF_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(client, "get_token", lambda: None)
    monkeypatch.setattr(importlib.import_module("huggingface_hub.constants"), "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with made_hub() as made:
        yield made


@pytest.fixture(scope="session")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_parts.folder(tmp_path_factory.mktemp("pushed") / "model", made_parts.made(tied=True))


@pytest.fixture(scope="session")
def _exported(tmp_path_factory: pytest.TempPathFactory, _model: Path) -> Path:
    place = tmp_path_factory.mktemp("pushed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(foreign, "installed", lambda form: None)
        convert.export(_model, "hf", place / "hf", shard_size=200_000)
    publish.write(RUN, place / "text")
    return place


@pytest.fixture
def model(_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made model; nothing but Puna reads its exports back, since that takes seconds."""
    monkeypatch.setattr(foreign, "installed", lambda form: None)
    return _model


@pytest.fixture
def exported(_exported: Path, tmp_path: Path, model: Path) -> Path:
    """hf: the model in shards of weights; text: the documents of RUN."""
    return Path(shutil.copytree(_exported, tmp_path / "out"))


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Says:
    """Types `puna export`: exit status, standard output, standard error. No line of it holds the token."""
    monkeypatch.chdir(tmp_path)

    def command(*words: object) -> tuple[int, str, str]:
        code, out, err = said(capsys, "export", *words)
        assert TOKEN not in out + err
        return code, out, err

    return command


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_git(there: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in there.items() if name != ".gitattributes"}


def push(folder: Path, to: publish.Destination, *, public: bool = False) -> str:
    with publish.begin(to, public=public) as beginning:
        return beginning.of(folder, "compared").go()
