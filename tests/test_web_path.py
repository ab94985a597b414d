"""The whole way of web pages through the data steps, on pages whose repeats are planted."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import faults
import puna
import web_run as web
from puna import recipe as recipes
from puna import storage, workflow
from puna.data import pipeline
from puna.data.brought import Look
from puna.data.pipeline import Located
from puna.data.quality import language, models
from puna.errors import InputError, PunaError
from puna.workflow import Options

DROP = 'paragraphs = "drop"\nmin_characters = 60'


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")


def test_lines_that_repeat_go_from_every_page_and_what_is_left_too_short_goes(tmp_path: Path) -> None:
    made = web.pages(30)
    urls = sorted(made)
    for number, url in enumerate(urls[:20]):
        made[url] = [web.MENU[number % 3], *made[url], web.MENU[2]]
    made[urls[29]] = [web.MENU[0], "alone"]
    web.wet(tmp_path, made, urls, 2)
    run = web.run(tmp_path, DROP)
    found = web.texts(run)
    assert found == {url: "\n".join(line for line in made[url] if line not in web.MENU) for url in urls[:29]}
    told = web.counts(run, "documents.commoncrawl")
    assert told["dropped"]["short"]["documents"] == 1
    assert web.counts(run, "lines.commoncrawl")["gone"]["lines"] == 41


@given(st.integers(0, 2**32), st.integers(1, 3), st.sampled_from(["4 KB", "20 KB", "1 MB"]), st.sampled_from([1, 2]))
@settings(deadline=None, max_examples=4)
def test_no_order_of_files_and_no_size_of_shards_changes_what_is_kept(
    tmp_path_factory: pytest.TempPathFactory, seed: int, files: int, size: str, workers: int
) -> None:
    chance = random.Random(seed)
    made = web.pages(24)
    urls = sorted(made)
    planted = {url: [*lines, *chance.sample(web.MENU, chance.randint(0, 3))] for url, lines in made.items()}
    planted[urls[0]] = list(planted[urls[1]])  # an exact copy
    shuffled = chance.sample(urls, len(urls))
    found = []
    for order, number, keys in ((urls, 1, "1 MB"), (shuffled, files, size)):
        folder = tmp_path_factory.mktemp("web")
        web.wet(folder, planted, order, number)
        run = web.run(folder, DROP, task=keys, shard=keys, workers=workers if number > 1 else 1)
        found.append(web.texts(run))
    assert found[0] == found[1]
    repeated = [one for one in web.MENU if sum(one in lines for lines in planted.values()) > 1]
    for url in urls[2:]:
        assert found[0][url] == "\n".join(line for line in planted[url] if line not in repeated)
    assert urls[0] not in found[0]
    assert urls[1] not in found[0]


def test_pages_that_hold_a_benchmarks_items_go_or_are_marked(tmp_path: Path) -> None:
    made = web.pages(12)
    urls = sorted(made)
    chance = random.Random(5)
    asked = [web.line(chance) for _ in range(3)]
    made[urls[4]] = [*made[urls[4]], f"Question: {asked[0]} is it so"]
    (tmp_path / "dev.jsonl").write_text(
        "".join(
            json.dumps({"question": one, "title": "T", "answer": True, "passage": web.line(chance)}) + "\n"
            for one in asked
        )
    )
    web.wet(tmp_path, made, urls, 1)
    named = f'decontaminate.benchmarks={{boolq="{tmp_path}/dev.jsonl"}}'
    run = web.run(tmp_path, DROP, named)
    assert web.texts(run).keys() == made.keys() - {urls[4]}
    assert web.counts(run, "documents.commoncrawl")["dropped"]["contamination"]["documents"] == 1
    before = (run / "records" / "contamination.commoncrawl.json").read_bytes()
    (tmp_path / "dev.jsonl").unlink()  # what was read of it stands for it, for the same name
    web.run(tmp_path, DROP, named)
    with pytest.raises(InputError, match=r"other\.jsonl"):
        web.run(tmp_path, DROP, f'decontaminate.benchmarks={{boolq="{tmp_path}/other.jsonl"}}')
    web.run(tmp_path, DROP, named, "decontaminate.action=mark")
    assert (run / "records" / "contamination.commoncrawl.json").read_bytes() == before
    assert web.texts(run).keys() == made.keys()
    assert web.counts(run, "documents.commoncrawl")["marked"]["documents"] == 1


def test_pages_unlike_those_that_wikipedia_cites_go(tmp_path: Path) -> None:
    made = web.pages(240)
    urls = sorted(made)
    wares = [url for number, url in enumerate(urls) if number % 2]
    chance = random.Random(6)
    for url in wares:
        made[url] = [f"buy cheap ware now {chance.getrandbits(64):016x} for few dollars in our shop" for _ in range(6)]
    web.wet(tmp_path, made, urls, 2)
    wikipedia = web.cite(tmp_path, [url for url in urls if url not in wares][::2])
    keys = f"{DROP}\nmin_reference_score = 0.25"
    run = web.run(tmp_path, keys, "reference.min_positives=20", more=wikipedia)
    told = web.counts(run, "documents.commoncrawl")["dropped"]["reference"]
    assert told["documents"] > 0.8 * len(wares)
    kept = web.texts(run).keys() & made.keys()
    assert len(kept & set(wares)) < 0.2 * len(wares)
    off = web.run(tmp_path, keys, "reference.min_positives=200", more=wikipedia)
    assert web.texts(off).keys() >= made.keys()


def test_a_model_brought_along_is_known_by_what_it_holds_and_may_go_when_it_was_read(tmp_path: Path) -> None:
    chance = random.Random(8)
    made = {f"https://www.site{n}.org/page": [web.sentence(chance) for _ in range(5)] for n in range(30)}
    web.wet(tmp_path, made, sorted(made), 2)
    settings = recipes.load("llama-7b", ["lm.minimum=100", "lm.pieces=300", "lm.order=2"]).lm
    texts = [(n, "\n".join(web.sentence(chance) for _ in range(9))) for n in range(60)]
    keys, brought = 'languages = ["en"]\nperplexity_percentiles = [30, 60]', tmp_path / "models"
    found = []
    for documents in (texts, texts[:20], texts):
        models.train(brought, "en", documents, settings)
        run = web.run(tmp_path, keys, f"lm.models={{en='{brought}/en'}}")
        found.append((web.counts(run, "buckets.commoncrawl"), web.texts(run)))
    assert found[0] == found[2]
    assert found[0] != found[1]
    for file in brought.iterdir():
        file.unlink()
    assert web.texts(web.run(tmp_path, keys, f"lm.models={{en='{brought}/en'}}")) == found[0][1]
    with pytest.raises(InputError, match=r"lm\.models en: no "):
        web.run(tmp_path, keys, f"lm.models={{en='{brought}/other'}}")


def test_a_language_model_gives_the_same_again_and_its_minimum_redoes_no_score(tmp_path: Path) -> None:
    made = web.pages(12)
    keys, small = 'languages = ["en"]\nperplexity_percentiles = [30, 60]\nmin_language_score = 0.0', ("lm.pieces=300",)
    produced = []
    for name in ("one", "two"):
        web.wet(tmp_path / name, made, sorted(made), 1)
        more = web.cite(tmp_path / name, [], articles=60)
        run = web.run(tmp_path / name, keys, *small, "lm.minimum=100", more=more)
        produced.append(storage.read_json(run / "records" / "lm.json")["produced"])
    assert produced[0] == produced[1]
    before = (run / "records" / "perplexity.commoncrawl.json").read_bytes()
    web.run(tmp_path / "two", keys, *small, "lm.minimum=200", more=more)
    assert (run / "records" / "perplexity.commoncrawl.json").read_bytes() == before


def test_what_tells_languages_may_go_when_it_was_read_and_the_names_of_steps_need_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = web.pages(8)
    web.wet(tmp_path, made, sorted(made), 1)
    keys = 'languages = ["en"]\nmin_language_score = 0.0'
    before = web.texts(web.run(tmp_path, keys))

    def missing(named: object) -> None:
        raise PunaError("the language model is not there")

    monkeypatch.setattr(language, "model_file", missing)
    assert web.texts(web.run(tmp_path, keys)) == before
    recipe = recipes.load(tmp_path / "web.toml")
    with pytest.raises(PunaError, match="the language model is not there"):
        pipeline.steps(recipe, {"commoncrawl": Located((), [])})
    steps = pipeline.steps(recipe, {"commoncrawl": Located((), [])}, Look(names_only=True))
    assert "language.commoncrawl" in [step.name for step in steps]


def test_a_source_without_inputs_asks_for_no_language_model(tmp_path: Path) -> None:
    made = web.pages(8)
    web.wet(tmp_path, made, sorted(made), 1)
    left_out = '[sources.c4]\nshare = 1\nlanguages = ["de"]\nperplexity_percentiles = [30, 60]\n'
    assert web.texts(web.run(tmp_path, "", more=left_out)).keys() == made.keys()


@given(st.lists(st.tuples(st.integers(0, 9), st.text(max_size=9)), max_size=12), st.integers(1, 40))
def test_a_sample_has_its_size_at_most_and_one_text_at_least(documents: list[tuple[int, str]], size: int) -> None:
    chosen = models.sample(documents, size)
    assert chosen == sorted(documents)[: len(chosen)]
    assert len(chosen) == min(1, len(documents)) or sum(len(text.encode()) for _, text in chosen) <= size
    if len(chosen) < len(documents):
        assert sum(len(text.encode()) for _, text in sorted(documents)[: len(chosen) + 1]) > size


def test_rules_that_leave_nothing_of_a_source_are_an_error_and_those_that_change_nothing_too(tmp_path: Path) -> None:
    made = web.pages(8)
    web.wet(tmp_path, made, sorted(made), 1)
    with pytest.raises(InputError, match=r"no document is left of it: 8 of 8 went by language"):
        web.run(tmp_path, 'languages = ["de"]\nmin_language_score = 0.9')
    for keys, said in (
        ('keep_buckets = ["head"]', "keep_buckets changes nothing"),
        ("min_language_score = 0.9", "min_language_score changes nothing"),
        ("paragraph_parts = 8", "paragraph_parts changes nothing"),
        ("min_similarity = 0.7", "min_similarity changes nothing"),
    ):
        with pytest.raises(InputError, match=said):
            web.run(tmp_path, keys)
    with pytest.raises(InputError, match=r"lm\.models names fr"):
        web.run(tmp_path, "", "lm.models={fr='x'}")


FRENCH = "la ville est au bord de la mer et les bateaux rentrent le soir avec le vent du nord dans le port"


def test_pages_of_other_languages_and_the_tail_of_perplexity_go(tmp_path: Path) -> None:
    chance = random.Random(4)
    made = {}
    for number in range(90):
        words = [web.sentence(chance) for _ in range(5)]
        kind = number % 3
        lines = (
            words if kind == 0 else [" ".join(chance.sample(one.split(), 5)[::-1]) + f" {one[::-1]}" for one in words]
        )
        if kind == 2:
            lines = [" ".join(chance.sample(FRENCH.split(), 14)) for _ in range(5)]
        made[f"https://www.site{number}.org/page"] = lines
    urls = sorted(made)
    web.wet(tmp_path, made, urls, 2)
    wikipedia = web.cite(tmp_path, [], articles=120)
    keys = 'languages = ["en"]\nperplexity_percentiles = [30, 60]'
    small = ("lm.minimum=1000", "lm.pieces=400", "lm.order=3")
    run = web.run(tmp_path, keys, *small, more=wikipedia)
    told = web.counts(run, "documents.commoncrawl")["dropped"]
    assert told["language"]["documents"] >= 30
    assert told["perplexity"]["documents"] > 0
    found = [url for url in web.texts(run) if url in made]
    assert found
    clean = {f"https://www.site{number}.org/page" for number in range(0, 90, 3)}
    assert sum(url in clean for url in found) > 0.8 * len(found)
    one = web.counts(run, "buckets.commoncrawl")["en"]
    web.run(tmp_path, keys + '\nkeep_buckets = ["head"]', *small, more=wikipedia)
    assert web.counts(run, "buckets.commoncrawl")["en"] == one
    assert len([url for url in web.texts(run) if url in made]) < len(found)


@pytest.mark.prove
@given(st.sampled_from(["4 KB", "20 KB", "1 MB"]), st.sampled_from(["3 KB", "1 MB"]), st.integers(1, 7), st.booleans())
@settings(deadline=None, max_examples=6)
def test_every_filter_together_keeps_the_same_whatever_the_shards_parts_and_workers(
    asked: dict[str, object], shard: str, task: str, parts: int, alone: bool
) -> None:
    cut = (f"data.shard_size={shard}", f"data.task_size={task}", f"data.partitions={parts}")
    folder = asked["folder"]
    assert isinstance(folder, Path)
    found = filtered(folder, f"run-{shard}-{task}-{parts}-{alone}".replace(" ", ""), cut, 1 if alone else 2)
    assert found == asked["expected"]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """A folder with what every filter reads, and what stays of it."""
    folder = tmp_path_factory.mktemp("asked")
    faults.write(folder)
    expected = filtered(folder, "run", (), 1)
    assert {source for source, *_ in expected} == {"wikipedia", "commoncrawl", "books"}
    return {"folder": folder, "expected": expected}


def filtered(folder: Path, name: str, cut: Sequence[str], workers: int) -> list[tuple[str, ...]]:
    """What every filter leaves of the pages, books and articles in a folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        workflow.work("tiniest.toml", [*faults.ASKED, *cut], name, "documents", Options(workers=workers))
    return sorted((one.source, one.id, one.language, one.text) for one in puna.documents(folder / name))
