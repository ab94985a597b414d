"""A run's documents as a data set: every row is read back, others' readers open it, and the card says what is known."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.dataset
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import puna
import tiny
from care_run import begin
from puna import publish, storage, workflow
from puna.data.document import Document, Origin, read_documents, write_documents
from puna.errors import InputError, PunaError
from puna.inspect import Funnel
from puna.publish import data_card, dataset, facts

FIXTURE = Path(__file__).parent / "fixtures" / "run-1"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two sources that got as far as its documents."""
    folder = tmp_path_factory.mktemp("two")
    tiny.write(folder)
    workflow.work(str(folder / "tiny.toml"), (), str(folder / "run"), "documents", workflow.Options(workers=1))
    return folder / "run"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A finished run of one source, of an earlier version."""
    return Path(shutil.copytree(FIXTURE, tmp_path / "small"))


def _header(folder: Path) -> Any:
    return yaml.safe_load((folder / "README.md").read_text().split("---")[1])


def _edit(path: Path, change: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_every_document_is_in_the_data_set_once_in_its_split_with_its_origin(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "text"
    assert "read back, every row" in publish.write(run, out)
    for source in ("github", "wikipedia"):
        for split, heldout in (("train", False), ("test", True)):
            shards = sorted((out / "data" / source).glob(f"{split}-*.parquet"))
            assert {shard.name[-16:-8] for shard in shards} == {f"of-{len(shards):05d}"}
            got = [document for shard in shards for document in read_documents(shard)]
            assert got == list(puna.documents(run, source, heldout=heldout))
            assert got
    card = (out / "README.md").read_text()
    assert "`notices/github.txt`" in card
    assert "The run has not planned a training" in card
    assert {one["config_name"] for one in _header(out)["configs"]} == {"default", "github", "wikipedia"}
    assert (out / "notices" / "github.txt").read_bytes() == (run / "notices" / "github.txt").read_bytes()
    table = json.loads((out / "shards.json").read_text())["shards"]
    assert table.keys() == {path.relative_to(out).as_posix() for path in out.rglob("*.parquet")}
    assert all(told["file"] == storage.digest(out / name) for name, told in table.items())
    assert "read back" in publish.check(run, out)


def test_the_library_datasets_opens_it_by_source_and_whole(run: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed: its reader is not tried")
    out = tmp_path / "text"
    publish.write(run, out)
    of_all = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    for split, heldout in (("train", False), ("test", True)):
        wanted = sorted(document.id for document in puna.documents(run, heldout=heldout))
        assert sorted(of_all[split]["id"]) == wanted
    assert set(datasets.get_dataset_config_names(str(out))) == {"default", "github", "wikipedia"}
    of_one = datasets.load_dataset(str(out), "wikipedia", split="train", cache_dir=str(tmp_path / "cache"))
    document = next(puna.documents(run, "wikipedia"))
    assert (of_one[0]["text"], of_one[0]["origin"]["url"]) == (document.text, document.origin.url)


def test_plain_readers_of_parquet_open_it(small: Path, tmp_path: Path) -> None:
    publish.write(small, tmp_path / "text")
    table = pyarrow.dataset.dataset(tmp_path / "text" / "data" / "wikipedia", format="parquet").to_table()
    assert len(table) == 10
    assert table.schema.field("origin").type.get_field_index("url") >= 0


def test_the_card_tells_what_the_run_counted(small: Path, tmp_path: Path) -> None:
    run, out = small, tmp_path / "text"
    publish.write(run, out)
    header, text = _header(out), (out / "README.md").read_text()
    assert header["license"] == ["cc"]
    assert header["size_categories"] == ["n<1K"]
    assert header["language"] == ["en"]
    assert [one["config_name"] for one in header["configs"]] == ["default", "wikipedia"]
    record = storage.read_json(run / "records" / "documents.wikipedia.json")["counts"]
    mixture = storage.read_json(run / "tokens" / "mixture.json")["sources"]["wikipedia"]
    assert f"| wikipedia | train | {record['training']['documents']:,} |" in text
    assert f"| held out | {record['heldout']['documents']:,} | {record['heldout']['bytes']:,} |" in text
    assert f"| {mixture['share']} | " in text
    assert f"{mixture['epochs']:.2f} |" in text
    assert storage.read_json(run / "inputs" / "wikipedia.json")["inputs"][0]["digest"] in text
    assert "Nothing that points to a person was removed" in text
    publish.write(run, tmp_path / "other", licence="cc-by-sa-3.0")
    assert _header(tmp_path / "other")["license"] == ["cc-by-sa-3.0"]


def test_the_card_names_nobody_who_was_left_out_and_no_folder_of_this_machine(small: Path, tmp_path: Path) -> None:
    recipe = (small / "recipe.toml").read_text()
    assert 'inputs = ["' in recipe
    publish.write(small, tmp_path / "text")
    text = (tmp_path / "text" / "README.md").read_text()
    assert str(tmp_path) not in text
    assert "Nothing was asked for" in text


def test_what_was_masked_and_left_out_is_told_without_names(run: Path, tmp_path: Path) -> None:
    first = next(puna.documents(run, "wikipedia"))
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    changed = ('data.mask=["mail"]', f'data.exclude=["{first.origin.url}"]')
    options = workflow.Options(workers=1)
    workflow.work(str(run.parent / "tiny.toml"), changed, str(folder), "documents", options)
    publish.write(folder, tmp_path / "text")
    text = (tmp_path / "text" / "README.md").read_text()
    assert "Replaced by their kind, where their form is plain: mail." in text
    assert "Documents that a list names were left out" in text
    assert "| − data.exclude | 1 |" in text
    everything = b"".join(path.read_bytes() for path in (tmp_path / "text").rglob("*") if path.is_file())
    assert first.origin.url.encode() not in everything
    got = sum(len(list(read_documents(shard))) for shard in (tmp_path / "text/data/wikipedia").glob("*.parquet"))
    kept = storage.read_json(run / "records" / "documents.wikipedia.json")["counts"]
    assert got == kept["training"]["documents"] + kept["heldout"]["documents"] - 1


@pytest.mark.prove
def test_memory_does_not_grow_with_the_text(tmp_path: Path, proved: Callable[[str], None]) -> None:
    """Ten times the text takes the same memory: what is held is one row group."""
    most = {}
    for megabytes in (30, 300):
        folder = Path(shutil.copytree(FIXTURE, tmp_path / f"run-{megabytes}"))
        place = Origin("dump", "key", "file", 0, "", "", "", "")
        words = "all the words of a page, and the next ones "
        text = words * (1_000_000 // len(words))
        name = "documents/wikipedia/00000.parquet"
        written = (Document(f"{i:032x}", "wikipedia", "g", "en", text, place) for i in range(megabytes))
        count = write_documents(folder / name, written)
        record = json.loads((folder / "records" / "documents.wikipedia.json").read_text())
        heldout = "heldout/wikipedia/00000.parquet"
        stored = {"size": storage.size(folder / name), "digest": storage.digest(folder / name), "modified": 0}
        record["outputs"] = {name: stored, heldout: record["outputs"][heldout]}
        record["counts"]["training"] = {"documents": count, "bytes": count * len(text)}
        (folder / "records" / "documents.wikipedia.json").write_text(json.dumps(record))
        code = "import resource, sys; from puna import publish; publish.write(*sys.argv[1:]); "
        code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        command = [sys.executable, "-c", code, str(folder), str(tmp_path / f"text-{megabytes}")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        most[megabytes] = int(done.stdout) / 1000
    proved(f"a data set of 30 MB of text takes {most[30]:.0f} MB of memory, of 300 MB {most[300]:.0f} MB")
    assert most[300] < most[30] + 60


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("a byte of a shard", "is not what the run recorded; puna data RECIPE --verify"),
        ("a count", "8 documents of 16,728 bytes were read back, and the run has 9 of 16,728"),
        ("a list of exclusions", "data.exclude or data.mask was changed after its documents were written"),
        ("a mask", "data.exclude or data.mask was changed after its documents were written"),
        ("a step begun", "its documents of wikipedia are not finished; puna data"),
        ("no shard", "no such file"),
        ("no recipe", "recipe.toml is missing"),
    ],
)
def test_a_run_that_is_not_what_it_recorded_is_refused_and_nothing_is_left(
    fault: str, said: str, small: Path, tmp_path: Path
) -> None:
    shard, record = small / "documents/wikipedia/00001.parquet", small / "records/documents.wikipedia.json"
    recipe = small / "recipe.toml"
    if fault == "a byte of a shard":
        shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    elif fault == "a count":
        _edit(record, lambda value: value["counts"]["training"].update(documents=9))
    elif fault in ("a list of exclusions", "a mask"):
        key = 'exclude = ["Page 7"]' if "list" in fault else 'mask = ["mail"]'
        assert "[data]\n" in recipe.read_text()
        lines = [line for line in recipe.read_text().splitlines() if not line.startswith(key.split()[0])]
        recipe.write_text("\n".join(lines).replace("[data]", f"[data]\n{key}"))
    elif fault == "a step begun":
        begin(small, "documents.wikipedia")
    elif fault == "no shard":
        shard.unlink()
    else:
        recipe.unlink()
    with pytest.raises(PunaError) as refused:
        publish.write(small, tmp_path / "text")
    assert said in str(refused.value)
    assert {path.name for path in tmp_path.iterdir()} == {"small"}


def test_a_copy_that_lost_rows_is_found_by_reading_it_back(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = dataset._copy

    def less(source: Path, target: Path, shard: dataset.Shard, bar: Any) -> None:
        """The first shard in place of the second: bytes of a shard, but not of this one."""
        whole(source.with_name("00000.parquet") if "00001" in source.name else source, target, shard, bar)

    monkeypatch.setattr(dataset, "_copy", less)
    with pytest.raises(PunaError, match="is not what the run recorded"):
        publish.write(small, tmp_path / "text")
    monkeypatch.setattr(dataset, "_copy", lambda source, target, shard, bar: storage.write(target, b"PAR1"))
    with pytest.raises(PunaError, match="cannot be read as a shard"):
        publish.write(small, tmp_path / "text")
    assert not (tmp_path / "text").exists()


def test_what_is_held_out_is_left_out_where_that_is_asked(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "text"
    assert publish.write(small, out, heldout=False).startswith("8 documents of 1 source")
    assert not list(out.rglob("test-*"))
    heldout = {document.id for document in puna.documents(small, heldout=True)}
    assert not heldout & {document.id for shard in out.rglob("*.parquet") for document in read_documents(shard)}
    assert [split["split"] for split in _header(out)["configs"][0]["data_files"]] == ["train"]
    assert "What the run holds out is not in it" in (out / "README.md").read_text()
    publish.check(small, out, heldout=False)
    with pytest.raises(PunaError, match="lacks data/wikipedia/test-"):
        publish.check(small, out)


def test_what_is_there_already_is_neither_replaced_nor_taken_for_a_run(small: Path, tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    with pytest.raises(InputError, match="is there already"):
        publish.write(small, tmp_path / "text")
    with pytest.raises(InputError, match="is not a run folder"):
        publish.write(tmp_path / "text", tmp_path / "other")


def test_a_data_set_is_held_against_its_run_again(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "text"
    publish.write(small, out)
    card = out / "README.md"
    card.write_text(card.read_text() + "\nEdited by hand.\n")
    assert "10 documents" in publish.check(small, out)
    for change, said in (
        (lambda: (out / "mine.txt").write_text("a secret"), "mine.txt is none of the run's"),
        (lambda: (out / "shards.json").write_text("{}"), "README.md or shards.json is not what the run gives"),
        (lambda: next((out / "data/wikipedia").glob("test-*")).unlink(), "lacks data/wikipedia/test-00000-of-00001"),
        (lambda: shutil.copy(*sorted((out / "data/wikipedia").glob("train-*"))[:2]), "is not the run's shard"),
    ):
        change()
        with pytest.raises(PunaError) as refused:
            publish.check(small, out)
        assert said in str(refused.value)
        (out / "mine.txt").unlink(missing_ok=True)


@given(name=st.text(max_size=30), dump=st.text(max_size=30), licence=st.text(max_size=20), language=st.text(max_size=8))
def test_no_name_breaks_the_card(name: str, dump: str, licence: str, language: str) -> None:
    none = {"documents": 0, "bytes": 0}
    left = {"training": none, "held out": none}
    funnel = Funnel("books", 3, {"count": 0, "bytes": 0}, {name: none}, none, {}, left)
    inputs = [{"dump": dump, "version": dump, "size": 1, "digest": "xxh3:0"}]
    counts = facts.Counts(funnel, inputs)
    counts.train = facts.Part(1, 10, 10, 10)
    counts.licences[licence], counts.languages[language] = 3, 3
    told = facts.Facts(name, {"books": counts}, True, None, 0, (), (), (), False)
    text = data_card.text(told)
    _, header, body = text.split("---\n", 2)
    found = yaml.safe_load(header)
    assert found["pretty_name"] == name
    assert found["license"] == [data_card.HUBS.get(licence, "other")]
    rows = [line for line in body.splitlines() if line.startswith("| books | ")]
    columns = [line.replace("\\|", "").count("|") for line in rows]
    assert columns == [6, 4, 4, 6]


@pytest.mark.parametrize(
    ("rows", "category"),
    [
        *((0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (9999, "1K<n<10K"), (10**6, "1M<n<10M")),
        *((10**9, "1B<n<10B"), (10**12 - 1, "100B<n<1T"), (10**12, "n>1T")),
    ],
)
def test_the_size_is_named_as_the_hub_has_it(rows: int, category: str) -> None:
    assert data_card._size_category(rows) == category


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\n---\n", "mit"),
        ('---\nlicense:\n- "bsd"\n- "cc"\nlanguage:\n- "en"\n---\n', "bsd, cc"),
        ("---\nlanguage: en\n---\nlicense: mit", ""),
        ("", ""),
    ],
)
def test_the_licence_is_read_out_of_a_card(card: str, licence: str) -> None:
    assert data_card.licence_of(card) == licence
