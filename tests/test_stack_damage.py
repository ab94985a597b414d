"""What is broken or hostile in a dump of Stack Exchange is set aside with its reason, and the rest is read."""

from __future__ import annotations

import io
import lzma
import struct
from pathlib import Path

import py7zr
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_stack import LINK, dump, file, records, row, sealed, seven, site
from puna import storage
from puna.data.document import Document
from puna.data.sources import SetAside
from puna.data.stack import join, rows

NAME = "ai.stackexchange.com.7z"
SOUND = dump(row(1), row(2, parent=1))
GOOD = [("Posts.xml", SOUND)]


def encrypted(header: bool = False) -> bytes:
    made = io.BytesIO()
    with py7zr.SevenZipFile(made, "w", password="secret", header_encryption=header) as archive:
        archive.writestr(SOUND, "Posts.xml")
    return made.getvalue()


def bomb(size: int) -> bytes:
    """A packed list of files that states `size` bytes."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": 1 << 20}]
    stored = lzma.compress(bytes(1 << 20), lzma.FORMAT_RAW, filters=filters)
    number = [b"\xff" + value.to_bytes(8, "little") for value in (0, len(stored), size)]
    header = b"\x17\x06" + number[0] + b"\x01\x09" + number[1] + b"\0\x07\x0b\x01\0\x01\x21\x21\x01\x10\x0c"
    return sealed(stored, header + number[2] + b"\0\0")


ARCHIVES = {
    "truncated": (seven(GOOD)[:-30], "the archive breaks off"),
    "cut in its first bytes": (seven(GOOD)[:20], "the archive breaks off"),
    "wrong CRC": (seven(GOOD, crc=1), "Posts.xml has the wrong CRC"),
    "damaged": (seven(GOOD, packed=b"\x80" + bytes(200)), "the packed data is damaged"),
    "damaged first bytes": (seven(GOOD)[:14] + b"x" + seven(GOOD)[15:], "the archive's first bytes are damaged"),
    "damaged list": (seven(GOOD)[:-9] + b"x" + seven(GOOD)[-8:], "the archive's list of files is damaged"),
    "states too much": (seven(GOOD, size=len(SOUND) + 9), "Posts.xml ends 9 bytes before its stated size"),
    "encrypted": (encrypted(), "is encrypted"),
    "list encrypted": (encrypted(header=True), "is encrypted"),
    "bomb by ratio": (seven(GOOD, size=10**10), "a bomb"),
    "bomb by size": (seven(GOOD, size=10**13), "more than 1000000000000"),
    "bomb in its list": (bomb(10**9), "the archive's list of files is larger than"),
    "bomb in its list that lies": (bomb(3 * 10**6), "the list of files ends"),
    "dictionary": (seven(GOOD, settings=b"\x28"), "asks for a dictionary"),
    "another method": (seven(GOOD, method=b"\x03\x04\x01"), "is packed by a method that is not read (030401)"),
    "absolute path": (seven([("/etc/Posts.xml", SOUND)]), "outside of the archive"),
    "absolute path of Windows": (seven([("C:\\Posts.xml", SOUND)]), "outside of the archive"),
    "path that climbs": (seven([("a/../../Posts.xml", SOUND)]), "outside of the archive"),
    "link": (seven([("Posts.xml", b"/etc/passwd")], attributes=LINK), "its Posts.xml is a link"),
    "two of one name": (seven([*GOOD, ("a/Posts.xml", SOUND)]), "holds 2 files named Posts.xml"),
    "empty file": (b"", "is no 7z archive"),
    "plain text": (SOUND, "is no 7z archive"),
    "empty posts": (seven([("Posts.xml", b""), ("b", b"b")]), "the file is empty"),
    "cut posts": (seven([("Posts.xml", SOUND[:-7])]), "the file ends without </posts>: it is cut short"),
    "other posts": (seven([("Posts.xml", b"\x1f\x8bgzip")]), "holds no <posts>"),
    "UTF-16 that is none": (seven([("Posts.xml", b"\xff\xfe<\0\0\xd8<\0")]), "not valid utf-16"),
    "no encoding": (seven([("Posts.xml", b'<?xml version="1.0" encoding="x-none"?>')]), "unknown encoding 'x-none'"),
    "codec that is none": (seven([("Posts.xml", b'<?xml version="1.0" encoding="hex"?>')]), "unknown encoding 'hex'"),
}  # fmt: skip


@pytest.mark.parametrize("case", ARCHIVES)
def test_a_broken_or_hostile_archive_is_set_aside_whole_and_the_others_are_read(tmp_path: Path, case: str) -> None:
    data, reason = ARCHIVES[case]
    broken = file(tmp_path, "broken.stackexchange.com.7z", data)
    site(tmp_path, "sound.stackexchange.com.7z", row(1))
    found = records(tmp_path)
    (aside,) = [one for one in found if isinstance(one, SetAside)]
    assert reason in aside.reason
    assert (aside.file, aside.key, aside.size) == (broken.name, "", len(data))
    assert [one.group for one in found if isinstance(one, Document)] == ["sound.stackexchange.com/1"]
    assert storage.names(tmp_path) == ["broken.stackexchange.com.7z", "sound.stackexchange.com.7z"]


def test_a_broken_row_is_set_aside_by_itself_and_reading_goes_on(tmp_path: Path) -> None:
    good = row(1)
    declared = '<!DOCTYPE posts [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>\n<!-- ' + row(77) + " -->"
    cases = [
        (row(2).replace("Title of 2", "&b;"), "invalid XML", "post 2"),
        (row(3).replace("Title of 3", "\0"), "invalid XML", "post 3"),
        (row(4).replace("/>", ""), "a row has no end", "post 4"),
        (row(5).replace(' Title="', ' Title='), "invalid XML", "post 5"),
        (row(6).replace(' Score="0"', ' Score="0" Score="1"'), "invalid XML", "post 6"),
        ("<row />", "a row without Id", ""),
        (row("x7"), "a row whose Id is no number", ""),
        (row(8, PostTypeId=None), "a row without PostTypeId", "post 8"),
        (row(9, PostTypeId=2), "an answer without ParentId", "post 9"),
        (row(10, Title=None), "a question without title", "post 10"),
        (row(11, Score="many"), "a post whose Score is no number", "post 11"),
        ("<user Id='12'/>", "is no row of posts", "post 12"),
        (row(1, Score=7), "a second post of one Id", "post 1"),
        (row("9" * 19), "a row whose Id is no number", "post " + "9" * 19),
    ]  # fmt: skip
    head, tail = declared + good, row(50, parent=1, Body="sound")
    found = records(site(tmp_path, NAME, head, *(text for text, _, _ in cases), tail))
    (one,) = [record for record in found if isinstance(record, Document)]
    assert one.text == "Q: Title of 1\n\nBody of 1.\n\nA: sound"
    aside = [record for record in found if isinstance(record, SetAside)]
    assert len(aside) == len(cases) == len(found) - 1
    for _, reason, key in cases:
        assert [each for each in aside if reason in each.reason and each.key == key and each.file == NAME], (
            reason,
            key,
        )


def test_bytes_that_are_no_utf8_cost_their_row_only(tmp_path: Path) -> None:
    data = dump(row(1), row(2, Title="\u20ac"), row(3)).replace("\u20ac".encode(), b"\xe2\x82")
    found = records(file(tmp_path, NAME, seven([("Posts.xml", data)])))
    assert [type(one).__name__ for one in found] == ["Document", "SetAside", "Document"]


def test_a_row_of_200_megabytes_is_set_aside_and_never_held() -> None:
    piece = b"a" * (1 << 18)
    blocks = [dump(row(1))[:-8] + b'<row Id="2" PostTypeId="1" Body="', *[piece] * 800, b'"/>' + dump(row(3))[40:]]
    end = rows.End()
    first, large, last = rows.cut(blocks, end)
    assert isinstance(first, bytes)
    assert isinstance(large, rows.BadRow)
    assert isinstance(last, bytes)
    assert (large.reason, rows.head_key(large.head)) == ("a row is larger than 4000000 bytes", "post 2")
    assert end.problem == ""


def test_a_question_of_more_bytes_than_a_worker_may_hold_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(join, "MAX_QUESTION", 3000)
    found = records(site(tmp_path, NAME, row(1), *(row(number, parent=1) for number in range(2, 60)), row(99)))
    kept = [one for one in found if isinstance(one, Document)]
    aside = [one for one in found if isinstance(one, SetAside)]
    assert [one.origin.key for one in kept] == ["1", "99"]
    assert kept[0].text.count("\nA: ") + len(aside) == 58
    assert {one.reason for one in aside} == {"its question has more than 3000 bytes"}


@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_no_damage_to_an_archive_ends_in_anything_but_a_record(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = bytearray(data.draw(st.sampled_from([seven(GOOD), seven(GOOD, method=b"\0")])))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):  # with sums that are right, so that what they guard is reached
        start = whole[12:32]
        offset, size = struct.unpack("<QQ", start[:16])
        header = bytes(whole[32 + offset : 32 + offset + size]) if offset < len(whole) and size < len(whole) else b""
        whole = bytearray(sealed(bytes(whole[32 : 32 + min(offset, len(whole))]), header))
    cut = data.draw(st.integers(0, len(whole)) | st.just(len(whole)))
    records(file(tmp_path_factory.mktemp("damaged"), NAME, bytes(whole[:cut])))
