"""Code in archives, folders and BigQuery's tables: the same rules whatever the form, and nothing hostile ends a run."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import random
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from made_code import GPL, INFO, MIT, Files, aside, everything, kept, records, rules, tarred, zipped
from puna.data.code import archive, tables
from puna.data.document import Document, write_documents
from puna.data.notice import write_notice
from puna.data.sources import Aside, Part, Record, github, locate
from puna.errors import InputError
from puna.recipe import GitHub

CODE = (
    '"""Adds numbers."""\n\n\n'
    + 'def add(first, second):\n    """Return the sum."""\n    return first + second\n\n' * 3
)

FORMS: dict[str, Callable[[Files], bytes]] = {
    ".tar": tarred,
    ".tar.gz": lambda files: gzip.compress(tarred(files), mtime=0),
    ".tgz": lambda files: gzip.compress(tarred(files), mtime=0),
    ".tar.bz2": lambda files: bz2.compress(tarred(files)),
    ".tar.xz": lambda files: lzma.compress(tarred(files)),
    ".zip": zipped,
}
PROJECT: Files = {
    "mine-1.0/PKG-INFO": INFO.format("MIT"),
    "mine-1.0/LICENSE": MIT,
    "mine-1.0/mine/a.py": "# Copyright 2021 B. Person\n# Licensed under the MIT licence.\n" + CODE,
    "mine-1.0/mine/b.js": "// Adds.\n" + "function add(first, second) { return first + second; }\n" * 4,
    "mine-1.0/mine/data.bin": b"\0" * 50,
    "mine-1.0/mine/lib.min.js": "function add(first, second) { return first + second; }\n" * 4,
    "mine-1.0/vendor/theirs.py": CODE,
}


@pytest.mark.parametrize("ending", FORMS)
def test_every_form_of_archive_gives_the_same_documents(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"mine-1.0{ending}"
    path.write_bytes(FORMS[ending](PROJECT))
    found = records(path)
    assert kept(found) == ["mine-1.0/mine/a.py", "mine-1.0/mine/b.js"]
    assert rules(found) == {"extension": 3, "path": 2}
    first = next(record for record in found if isinstance(record, Document))
    assert (first.group, first.language, first.origin.licence, first.text) == ("mine", "python", "MIT", CODE)
    assert records(path, task_size=1) == records(path, task_size=700) == found


def test_a_wheel_is_read_by_its_metadata(tmp_path: Path) -> None:
    about = "Metadata-Version: 2.4\nName: mine\nVersion: 1.0\nLicense-Expression: {}\n"
    for licence, count in (("Apache-2.0", 1), ("LGPL-3.0-only", 0)):
        files: Files = {"mine-1.0.dist-info/METADATA": about.format(licence), "mine/a.py": CODE}
        (tmp_path / "mine-1.0-py3-none-any.whl").write_bytes(zipped(files))
        assert len(kept(records(tmp_path / "mine-1.0-py3-none-any.whl"))) == count


def test_a_source_distribution_under_the_gpl_is_refused(tmp_path: Path) -> None:
    files: Files = {"ranger-1.9/PKG-INFO": INFO.format("GPLv3"), "ranger-1.9/ranger/a.py": CODE}
    (tmp_path / "ranger-1.9.tar.gz").write_bytes(FORMS[".tar.gz"](files))
    assert rules(records(tmp_path / "ranger-1.9.tar.gz")) == {"licence": 2}


@pytest.mark.parametrize(
    ("files", "licence"),
    [
        ({"LICENSE": MIT}, "MIT"),
        ({"LICENSE": MIT + "\nThe Software shall be used for Good, not Evil.\n"}, ""),
        ({"LICENSE": GPL}, ""),
        ({"LICENSE": MIT, "PKG-INFO": INFO.format("GPLv3")}, ""),
        ({"COPYING": GPL, "PKG-INFO": INFO.format("MIT")}, ""),
        ({"COPYING": GPL, "LICENSE": MIT, "PKG-INFO": INFO.format("MIT OR GPL-3.0-only")}, "MIT"),
        ({"package.json": '{"license": "(MIT OR GPL-2.0)"}'}, "MIT"),
        ({"package.json": '{"license": "MIT AND GPL-2.0"}'}, ""),
        ({"package.json": '{"licenses": [{"type": "GPL-2.0"}, {"type": "MIT"}]}'}, "MIT"),
        ({"package.json": '{"license": "SEE LICENSE IN x"}'}, ""),
        ({"package.json": "{", "LICENSE": MIT}, ""),
        ({"Cargo.toml": '[package]\nlicense = "MIT/Apache-2.0"\n'}, "MIT"),
        ({"pyproject.toml": '[project]\nlicense = {text = "BSD-3-Clause"}\n'}, "BSD-3-Clause"),
        ({"pyproject.toml": '[project]\nlicense = {file = "LICENSE"}\n', "LICENSE": MIT}, "MIT"),
        ({"setup.cfg": "[metadata]\nlicense = Apache-2.0\n"}, "Apache-2.0"),
        ({"setup.cfg": "[metadata]\nlicense = MPL-2.0\n", "LICENSE": MIT}, ""),
        ({"README": "Under MIT."}, ""),
    ],
)
def test_metadata_and_text_decide_together(tmp_path: Path, files: Files, licence: str) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(zipped({f"owner-name-0a1b/{name}": content for name, content in {**files, "a.py": CODE}.items()}))
    found = records(path)
    assert [each.origin.licence for each in found if isinstance(each, Document)] == ([licence] if licence else [])


def test_a_folder_is_judged_by_the_licence_that_lies_in_it(tmp_path: Path) -> None:
    files: Files = {"a/LICENSE": MIT, "a/a.py": CODE, "a/carried/COPYING": GPL, "a/carried/deep/b.py": CODE}
    (tmp_path / "a.tar").write_bytes(tarred(files))
    assert kept(records(tmp_path / "a.tar")) == ["a/a.py"]


def test_folders_are_one_repository_or_hold_some(tmp_path: Path) -> None:
    for name, licence in (("one", MIT), ("owner/two", MIT), ("owner/three", GPL)):
        (tmp_path / "all" / name / "src").mkdir(parents=True)
        (tmp_path / "all" / name / "LICENSE").write_text(licence)
        (tmp_path / "all" / name / "src" / "a.py").write_text(f"# {name}\n{CODE}")
    (tmp_path / "all" / "one" / "src" / "link.py").symlink_to("/etc/passwd")
    (tmp_path / "all" / "four.tar").write_bytes(tarred({"four/LICENSE": MIT, "four/b.py": CODE}))
    found = records(tmp_path / "all")
    assert [(r.origin.dump, r.origin.key) for r in found if isinstance(r, Document)] == [
        ("four.tar", "four/b.py"), ("one", "src/a.py"), ("owner/two", "src/a.py"),
    ]  # fmt: skip
    assert rules(found)["link"] == 1
    assert kept(records(tmp_path / "all" / "one")) == ["src/a.py"]


@pytest.mark.parametrize("ending", FORMS)
def test_an_archive_that_is_cut_off_or_damaged_is_told_and_the_run_goes_on(tmp_path: Path, ending: str) -> None:
    whole = FORMS[ending](PROJECT)
    path = tmp_path / f"mine{ending}"
    for cut in range(1, len(whole) - 1, max(1, len(whole) // 23)):
        path.write_bytes(whole[:cut])
        found = records(path)
        assert set(kept(found)) <= {"mine-1.0/mine/a.py", "mine-1.0/mine/b.js"}
        damaged = bytearray(whole)
        damaged[cut] ^= 0x5A
        path.write_bytes(damaged)
        records(path)
    path.write_bytes(whole[: len(whole) // 2])
    assert aside(records(path))


def test_names_that_lead_out_links_devices_and_repeats_are_never_read(tmp_path: Path) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name in ("a/LICENSE", "/abs.py", "a/../../up.py", "a/A.py", "a/a.py", "a/a.py", "a/\udce9.py"):
            data = (MIT if name.endswith("LICENSE") else CODE).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, kind in (("a/l.py", tarfile.SYMTYPE), ("a/h.py", tarfile.LNKTYPE), ("a/dev.py", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    (tmp_path / "a.tar").write_bytes(made.getvalue())
    found = records(tmp_path / "a.tar")
    assert kept(found) == ["a/A.py", "a/a.py", "a/\\xe9.py"]
    assert rules(found)["link"] == 2
    assert Counter(aside(found)) == {
        "its path leads out of the archive": 2,
        "the archive holds a file of that path before": 1,
        "a device, an encrypted or a sparse file": 1,
    }


def test_bombs_end_at_their_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "SURE", 1_000_000)
    bomb = tarred({"a/LICENSE": MIT, "a/zeros.py": b"\0" * 20_000_000, "a/b.py": CODE})
    (tmp_path / "bomb.tar.gz").write_bytes(gzip.compress(bomb))
    assert "bytes for a byte stored" in aside(records(tmp_path / "bomb.tar.gz"))[0]
    (tmp_path / "bomb.zip").write_bytes(zipped({"a/LICENSE": MIT, "a/zeros.py": b"\0" * 20_000_000, "a/b.py": CODE}))
    assert "bytes for a byte stored" in aside(records(tmp_path / "bomb.zip"))[0]
    huge = tarfile.TarInfo("././@LongLink")
    huge.type, huge.size = tarfile.GNUTYPE_LONGNAME, 8_000_000_000
    (tmp_path / "name.tar").write_bytes(huge.tobuf(tarfile.GNU_FORMAT) + b"\0" * 2000)
    assert "extended header of 8,000,000,000 bytes" in aside(records(tmp_path / "name.tar"))[0]


@pytest.mark.parametrize("ending", FORMS)
@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [("MAX_ENTRIES", 3, "it has more than 3 entries"), ("MAX_UNPACKED", 8000, "it unpacks to more than 8,000 bytes")],
)
def test_limits_count_from_the_beginning_of_an_archive_whatever_the_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, reason: str, ending: str
) -> None:
    monkeypatch.setattr(archive, limit, value)
    path = tmp_path / f"many{ending}"
    path.write_bytes(
        FORMS[ending]({"a/LICENSE": MIT} | {f"a/{n}.py": CODE + "total = first + second\n" * 60 for n in range(9)})
    )
    found = records(path)
    if (limit, ending) == ("MAX_UNPACKED", ".tar"):  # it unpacks to no more than its own size
        assert len(kept(found)) == 9
    else:
        # A zip counts files, a tar also headers and padding; one that breaks within a file tells of the file as well.
        zip_of_bytes, tar_of_bytes = (limit == "MAX_UNPACKED" and (ending == ".zip") == one for one in (True, False))
        assert kept(found) == [f"a/{n}.py" for n in range(4 if zip_of_bytes else 2)]
        assert [said.endswith(reason) for said in aside(found)] == [True] * (2 if tar_of_bytes else 1)
    assert records(path, task_size=1) == records(path, task_size=2500) == found


def test_what_is_one_task_by_its_size_is_not_read_to_be_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported(tmp_path, "parquet")
    for ending, form in FORMS.items():
        (tmp_path / f"mine{ending}").write_bytes(form(PROJECT))
    rules_of = GitHub.model_validate({"inputs": [str(tmp_path)], "share": 1})
    inputs = [entry for entry in locate("github", rules_of) if not entry.declared.startswith("licenses")]
    assert len(inputs) == len(FORMS) + 1
    for reads in ("_survey", "storage", "tables.cuts", "archive.can_be_cut"):
        monkeypatch.setattr(f"puna.data.sources.github.{reads}", None)
    for entry in inputs:
        (task,) = github.split([entry], rules_of, entry.size)
        assert task.parts == (Part(entry.declared, 0, entry.size),)


def test_an_encrypted_or_lying_zip_entry_is_set_aside(tmp_path: Path) -> None:
    data = bytearray(zipped({"a/LICENSE": MIT, "a/b.py": CODE}))
    place = data.rfind(b"PK\x01\x02")
    data[place + 8] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    assert aside(records(tmp_path / "a.zip")) == ["a device, an encrypted or a sparse file"]
    data[place + 8] ^= 1
    data[place + 24 : place + 28] = (10).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(data)
    assert "cannot be read as text" in aside(records(tmp_path / "a.zip"))[0]


def test_sources_that_are_no_text_are_set_aside_and_large_ones_dropped_unread(tmp_path: Path) -> None:
    files: Files = {
        "a/LICENSE": MIT, "a/wide.py": CODE.encode("utf-16"), "a/nul.py": CODE + "\0", "a/long.py": "x" * 2_000_000,
        "a/line.py": "x = '" + "a" * 5000 + "'\n",
    }  # fmt: skip
    (tmp_path / "a.tar.gz").write_bytes(FORMS[".tar.gz"](files))
    found = records(tmp_path / "a.tar.gz")
    assert len(aside(found)) == 2
    assert rules(found) == {"extension": 1, "size": 1, "longest line": 1}


ROWS: list[dict[str, Any]] = [
    {"id": "1", "size": len(CODE), "content": CODE, "binary": False, "copies": 1, "sample_repo_name": "a/mit",
     "sample_path": "src/a.py"},
    {"id": "2", "size": len(CODE), "content": CODE, "binary": False, "copies": 2, "sample_repo_name": "b/gpl",
     "sample_path": "b.py"},
    {"id": "3", "size": 9, "content": None, "binary": True, "copies": 1, "sample_repo_name": "a/mit",
     "sample_path": "c.png"},
    {"id": "4", "size": 5_000_000, "content": None, "binary": False, "copies": 1, "sample_repo_name": "a/mit",
     "sample_path": "d.py"},
    {"id": "5", "size": len(CODE), "content": CODE, "binary": False, "copies": 1, "sample_repo_name": "d/none",
     "sample_path": "e.py"},
    {"id": "6", "size": len(CODE), "content": CODE, "binary": False, "copies": 1, "sample_repo_name": None,
     "sample_path": "f.py"},
]  # fmt: skip
LICENCES = [{"repo_name": "a/mit", "license": "mit"}, {"repo_name": "b/gpl", "license": "gpl-2.0"}]


def exported(folder: Path, form: str, contents: list[dict[str, Any]] = ROWS) -> None:
    for table, rows in (("contents", contents), ("licenses", LICENCES)):
        path = folder / f"{table}-000000000000.{form}"
        if form == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
            continue
        text = io.StringIO()
        if form.startswith("csv"):
            writer = csv.DictWriter(text, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        else:
            text.write(
                "".join(json.dumps({k: str(v) if k == "size" else v for k, v in r.items()}) + "\n" for r in rows)
            )
        data = text.getvalue().encode()
        path.write_bytes(gzip.compress(data) if form.endswith(".gz") else data)


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "json", "csv", "csv.gz", "parquet"])
def test_tables_of_bigquery_are_joined_by_repository(tmp_path: Path, form: str) -> None:
    exported(tmp_path, form)
    found = records(tmp_path)
    assert kept(found) == ["a/mit/src/a.py"]
    assert rules(found) == {"licence": 2, "binary": 1, "size": 1}
    assert aside(found) == ["names no repository or path"]
    assert records(tmp_path, task_size=1) == records(tmp_path, task_size=300) == found


def test_broken_rows_are_set_aside_and_the_next_are_read(tmp_path: Path) -> None:
    exported(tmp_path, "jsonl")
    path = tmp_path / "contents-000000000000.jsonl"
    path.write_bytes(b"{broken\n[1]\n" + b"\xff" * 5000 + b"\n" + path.read_bytes())
    found = records(tmp_path)
    assert kept(found) == ["a/mit/src/a.py"]
    assert len(aside(found)) == 4


LONG = [
    ROWS[0] | {"sample_path": f"{n:02}.py", "content": f"{CODE}# {random.Random(n).randbytes(2000).hex()}"}
    for n in range(40)
]
WIDE = {"max_line_length": 5000, "mean_line_length": 5000}


@pytest.mark.parametrize("form", ["jsonl.gz", "csv.gz", "parquet"])
def test_a_table_that_is_cut_off_or_damaged_is_told_and_the_rows_before_are_kept(tmp_path: Path, form: str) -> None:
    exported(tmp_path, form, LONG)
    path = tmp_path / f"contents-000000000000.{form}"
    data = path.read_bytes()
    whole = kept(records(tmp_path, **WIDE))
    assert whole == [f"a/mit/{n:02}.py" for n in range(40)]
    for place in range(20, len(data) - 1, len(data) // 13):
        path.write_bytes(data[:place])
        found = records(tmp_path, **WIDE)
        assert len(aside(found)) == 1
        assert kept(found) == whole[: len(kept(found))]
        assert form == "parquet" or len(kept(found)) > 40 * place // len(data) - 10
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x5A]) + data[place + 1 :])
        found = records(tmp_path, **WIDE)
        assert form == "parquet" or aside(found)
        assert len(kept(found)) > 40 * place // len(data) - 10


def test_a_damaged_row_group_loses_no_row_of_those_before(tmp_path: Path) -> None:
    exported(tmp_path, "parquet", LONG)
    path = tmp_path / "contents-000000000000.parquet"
    data, (begun, end) = path.read_bytes(), tables.cuts(str(path), 1)[5:7]
    path.write_bytes(data[:begun] + b"\xff" * (end - begun) + data[end:])
    found = records(tmp_path, **WIDE)
    assert kept(found) == [f"a/mit/{n:02}.py" for n in range(10)]
    assert [said.partition(":")[0] for said in aside(found)] == ["the table cannot be read on"]


@pytest.mark.parametrize("form", ["jsonl.gz", "csv.gz", "parquet"])
def test_a_table_of_licences_that_is_cut_off_ends_the_run_in_one_line(tmp_path: Path, form: str) -> None:
    exported(tmp_path, form)
    path = tmp_path / f"licenses-000000000000.{form}"
    data = path.read_bytes()
    for place in range(20, len(data) - 1, len(data) // 7):
        path.write_bytes(data[:place])
        with pytest.raises(InputError, match=rf"{path.name}: the table cannot be read on: .*; export the table anew"):
            records(tmp_path)


def noticed(folder: Path, found: list[Record | Aside]) -> str:
    """The notice of what was read, of which files of licences may be told twice."""
    shard, lines, target = folder / "0.parquet", folder / "0.licences.jsonl.zst", folder / "notice.txt"
    write_documents(shard, [each for each in found if isinstance(each, Document)])
    told = [json.dumps(each.value) + "\n" for each in found if isinstance(each, Aside)]
    lines.write_bytes(zstandard.compress("".join(told).encode()))
    write_notice(target, [shard], [lines])
    return target.read_text()


def test_the_notice_knows_a_repository_whose_name_is_no_valid_text(tmp_path: Path) -> None:
    about = '{"name": "\\ud800mine", "version": "1\\udfff", "license": "MIT"}'
    (tmp_path / "mine.tar").write_bytes(tarred({"a/package.json": about, "a/LICENSE": MIT, "a/a.py": CODE}))
    found = everything(tmp_path / "mine.tar")
    assert [each.group for each in found if isinstance(each, Document)] == ["\ud800mine"]
    notice = noticed(tmp_path, found)
    assert "\ufffdmine (mine.tar)\n  MIT: 1 file\n  version 1\ufffd\n" in notice
    assert "Copyright (c) 2020 A. Person" in notice
    assert notice.count("Permission is hereby granted") == 1


def test_the_notice_tells_what_was_read_under_which_licence(tmp_path: Path) -> None:
    (tmp_path / "mine.tar").write_bytes(tarred(PROJECT))
    found = everything(tmp_path / "mine.tar")
    shard, lines, target = tmp_path / "0.parquet", tmp_path / "0.licences.jsonl.zst", tmp_path / "notice.txt"
    write_documents(shard, [each for each in found if isinstance(each, Document)])
    told = [json.dumps(each.value) + "\n" for each in found if isinstance(each, Aside)]
    lines.write_bytes(zstandard.compress("".join(told).encode()))
    assert write_notice(target, [shard], [lines]) == {"repositories": 1, "files": 2}
    notice = target.read_text()
    assert "mine (mine.tar)\n  MIT: 2 files\n" in notice
    assert "Copyright (c) 2020 A. Person" in notice
    assert "Copyright 2021 B. Person" in notice
    assert notice.count("Permission is hereby granted") == 1
    write_notice(tmp_path / "again.txt", [shard], [lines, lines])
    assert (tmp_path / "again.txt").read_text() == notice
