"""Rows, HTML and archives of Stack Exchange: each fast reader beside its slow twin, on real and drawn input."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import py7zr
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from made_stack import BEGIN, END, row
from puna.data.stack import markup, markup_tree
from puna.data.stack.rows import BadRow, End, RowError, cut, escaped, fields, parsed, unescaped
from puna.data.stack.sevenzip import members, stream


def text(html: str) -> str:
    return markup.text(escaped(html))


def test_a_number_that_python_refuses_to_read_is_no_character() -> None:
    digits = "0" * 5000
    source = f"<p>a &#{digits}65; b &#{'9' * 5000}; c &#x{'9' * 5000}; d</p>"
    assert text(source) == markup_tree.text(source) == "a A b \ufffd c \ufffd d"


CASES = {
    "<p>One <a href='x'>link</a>,\n<em>two</em>  words.</p>\n\n<p>Three<br>four<br />five.</p>": (
        "One link, two words.\n\nThree\nfour\nfive."
    ),
    "<pre class=\"lang-py\"><code>if a &lt; b &amp;&amp; c:\n\tgo()\n\n\n    stop()\n</code></pre>after": (
        "if a < b && c:\n    go()\n\n\n    stop()\n\nafter"
    ),
    "<ul>\n<li>one</li>\n<li>two\n<ol start=\"3\">\n<li>in</li>\n<li>side</li>\n</ol></li>\n</ul>\n<p>end</p>": (
        "- one\n- two\n  3. in\n  4. side\n\nend"
    ),
    "<ol><li><p>a</p><p>b</p></li><li><pre>x\n y</pre></li></ol>": "1. a\n\n   b\n\n2. x\n    y",
    "<p>said:</p><blockquote><p>a</p><blockquote><p>b</p></blockquote><ul><li>c</li></ul></blockquote><p>d</p>": (
        "said:\n\n> a\n>\n> > b\n>\n> - c\n\nd"
    ),
    "<blockquote><p>a</p></blockquote><blockquote class=\"spoiler\"><p>b</p></blockquote>": "> a\n\n> b",
    "<h1>Title</h1><p>a</p><hr><h2>More &amp; more</h2>b": "Title\n\na\n\n---\n\nMore & more\n\nb",
    "<p>x<sup>2</sup> + 10<sup>-n</sup>, H<sub>2</sub>O, a<sub>max</sub>, 19<sup>th</sup></p>": (
        "x² + 10⁻ⁿ, H₂O, amax, 19th"
    ),
    "<p><img alt=\"A &quot;good&quot; graph, 1 > 0\"> <img src=\"b\" alt=\"enter image description here\"></p>": (
        'A "good" graph, 1 > 0'
    ),
    "<div class=\"s-table-container\"><table>\n<thead>\n<tr>\n<th>a</th>\n<th>b</th>\n</tr>\n</thead>\n<tbody>\n<tr>\n"
    "<td><strong>1</strong></td>\n<td>2<br>3</td>\n</tr>\n</tbody>\n</table></div><p>c</p>": "a | b\n1 | 2 3\n\nc",
    "<p>$a &lt; b$ and $$\\sum_{i} x_i^2 \\\\ y$$ <span class=\"math-container\">$z$</span></p>": (
        "$a < b$ and $$\\sum_{i} x_i^2 \\\\ y$$ $z$"
    ),
    "<p>&eacute;&#233;&#xE9;&nbsp;&hellip; &amp;lt;b&amp;gt; AT&T &unknown;</p>": "ééé … &lt;b&gt; AT&T &unknown;",
    "<p>a &copy&gt; b &notin&lt; &amp;gt c &ltd;</p>": "a ©> b ¬in< &gt c <d;",
    "<!-- language: lang-js -->\n<p>a<!-- <b>x</b> -->b</p><script>if (a<b) c()</script><kbd>Ctrl</kbd>": "ab\n\nCtrl",
    "a<!-- <p>x</p>\n<i --> b<pre>c</p>\n<p>d</pre><table><tr><td>e</p>\n</td></tr></table>": "a b\n\nc\nd\n\ne",
    "<P>A<BR/>B</P><UL><LI>C</UL>": "A\nB\n\n- C",
    "<p>a < b and <3</p>": "a < b and <3",
    "no mark-up &amp; no end": "no mark-up & no end",
    "": "",
    "<p></p>\n": "",
}  # fmt: skip


@pytest.mark.parametrize("html", CASES)
def test_html_reads_as_a_reader_sees_it(html: str) -> None:
    assert text(html) == CASES[html]


INLINE = ("em", "strong", "a", "code", "b", "i", "kbd", "s", "span", "sup", "sub", "del")
WORDS = st.text(st.sampled_from("ab 12-n()$<>&\"'\n\té\u00a0\u200b|#*."), max_size=12).map(
    lambda words: words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
)
ENTITIES = st.sampled_from(["&nbsp;", "&hellip;", "&#39;", "&amp;lt;", "<br>", "<img alt='graph'>", "<!-- a -->"])
LINE = st.recursive(
    WORDS | ENTITIES,
    lambda inner: st.builds(
        lambda name, parts: f"<{name}>{''.join(parts)}</{name}>", st.sampled_from(INLINE), st.lists(inner, max_size=3)
    ),
    max_leaves=6,
)
PRE = st.builds("<pre><code>{}</code></pre>".format, WORDS)


def blocks(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    many = st.lists(inner, max_size=3).map("\n".join)
    items = st.lists(st.builds("<li>{}</li>".format, LINE | many), max_size=3).map("\n".join)
    rows = st.lists(st.lists(st.builds("<td>{}</td>".format, LINE), min_size=1, max_size=3).map("".join), max_size=2)
    return st.one_of(
        st.builds("<p>{}</p>".format, LINE),
        st.builds("<h2>{}</h2>".format, LINE),
        st.builds("<div>{}</div>".format, many),
        st.builds("<blockquote>\n{}\n</blockquote>".format, many),
        st.builds("<ul>\n{}\n</ul>".format, items),
        st.builds('<ol start="{}">{}</ol>'.format, st.integers(0, 99), items),
        rows.map(lambda found: "<table>" + "".join(f"<tr>{cells}</tr>" for cells in found) + "</table>"),
        st.just("<hr>"),
        PRE,
    )


@given(st.lists(st.recursive(st.builds("<p>{}</p>".format, LINE), blocks, max_leaves=8), max_size=4).map("\n\n".join))
@settings(deadline=None, max_examples=150)
def test_html_in_one_pass_and_by_a_tree_are_the_same_text(html: str) -> None:
    assert markup.text(escaped(html)) == markup_tree.text(escaped(html))


TAGS = "p li ul ol blockquote pre code table tr td sup sub script"
SOUP = """<ol start=x>·<img alt="·">·<br>·<hr>·<!--·-->·<·>·&·&#0;·&#xD800;·\ud800·\0·a·2·\n·  ·"·<a href="x>y">"""
TOKENS = st.sampled_from([*(f"<{end}{name}>" for name in TAGS.split() for end in ("", "/")), *SOUP.split("·")])


@given(st.lists(TOKENS, max_size=60).map("".join))
@settings(deadline=None, max_examples=150)
def test_any_soup_of_tags_is_some_text(html: str) -> None:
    found = text(html)
    assert "\r" not in found
    assert found == "\n".join(line.rstrip() for line in found.split("\n"))
    assert not found.startswith("\n")


OPENINGS = """<ul><li>·<blockquote>·<sup>·<pre>·<a href="·<!--·<img alt="a"·<tr><td>·<ol><li>x<br>·<"""


@pytest.mark.parametrize("opening", OPENINGS.split("·"))
def test_markup_that_never_closes_takes_no_unbounded_time_or_space(opening: str) -> None:
    assert len(text(opening * 50_000)) < 50_000_000
    assert len(text(opening * 50_000 + "a > b " * 50_000)) < 50_000_000


def real_rows(samples: Path) -> Iterator[bytes]:
    for path in sorted((samples / "stackexchange").glob("*.7z")):
        end = End()
        with path.open("rb") as file:
            (member,) = members(file, path.stat().st_size)
            for found in cut(stream(file, member), end):
                assert isinstance(found, bytes)
                yield found
        assert end.problem == ""


def test_all_real_posts_read_the_same_by_both_ways(samples: Path, proved: Callable[[str], None]) -> None:
    count = size = 0
    for found in real_rows(samples):
        values = fields(found)
        assert values == parsed(found)
        assert markup.text(values["Body"]) == markup_tree.text(values["Body"])
        count, size = count + 1, size + len(found)
    assert count == 4604
    proved(f"{count} real posts, {size / 1e6:.1f} MB: text in one pass and by a tree are the same")


CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\x00") | st.sampled_from("<>&\"'\n\r\t;#x")
VALUES = st.text(CHARACTERS, max_size=20)
PIECES = st.sampled_from(
    [
        "&lt;",
        "&amp;",
        "&#xA;",
        "&#10;",
        "&apos;",
        "&c;",
        "&",
        ">",
        "'",
        '"',
        "\t",
        "\n",
        " ",
        "/",
        "\ufffe",
        "\x01",
        "é",
    ]
)


@given(st.lists(st.tuples(st.sampled_from(["Id", "Body", "Title", "Odd"]), st.lists(PIECES | VALUES, max_size=4))))
@settings(deadline=None, max_examples=150)
def test_rows_cut_at_quotes_are_what_a_parser_of_xml_reads(values: list[tuple[str, list[str]]]) -> None:
    made = "".join(f' {name}="{"".join(parts).replace("<", "&lt;")}"' for name, parts in values).encode() + b" "
    outcomes = []
    for reading in (fields, parsed):
        try:
            outcomes.append(reading(made))
        except RowError:
            outcomes.append({"broken": "yes"})
    assert outcomes[0] == outcomes[1]


@given(
    st.lists(st.dictionaries(st.sampled_from(["Id", "Body", "Title"]), VALUES.filter(str.isprintable)), max_size=5),
    st.integers(1, 40),
)
@settings(deadline=None, max_examples=100)
def test_rows_are_the_same_for_blocks_of_any_size(made: list[dict[str, str]], size: int) -> None:
    attributes = (" ".join(f'{name}="{escaped(value)}"' for name, value in values.items()) for values in made)
    texts = [f"<row {each} />\n" for each in attributes]
    data = (BEGIN + "".join(texts) + END).encode()
    end = End()
    blocks = (data[at : at + size] for at in range(0, len(data), size))
    found = [fields(row) for row in cut(blocks, end) if isinstance(row, bytes)]
    assert end.problem == ""
    assert [{name: unescaped(value) for name, value in row.items()} for row in found] == made
    elements = etree.iterparse(io.BytesIO(data), tag="row")
    assert [dict(element.attrib) for _, element in elements] == made


def test_a_row_in_a_comment_is_no_row_and_what_never_closes_is_cut_short() -> None:
    end = End()
    data = (BEGIN + "<!-- " + row(1) + "-->" + row(2) + "<![CDATA[" + row(3) + "]]>" + END).encode()
    (found,) = cut([data], end)
    assert isinstance(found, bytes)
    assert (fields(found)["Id"], end.problem) == ("2", "")
    assert list(cut([data.replace(b"-->", b"")], end)) == []
    assert end.problem == "the file ends without </posts>: it is cut short"
    assert [type(one) for one in cut([BEGIN.encode() + b"<rows/><row>"], end)] == [BadRow]


FILTERS = {
    "LZMA2": [{"id": py7zr.FILTER_LZMA2, "preset": 1}],
    "LZMA": [{"id": py7zr.FILTER_LZMA}],
    "x86 and LZMA2": [{"id": py7zr.FILTER_X86}, {"id": py7zr.FILTER_LZMA2, "preset": 1}],
    "BZip2": [{"id": py7zr.FILTER_BZIP2}],
    "Deflate": [{"id": py7zr.FILTER_DEFLATE}],
    "none": [{"id": py7zr.FILTER_COPY}],
}


@pytest.mark.parametrize("name", FILTERS)
def test_archives_of_every_method_are_what_was_packed(name: str) -> None:
    files = {"Badges.xml": b"<badges/>", "Posts.xml": bytes(range(256)) * 3000, "Tags.xml": b"", "Users.xml": b"u" * 9}
    made = io.BytesIO()
    with py7zr.SevenZipFile(made, "w", filters=FILTERS[name]) as archive:
        for path, data in files.items():
            archive.writestr(data, path)
    found = members(made, len(made.getvalue()))
    assert {member.name: b"".join(stream(made, member)) for member in found} == files
    assert max(len(block) for block in stream(made, found[1])) <= 1 << 18


def test_real_archives_are_what_another_reader_unpacks(samples: Path) -> None:
    for path in sorted((samples / "stackexchange").glob("*.7z")):
        with py7zr.SevenZipFile(path) as archive:
            factory = py7zr.io.BytesIOFactory(1 << 30)
            archive.extract(targets=["Posts.xml"], factory=factory)
        with path.open("rb") as file:
            (member,) = members(file, path.stat().st_size)
            assert b"".join(stream(file, member)) == factory.products["Posts.xml"].read()
