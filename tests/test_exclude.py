"""What a list names is left out, nothing else, and only what follows from it is done again."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import puna
from care_run import go, home, run
from puna import inspect, storage, trace
from puna.data.exclude import Exclusions, address, entries
from puna.data.mask import masked
from puna.errors import InputError

__all__ = ["home", "run"]  # fixtures

ID = "0123456789abcdef" * 2
URL = "https://www.github.com/Numpy/numpy/blob/main/a.py?raw=1"
DOCUMENT = (ID, "numpy", URL, "A Title", "numpy/a.py", "numpy 2.0", "dumps/django/django-5.0.6.tar.gz")


@pytest.mark.parametrize(
    ("entry", "left_out"),
    [
        (ID.upper(), True), ("numpy", True), ("NUMPY", True), ("numpy 2.0", True), ("a title", True),
        ("github.com", True), ("www.github.com", True), ("numpy/numpy", True), ("numpy/a.py", True),
        ("http://github.com/numpy/numpy/blob/main/a.py?raw=1#top", True),
        ("hub.com", False), ("com", False), ("numpy/scipy", False), ("num", False), ("2.0", False), ("title", False),
        ("https://github.com/numpy/numpy", True), ("https://github.com/numpy/numpy.git", True),
        ("https://github.com/numpy/numpy/blob/main/a.py", False), ("https://github.com/", False),
        ("django/django", True), ("https://github.com/django/django", True), ("django/djang", False),
    ],
)  # fmt: skip
def test_an_entry_leaves_out_what_has_it_as_id_address_host_repository_or_name(entry: str, left_out: bool) -> None:
    assert (Exclusions([entry]).of(*DOCUMENT) == entry) is left_out


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("https://fr.wikipedia.org/wiki/Café", "https://fr.wikipedia.org/wiki/Caf%C3%A9"),
        ("münchen.de", "https://www.xn--mnchen-3ya.de/a"),
        ("example.org:8080", "http://example.org:8080/a"),
        ("http://example.org", "https://example.org/"),
    ],
)
def test_an_address_is_known_however_it_is_written(entry: str, url: str) -> None:
    assert Exclusions([entry]).of(ID, "", url, "", "", "", "") == entry


def test_the_page_at_the_root_of_a_host_is_not_the_host() -> None:
    assert Exclusions(["https://example.org/"]).of(ID, "", "https://example.org/a", "", "", "", "") is None


def test_entries_come_from_files_too(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("# removed on request\nexample.org\n\n  A Title  \nexample.org\n")
    assert entries([f"@{tmp_path}/list.txt", "b", " b "]) == ("A Title", "b", "example.org")
    with pytest.raises(InputError, match=r"@missing.txt: no such file; name a file in data.exclude as @FILE"):
        entries(["@missing.txt"])
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match=r"is not UTF-8 \(byte 3\); save the list as UTF-8"):
        entries([f"@{tmp_path}/latin.txt"])


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_an_address_and_stays_one(text: str) -> None:
    assert isinstance(address(text), str)
    assert Exclusions([text]).of(ID, "", text, "", "", "", "") in (text, None)


TELLS = (
    "Write to jo.doe+x@mail.example.org or +44 20 7946 0958, (415) 555-2671, 415-555-2671; from 192.168.0.12, ::1, "
    "2001:db8::8a2e:370:7334, user:10.0.0.7, ::ffff:1.2.3.4."
)
KEEPS = (
    "In 1914-1918 and 2001 2002 2003, version 1.2.3.4.5 of a@b cost 12.345.678 at 10:30:15; std::vector, ISBN "
    "978-3-16-148410-0, 300.400.500.600, page 123-4567, @decorator, x@y, 3.14159265358979, id 415-555-26711, "
    "Face::add(x), c=+123456789, version 2.0.0.1, section 1.1.1.1."
)


def test_what_points_to_a_person_is_masked_and_nothing_else() -> None:
    assert masked(TELLS, ["mail", "phone", "ip"]) == (
        "Write to [mail] or [phone], [phone], [phone]; from [ip], ::1, [ip], user:[ip], [ip]."
    )
    assert masked(KEEPS, ["mail", "phone", "ip"]) == KEEPS
    assert masked(TELLS, ["mail"]) == TELLS.replace("jo.doe+x@mail.example.org", "[mail]")
    assert masked(TELLS, []) == TELLS


@settings(max_examples=200, deadline=None)
@given(st.text("0123456789+-.:()@ab ", max_size=80))
def test_masking_ends_and_masks_what_is_masked_no_further(text: str) -> None:
    once = masked(text, ["mail", "phone", "ip"])
    assert masked(once, ["mail", "phone", "ip"]) == once


def test_a_changed_list_redoes_only_what_follows_from_the_documents(run: Path, home: Path) -> None:
    before = {document.id: document for document in puna.documents(run)}
    gone = next(iter(before.values()))
    said = go(home, run, f'data.exclude=["{gone.id}", "no such name"]', target="documents")
    assert f"{gone.source}: 1 documents left out, by 1 of 2 entries of data.exclude" in said
    again = set(re.findall(r"(\S+): done again", said))
    assert again == {f"documents.{document.source}" for document in before.values()} | {"notice.github"}
    assert before.keys() - {document.id for document in puna.documents(run)} == {gone.id}
    record = storage.read_json(run / "records" / f"documents.{gone.source}.json")
    assert record["counts"]["dropped"]["excluded"]["documents"] == 1
    said = go(home, run, target="documents")
    assert "what an earlier run made with these values is taken up again" in said
    assert {document.id for document in puna.documents(run)} == before.keys()


def test_masking_changes_the_documents_and_nothing_that_was_read_before(run: Path, home: Path) -> None:
    before = {document.id: document.text for document in puna.documents(run)}
    said = go(home, run, 'data.mask=["mail", "ip"]', target="documents")
    assert "extract" not in said
    assert {document.id: document.text for document in puna.documents(run)} == {
        id: masked(text, ["mail", "ip"]) for id, text in before.items()
    }


def test_the_steps_that_are_told_of_a_document_are_those_that_read_it(run: Path) -> None:
    from puna.recipe import batch_windows
    from puna.run import read_recipe
    from puna.tokens import Windows

    windows, per_step = Windows(run), batch_windows(read_recipe(run))
    steps: dict[str, set[int]] = {}
    for i in range(len(windows)):
        for part in windows.documents(i):
            steps.setdefault(part.document, set()).add(i // per_step + 1)
    everything = [document.id for document in puna.documents(run)]
    found = trace.documents(str(run), everything)
    assert {one.document.id: set(one.steps) for one in found.documents} == {
        id: steps.get(id, set()) for id in everything
    }
    assert found.trained == found.planned == 24
    assert {one.document.id for one in trace.step(str(run), 3).documents} == {id for id, at in steps.items() if 3 in at}


def test_a_trace_of_documents_that_the_tokens_were_not_made_from_is_refused(run: Path, home: Path) -> None:
    gone = next(iter(puna.documents(run, "wikipedia")))
    go(home, run, f'data.exclude=["{gone.id}"]', target="documents")
    with pytest.raises(InputError, match=r"tokens were made from other wikipedia documents .*puna tokens RECIPE"):
        trace.step(str(run), 3)


def test_a_list_that_leaves_nothing_of_a_source_is_refused(run: Path, home: Path) -> None:
    with pytest.raises(InputError, match=r"data.exclude: no wikipedia document is left to train on"):
        go(home, run, 'data.exclude=["wikipedia.org"]', target="documents")


def test_no_example_shows_what_a_list_names(run: Path, home: Path) -> None:
    (funnel,) = inspect.funnels(str(run), "wikipedia")
    named = funnel.kept["examples"][0]
    go(home, run, f'data.exclude=["{named["title"]}"]')
    (funnel,) = inspect.funnels(str(run), "wikipedia")
    assert named["title"] not in [example.get("title") for example in funnel.kept["examples"]]
    assert f">{named['text'][:40]}" not in (run / "report.html").read_text()


def test_a_trace_is_told_for_people_and_for_programs(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = next(iter(puna.documents(run, heldout=True)))
    kept = next(iter(puna.documents(run)))
    found = trace.documents(str(run), [held.origin.title, kept.id, "nobody"])
    text = found.as_text()
    assert "never: it is held out" in text
    assert "no document of this run is named nobody" in text
    assert kept.origin.url in text
    told = json.loads(json.dumps(found.as_json()))
    assert (told["format"], told["missing"]) == (1, ["nobody"])
    with pytest.raises(InputError, match="there is no step 99: they go from 1 to 24"):
        trace.step(str(run), 99)
    shutil.rmtree(run / "documents")
    with pytest.raises(InputError, match="holds no documents yet"):
        trace.documents(str(run), ["a"])
