"""A family: several sizes read the same text once, by one rule, and a kill costs nothing that was finished."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

import tiny
from puna import family, records, storage
from puna import recipe as recipes
from puna.errors import InputError, PunaError
from puna.workflow import Options

TABLE = """
[family]
dims = [16, 24, 32]
heads = [2, 2, 2]
layers = [1, 1, 2]
seeds = [2, 1, 1]
"""


def write(folder: Path) -> Path:
    """The tiny recipe as a family, in a folder with its dumps."""
    tiny.write(folder)
    text = (folder / "tiny.toml").read_text("utf-8").replace("steps = 24", 'tokens = "1024 tokens"')
    (folder / "family.toml").write_text(text + TABLE, "utf-8")
    return folder / "family.toml"


def stable(root: Path) -> dict[str, bytes]:
    """Weights and text of all members and of what they share."""
    names = ("*/checkpoints/*/model.safetensors", "*/tokens/*/*.bin", "*/heldout/*/*", "*/evaluations/heldout.json")
    found = [path for name in names for path in sorted(root.glob(name))]
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def test_one_rule_sets_rate_and_batch_and_all_read_the_same_tokens() -> None:
    recipe = recipes.load("family")
    several = family.members(recipe)
    assert [member.name for member in several] == [
        *("0.31M-seed1", "0.31M-seed2", "0.31M-seed3", "0.95M-seed1", "0.95M-seed2", "0.95M-seed3"),
        *("3.09M-seed1", "8.02M-seed1"),
    ]
    own = [recipes.load("family", member.overrides) for member in several]
    assert {recipes.steps(each) * recipes.batch_tokens(each) for each in own} == {1_966_080}
    rates, batches = ([f(each) for each in own] for f in (lambda each: each.train.learning_rate, recipes.batch_tokens))
    assert rates == sorted(rates, reverse=True)
    assert set(batches) == {4096}
    assert [rate * each.model.dim for rate, each in zip(rates, own, strict=True)] == pytest.approx(
        [0.576] * 8, rel=0.01
    )
    laptop = recipes.load("laptop")
    assert laptop.train.learning_rate == pytest.approx(0.576 / laptop.model.dim)
    assert family.rule(recipe, 192, 7680) == (pytest.approx(3e-3), 16)
    other = recipes.load("family", ["train.batch=8192 tokens"])
    assert {recipes.batch_tokens(recipes.load("family", each.overrides)) for each in family.members(other)} == {8192}
    assert family.rule(recipe, 192, 77)[1] == 11  # of 1, 7, 11 and 77, as nearest to 16
    assert {each.seed for each in own} == {recipe.seed}  # the text follows from it
    assert [each.training_seed for each in own] == [1, 2, 3, 1, 2, 3, 1, 1]
    assert {source.max_epochs for each in own for _, source in each.sources.items()} == {1.0}


@pytest.mark.promise("errors")
def test_a_wrong_family_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one number for each size"):
        recipes.load("family", ["family.dims=[64]"])
    with pytest.raises(InputError, match="is no family"):
        family.members(recipes.load("laptop"))
    for word in ("train.learning_rate=1e-3", "model.dim=96", "train.seed=4"):
        with pytest.raises(InputError, match=f"{word.partition('=')[0]} follows from the sizes of a family"):
            family.raise_all("family", [word], str(tmp_path / "ruled"), Options())
    assert not (tmp_path / "ruled").exists()
    done = tiny.puna("train", write(tmp_path), "--out", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 2
    assert "puna run alone raises" in done.stderr


@pytest.mark.promise("resume")
def test_a_member_gets_what_was_done_with_records_that_vouch_for_it(tmp_path: Path) -> None:
    recipe = recipes.load("family", ["family=none"])
    data, member = tmp_path / "data", tmp_path / "member"
    storage.write(data / "tokens" / "a.bin", b"one")
    storage.write(data / "work" / "tokens" / "0.bin", b"on the way")
    outputs = {
        name: {"size": storage.size(data / name), "modified": 0, "digest": storage.digest(data / name)}
        for name in ("tokens/a.bin", "work/tokens/0.bin")
    }
    record = {"format": 1, "step": "tokens.a", "version": 1, "fingerprint": "00", "values": {}, "inputs": {}}
    record |= {"outputs": outputs, "produced": "xxh3:1", "counts": {}, "seconds": 7.0}
    records.end(data, record)
    family.share(data, member, recipe, Options())
    own = records.of_step(member, "tokens.a")
    assert own is not None
    assert own["cleaned"]
    assert records.damaged(member, own) is None
    assert (member / "tokens" / "a.bin").read_bytes() == b"one"
    seen = (member / "tokens" / "a.bin").stat().st_mtime_ns
    family.share(data, member, recipe, Options())
    assert (member / "tokens" / "a.bin").stat().st_mtime_ns == seen
    storage.write(data / "tokens" / "a.bin", b"two")
    records.end(data, {**record, "fingerprint": "01"})
    with pytest.raises(PunaError, match="is not what its record says"):
        family.share(data, member, recipe, Options())
    assert records.of_step(member, "tokens.a") is None  # what it had is set aside, and nothing vouches for the new


def test_a_file_of_any_size_is_copied_block_by_block(tmp_path: Path) -> None:
    name = "tokens/a.bin"
    storage.write(tmp_path / "data" / name, bytes(8_000_000))
    known = {"size": 8_000_000, "modified": 0, "digest": storage.digest(tmp_path / "data" / name)}
    record = {"format": 1, "step": "tokens.a", "version": 1, "fingerprint": "00", "values": {}, "inputs": {}}
    record |= {"outputs": {name: known}, "produced": "xxh3:1", "counts": {}, "seconds": 7.0}
    records.end(tmp_path / "data", record)
    tracemalloc.start()
    try:
        family.share(tmp_path / "data", tmp_path / "member", recipes.load("family", ["family=none"]), Options())
        assert tracemalloc.get_traced_memory()[1] < 6_000_000
    finally:
        tracemalloc.stop()
    assert storage.digest(tmp_path / "member" / name) == known["digest"]


@pytest.mark.prove
@pytest.mark.promise("resume")
def test_a_family_that_is_killed_goes_on_to_the_same_bytes_and_shares_its_text(tmp_path: Path) -> None:
    path = write(tmp_path)
    words = ("run", path, "family.dims=[16]", "family.heads=[2]", "family.layers=[1]", "family.seeds=[2]")
    options = ("--workers", "1", "--threads", "1")
    whole = tiny.puna(*words, "--out", tmp_path / "whole", *options, cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    assert "report.html" in whole.stdout
    members = sorted(each.name for each in (tmp_path / "whole").iterdir() if each.is_dir() and each.name != "data")
    assert len(members) == 2
    command = [sys.executable, "-m", "puna", *map(str, words), "--out", str(tmp_path / "cut"), *options]
    running = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    second = tmp_path / "cut" / members[1]
    while running.poll() is None and not (second / "records" / "tokenizer.json").exists():
        time.sleep(0.01)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert not (second / "records" / "report.json").exists()
    before = (tmp_path / "cut" / members[0] / "records" / "train.json").stat().st_mtime_ns
    again = tiny.puna(*words, "--out", tmp_path / "cut", *options, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert stable(tmp_path / "cut") == stable(tmp_path / "whole")
    assert (tmp_path / "cut" / members[0] / "records" / "train.json").stat().st_mtime_ns == before
    shared = records.read_records(tmp_path / "whole" / "data")
    assert "train" not in shared
    for name in members:
        own = records.read_records(tmp_path / "whole" / name)
        assert own.keys() > shared.keys()
        assert all(own[step]["produced"] == shared[step]["produced"] for step in shared)
        assert all(own[step]["seconds"] == shared[step]["seconds"] for step in shared)  # copied, not done again
        mixture = storage.read_json(tmp_path / "whole" / name / "tokens" / "mixture.json")
        assert all(source["epochs"] <= 1 for source in mixture["sources"].values())
    page = (tmp_path / "whole" / "report.html").read_text("utf-8")
    assert "(2 seeds)" in page or "They differ in nothing but name and seed." in page
