"""Code in archives, folders and BigQuery's tables: the same rules whatever the form, and nothing hostile ends a run."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from puna.data.code import archive
from puna.data.document import Document, write_documents
from puna.data.notice import write_notice
from puna.data.sources import Aside, Dropped, Record, SetAside, locate, read, split
from puna.recipe import GitHub

FAMILIES = ["MIT", "BSD", "Apache"]
CODE = (
    '"""Adds numbers."""\n\n\n'
    + 'def add(first, second):\n    """Return the sum."""\n    return first + second\n\n' * 3
)
MIT = """MIT License

Copyright (c) 2020 A. Person

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""
GPL = "GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007\n\nEveryone is permitted to copy.\n"
INFO = "Metadata-Version: 1.1\nName: mine\nVersion: 1.0\nLicense: {}\n"
Files = dict[str, str | bytes]


def everything(*inputs: Path, task_size: int = 1 << 30, **values: object) -> list[Record | Aside]:
    recipe = GitHub.model_validate({"inputs": list(map(str, inputs)), "share": 1, **values})
    found = locate("github", recipe)
    return [record for task in split("github", found, recipe, task_size) for record in read(task, found, recipe)]


def records(*inputs: Path, task_size: int = 1 << 30, **values: object) -> list[Record]:
    return [each for each in everything(*inputs, task_size=task_size, **values) if not isinstance(each, Aside)]


def kept(found: list[Record]) -> list[str]:
    return [record.origin.key for record in found if isinstance(record, Document)]


def rules(found: list[Record]) -> Counter[str]:
    return Counter(record.rule for record in found if isinstance(record, Dropped))


def aside(found: list[Record]) -> list[str]:
    return [record.reason for record in found if isinstance(record, SetAside)]


def tarred(files: Files) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            data = content.encode() if isinstance(content, str) else content
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return made.getvalue()


def zipped(files: Files) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files.items():
            target.writestr(name, content)
    return made.getvalue()


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
    monkeypatch.setattr(archive, "MAX_ENTRIES", 3)
    (tmp_path / "many.tar").write_bytes(tarred({f"a/{n}.py": CODE for n in range(9)}))
    assert "more than 3 entries" in aside(records(tmp_path / "many.tar"))[0]
    huge = tarfile.TarInfo("././@LongLink")
    huge.type, huge.size = tarfile.GNUTYPE_LONGNAME, 8_000_000_000
    (tmp_path / "name.tar").write_bytes(huge.tobuf(tarfile.GNU_FORMAT) + b"\0" * 2000)
    assert "extended header of 8,000,000,000 bytes" in aside(records(tmp_path / "name.tar"))[0]


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


ROWS = [
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


def exported(folder: Path, form: str) -> None:
    for table, rows in (("contents", ROWS), ("licenses", LICENCES)):
        path = folder / f"{table}-000000000000.{form}"
        if form == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
            continue
        text = io.StringIO()
        if form.startswith("csv"):
            writer = csv.DictWriter(text, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)  # type: ignore[arg-type]
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
