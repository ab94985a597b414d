"""Dumps of Stack Exchange become questions with their answers by score, and broken ones never stop a run."""

from __future__ import annotations

import errno
import io
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_stack import BEGIN, END, documents, dump, everything, file, records, row, seven, site
from puna import recipe as recipes
from puna import storage
from puna.data import pipeline
from puna.data.document import Document, document_id
from puna.data.sources import Aside, Dropped, Input, SetAside, locate, read, split
from puna.data.stack import join, posts, unpack
from puna.errors import InputError, PunaError
from puna.recipe import StackExchange

NAME = "ai.stackexchange.com.7z"


def test_answers_stand_from_the_highest_score_to_the_lowest_as_numbers(tmp_path: Path) -> None:
    scores = {11: 9, 12: 100, 13: -1, 14: 0, 15: -20, 16: 9, 17: 10}
    answers = [row(number, parent=1, Score=score) for number, score in scores.items()]
    (one,) = documents(site(tmp_path, NAME, row(1, Title="Why?"), *reversed(answers)))
    body = [part.removeprefix("A: Body of ") for part in one.text.split("\n\n")[2:]]
    assert body == ["12.", "17.", "11.", "16.", "14.", "13.", "15."]


def test_a_document_is_a_question_with_its_answers(tmp_path: Path) -> None:
    first = row(
        5,
        Title="Is 1 < 2 & 3?",
        Body="<p>See <b>this</b>:</p>\n<pre><code>if a &lt; b:\n    go\n</code></pre>",
        AcceptedAnswerId=8,
        OwnerUserId=21,
        ContentLicense="CC BY-SA 3.0",
        CreationDate="2012-03-04T05:06:07.8",
    )
    second = row(6, parent=5, Score=2, OwnerDisplayName='J. "Q" Public', ContentLicense="CC BY-SA 4.0")
    third = row(8, parent=5, Score=1, OwnerUserId=-1, ContentLicense="CC BY-SA 4.0")
    path = site(tmp_path, NAME, first, second, third)
    one, aside = everything(path)
    assert isinstance(one, Document)
    assert one.text == (
        "Q: Is 1 < 2 & 3?\n\nSee this:\n\nif a < b:\n    go\n\nA: Body of 6.\n\nA (accepted): Body of 8."
    )
    assert one.id == document_id("stackexchange", NAME, "5")
    assert (one.source, one.group, one.language) == ("stackexchange", "ai.stackexchange.com/5", "en")
    origin = one.origin
    assert (origin.dump, origin.key, origin.file, origin.offset) == (NAME, "5", NAME, 0)
    assert origin.url == "https://ai.stackexchange.com/questions/5"
    assert (origin.title, origin.date) == ("Is 1 < 2 & 3?", "2012-03-04T05:06:07.8")
    assert origin.licence == "CC-BY-SA-3.0 AND CC-BY-SA-4.0"
    assert aside == Aside(
        "attribution",
        {
            "document": one.id,
            "site": "ai.stackexchange.com",
            "question": 5,
            "posts": [
                {"post": 5, "user": "21", "name": "", "licence": "CC-BY-SA-3.0"},
                {"post": 6, "user": "", "name": 'J. "Q" Public', "licence": "CC-BY-SA-4.0"},
                {"post": 8, "user": "-1", "name": "", "licence": "CC-BY-SA-4.0"},
            ],
        },
    )


ROWS = [
    row(1, ClosedDate="2020-01-01"), row(2, parent=1, Score=-3), row(3, parent=1, DeletionDate="2020-01-01"),
    row(4, parent=1, Body="<p> </p>"), row(5, parent=99), row(6, Score=-2), row(7, parent=6),
    row(8, DeletionDate="2020-01-01"), row(9, parent=8), row(10, kind=4), row(11, kind=5, Body=""), row(12),
    row(13, Body=""),
]  # fmt: skip


def fates(*files: Path, **values: object) -> dict[str, list[str]]:
    """Keys by fate, in order."""
    found: dict[str, list[str]] = {}
    for record in records(*files, **values):
        if isinstance(record, Document):
            found.setdefault("kept", []).append(record.origin.key)
        elif isinstance(record, Dropped):
            found.setdefault(record.rule, []).append(record.key.removeprefix("ai.stackexchange.com/"))
        else:
            found.setdefault(record.reason, []).append(record.key)
    return found


def test_each_rule_is_counted_and_each_number_is_a_value_of_the_recipe(tmp_path: Path) -> None:
    path = site(tmp_path, NAME, *ROWS)
    always = {"post type": ["10", "11"], "empty": ["4"], "answer without question": ["5"]}
    assert fates(path) == always | {"deleted": ["3", "8"], "kept": ["1", "6", "12", "13"]}
    found = fates(path, keep_closed=False, min_question_score=-1, min_answer_score=-2, keep_deleted=True)
    assert found == {
        "post type": ["10", "11"], "closed": ["1"], "answer without question": ["5"], "question score": ["6"],
        "kept": ["8", "12", "13"],
    }  # fmt: skip
    assert fates(path, min_answer_score=-2)["answer score"] == ["2"]
    assert fates(path, keep_unanswered=False)["unanswered"] == ["12", "13"]
    assert fates(path, min_characters=30)["short"] == ["12", "13"]
    text = {one.origin.key: one.text for one in documents(path)}
    assert text["13"] == "Q: Title of 13"
    assert text["1"].endswith("A: Body of 2.")


def test_a_licence_that_a_row_does_not_say_follows_from_its_date() -> None:
    cases = {
        ("", "2011-04-07T23:59:59.9"): "CC-BY-SA-2.5",
        ("", "2011-04-08T00:00:00.0"): "CC-BY-SA-3.0",
        ("", "2018-05-01T23:59:59.9"): "CC-BY-SA-3.0",
        ("", "2018-05-02T00:00:00.0"): "CC-BY-SA-4.0",
        ("CC BY-SA 2.5", "2020-01-01"): "CC-BY-SA-2.5",
    }
    assert {case: posts.licence(*case) for case in cases} == cases


def test_a_site_is_the_host_that_its_dump_is_named_for(tmp_path: Path) -> None:
    cases = {
        "ai.stackexchange.com.7z": ("ai.stackexchange.com", "en"),
        "stackoverflow.com-Posts.7z": ("stackoverflow.com", "en"),
        "some/where/ja.stackoverflow.com.7z": ("ja.stackoverflow.com", "ja"),
        "ru.meta.stackoverflow.com.7z": ("ru.meta.stackoverflow.com", "ru"),
        "meta.mathoverflow.net.7z": ("meta.mathoverflow.net", "en"),
        "meta.cooking.stackexchange.com.7z": ("cooking.meta.stackexchange.com", "en"),
        "meta.stackexchange.com.7z": ("meta.stackexchange.com", "en"),
        "askubuntu.com/Posts.xml": ("askubuntu.com", "en"),
        "askubuntu.com-Posts.xml": ("askubuntu.com", "en"),
        "my dump.7z": ("", "en"),
    }
    for name, (host, language) in cases.items():
        entry = Input(name, "/x", name, 0)
        assert (posts.site(entry), posts.language(posts.site(entry))) == (host, language)
    (one,) = documents(site(tmp_path, "mine.7z", row(1)))
    assert (one.origin.url, one.group) == ("", "mine.7z/1")
    unpacked = file(tmp_path / "askubuntu.com", "Posts.xml", dump(row(1)))
    (alone,), (below,) = documents(unpacked), documents(tmp_path / "askubuntu.com" / ".." / "askubuntu.com*" / "*.xml")
    assert alone.origin.url == "https://askubuntu.com/questions/1"
    assert alone.id == below.id == document_id("stackexchange", "askubuntu.com/Posts.xml", "1")


def test_the_largest_sites_are_read_and_the_others_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(30):
        host = f"site{number:02d}.{'meta.' if number % 2 else ''}stackexchange.com"
        site(tmp_path, f"{host}.7z", row(1, Body="a" * (100 + 7 * number)))
    file(tmp_path, "stackoverflow.com-Users.7z", seven([("Users.xml", b"<users></users>")]))
    file(tmp_path, "broken.stackexchange.com.7z", b"7z\xbc\xaf\x27\x1c" + bytes(500_000))
    found = records(tmp_path)
    kept = [one.group for one in found if isinstance(one, Document)]
    assert len(kept) == 28
    others = {(one.rule, one.key, one.example) for one in found if isinstance(one, Dropped)}
    rule = "site not among the 28 largest"
    assert others == {
        (rule, "site00.stackexchange.com.7z", "site00.stackexchange.com: 269 bytes of posts"),
        (rule, "site01.meta.stackexchange.com.7z", "site01.meta.stackexchange.com: 276 bytes of posts"),
        ("no posts", "stackoverflow.com-Users.7z", "the archive holds no Posts.xml"),
    }
    (aside,) = [one for one in found if isinstance(one, SetAside)]
    assert (aside.file, aside.size) == ("broken.stackexchange.com.7z", 500_006)
    assert capsys.readouterr().err == ""
    assert len([one for one in records(tmp_path, sites=29) if isinstance(one, Document)]) == 29
    assert len([one for one in records(tmp_path, sites=40) if isinstance(one, Document)]) == 30
    assert "all sites are read; there are 30, and sites is 40" in capsys.readouterr().err


@pytest.mark.promise("errors")
def test_a_site_in_two_inputs_is_refused_by_name(tmp_path: Path) -> None:
    site(tmp_path / "2022", NAME, row(1))
    site(tmp_path / "2023", NAME, row(1))
    file(tmp_path / "2023", "ai.stackexchange.com-Users.7z", seven([("Users.xml", b"")]))
    said = (
        f"sources.stackexchange.inputs: 2022/{NAME} and 2023/{NAME} both hold the posts of ai.stackexchange.com; take"
    )
    with pytest.raises(InputError, match=re.escape(said)):
        records(tmp_path)


def test_another_number_of_sites_cuts_the_tasks_anew(tmp_path: Path) -> None:
    inputs = f'sources.stackexchange.inputs=["{site(tmp_path, NAME, row(1))}"]'
    share = "sources.stackexchange.share=1"
    values = []
    for number in (3, 4):
        recipe = recipes.load("laptop", [inputs, share, f"sources.stackexchange.sites={number}"])
        entries = pipeline.look(locate("stackexchange", recipe.sources["stackexchange"]))
        steps = {step.name: step for step in pipeline.steps(recipe, {"stackexchange": entries})}
        values.append(steps["split.stackexchange"].values)
    assert values[0] != values[1]
    assert values[0]["sites"] == 3


@pytest.mark.promise("order")
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_a_join_on_disk_gives_what_a_join_in_memory_gives(data: st.DataObject) -> None:
    questions = data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=12))
    made = [(number, 0, number) for number in questions]
    made += [(data.draw(st.sampled_from(questions)), 1, data.draw(st.integers(1, 60))) for _ in range(20)]
    made = data.draw(st.permutations(made))
    keyed = [(*key, f"{key} at {place}".encode() * place) for place, key in enumerate(made)]
    expected: dict[int, list[Any]] = {}
    for place, (question, kind, number, body) in enumerate(keyed):
        expected.setdefault(question, []).append((kind, number, place, body))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(join, "FAN_IN", data.draw(st.integers(2, 4)))
        for buffer in (1 << 30, data.draw(st.integers(1, 3000))):
            with join.Join(buffer) as joined:
                for each in keyed:
                    joined.add(*each)
                found = list(joined.questions())
            assert [group[0][0][0] >> 1 for group in found] == sorted(expected)
            for group in found:
                plain = [(order & 1, number, place, body) for (order, number, place), body in group]
                assert plain == sorted(expected[group[0][0][0] >> 1])


@pytest.mark.promise("order")
def test_any_buffer_and_any_task_size_give_the_same_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.stackexchange.com.7z", "b.stackexchange.com.7z"):
        questions = [row(number, Score=number % 3) for number in range(1, 60, 2)]
        answers = [row(number, parent=number * 7 % 60 | 1, Score=number % 11 - 3) for number in range(2, 200, 2)]
        site(tmp_path, name, *questions, *ROWS[2:5], *answers)
    whole = everything(tmp_path)
    assert len([one for one in whole if isinstance(one, Document)]) == 60
    assert everything(tmp_path, task_size=1) == whole
    monkeypatch.setattr(join, "BUFFER", 900)
    monkeypatch.setattr(join, "FAN_IN", 3)
    assert everything(tmp_path) == whole


def test_temporary_files_are_gone_however_reading_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join, "BUFFER", 2000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    path = site(tmp_path, NAME, *(row(number) for number in range(1, 200)))
    recipe = StackExchange.model_validate({"inputs": [str(path)], "share": 1})
    inputs = locate("stackexchange", recipe)
    (task,) = split("stackexchange", inputs, recipe, 1 << 30)
    before = len(storage.names("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    reading = read(task, inputs, recipe)
    next(reading)
    assert storage.names(tmp_path / "tmp") == []
    assert not before or len(storage.names("/proc/self/fd")) > before
    reading.close()  # type: ignore[attr-defined]
    assert not before or len(storage.names("/proc/self/fd")) == before


@pytest.mark.promise("errors")
def test_a_full_temporary_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(join, "BUFFER", 2000)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    path = site(tmp_path, NAME, *(row(number) for number in range(1, 200)))
    with pytest.raises(PunaError, match=r"^[^\n]*: the disk is full; free some space and run the same command$"):
        records(path)


def test_an_archive_on_an_object_store_is_read_like_a_file(tmp_path: Path) -> None:
    (here,) = documents(site(tmp_path, NAME, row(1), row(2, parent=1)))
    storage.write(f"memory://stack/{NAME}", (tmp_path / NAME).read_bytes())
    (there,) = documents(f"memory://stack/{NAME}")
    assert there == here


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8", "utf-16", "utf-16-be", "iso-8859-1"])
def test_other_encodings_of_xml_give_the_same_text(tmp_path: Path, encoding: str) -> None:
    text = dump(row(1, Title="Fluß äöü")).decode("utf-8-sig").replace("utf-8", encoding.removesuffix("-sig"))
    (one,) = documents(file(tmp_path, NAME, seven([("Posts.xml", text.encode(encoding))])))
    assert one.text == "Q: Fluß äöü\n\nBody of 1."


def test_real_dumps_are_read_whole(samples: Path, proved: Callable[[str], None]) -> None:
    found = everything(samples / "stackexchange")
    kept = Counter(one.origin.file for one in found if isinstance(one, Document))
    assert kept == {
        "ai.stackexchange.com.7z": 421,
        "coffee.stackexchange.com.7z": 225,
        "matheducators.stackexchange.com.7z": 397,
        "meta.mathoverflow.net.7z": 254,
    }
    written = Counter[str]()
    for one in found:
        if isinstance(one, Aside):
            written[one.value["site"]] += len(one.value["posts"]) - 1
    answers = {"ai.stackexchange.com": 749, "coffee.stackexchange.com": 327, "matheducators.stackexchange.com": 1507}
    assert written == answers | {"meta.mathoverflow.net": 392}
    assert Counter(one.rule for one in found if isinstance(one, Dropped)) == {"post type": 332}
    assert not [one for one in found if isinstance(one, SetAside)]
    texts = [one.text for one in found if isinstance(one, Document)]
    assert not [text for text in texts if "\r" in text or "\n\n\n\n\n" in text]
    assert sum("&lt;" in text or "</p>" in text for text in texts) == 3  # these speak of HTML
    size = sum(len(text.encode()) for text in texts)
    assert size > 4_400_000
    proved(f"{sum(kept.values())} real questions with {sum(written.values())} answers, {size / 1e6:.1f} MB of text")


READ = """
import re, sys
from puna.data.sources import locate, read, split
from puna.recipe import StackExchange
recipe = StackExchange.model_validate({"inputs": [sys.argv[1]], "share": 1})
inputs = locate("stackexchange", recipe)
kept = sum(type(one).__name__ == "Document" for task in split("stackexchange", inputs, recipe, 1)
           for one in read(task, inputs, recipe))
print(kept, int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) // 1000)
"""


def peak(folder: Path, megabytes: int) -> int:
    """Megabytes of memory that reading a site of so many takes, its answers far from their questions."""
    path = folder / f"{megabytes}.stackexchange.com" / "Posts.xml"
    path.parent.mkdir()
    body = f"<p>{'What is said here is said again. ' * 70}</p>"
    count = megabytes * 1_000_000 // (2 * len(row(1_000_000, Body=body)))
    with path.open("w", encoding="utf-8") as written:
        written.write(BEGIN)
        written.writelines(row(number, Body=body) for number in range(1, count))
        written.writelines(row(count + number, parent=count - number, Body=body) for number in range(1, count))
        written.write(END)
    done = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True)
    path.unlink()
    kept, found = map(int, done.stdout.split())
    assert kept == count - 1
    return found


@pytest.mark.prove
def test_memory_does_not_grow_with_a_site(tmp_path: Path, proved: Callable[[str], None]) -> None:
    assert unpack.MAX_DICTIONARY <= 1 << 28
    peaks = {size: peak(tmp_path, size) for size in (110, 220)}
    assert peaks[220] < 500
    assert peaks[220] < peaks[110] + 40
    proved(f"a site of 220 MB takes {peaks[220]} MB of memory, one of 110 MB {peaks[110]} MB")
