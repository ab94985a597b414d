"""What is fuzzed: every reader of a dump, on whole files, and the parsers inside them that meet text from outside.

A target takes bytes and must come to an end without an exception. Its seeds are small sound files, made here.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
import sys
import tarfile
import tempfile
import zipfile
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import made_classifier
import made_papers
import made_stack
import made_testsets
import made_web
from puna import testsets
from puna.data import mask
from puna.data.code import licence
from puna.data.document import Document, valid
from puna.data.sources import Aside, Dropped, SetAside, locate, read, split
from puna.data.wiki import text as wikitext
from puna.errors import InputError
from puna.recipe import Sources
from puna.testsets import BENCHMARKS
from test_books import STORY, third_era
from test_wikipedia import dump, page

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
WIKITEXT = "'''A''' [[b|c]] {{convert|3|km}} <ref>[http://a.b c]</ref>\n{|\n|-\n| x || y\n|}\n* d <nowiki>[[</nowiki>"
TEX = "\\newcommand{\\x}[2][a]{#1 #2}\n\\begin{document}\n\\section{A}\\x{b} % c\n\\input{d}\n\\end{document}"
POST = (
    "<p>A &amp; <code>b</code></p><pre><code>x = 1\n</code></pre><ul><li>c</li></ul><blockquote><p>d</p></blockquote>"
)


@dataclass(frozen=True)
class Target:
    one: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


def reader(source: str, name: str, data: bytes) -> None:
    """Read a dump of a source, which is called `name`, whole and cut small."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        file = Path(folder) / name
        file.write_bytes(data)
        recipe = Sources.model_validate({source: {"inputs": [str(file)], "share": 1}})[source]
        inputs = locate(source, recipe)
        for task_size in (1 << 30, 4096):
            for task in split(source, inputs, recipe, task_size):
                for record in read(task, inputs, recipe):
                    assert isinstance(record, Document | Dropped | SetAside | Aside), record


def text(parse: Callable[[str], object], refuses: tuple[type[Exception], ...], data: bytes) -> None:
    """Parse what UTF-8 can be made of the bytes; `refuses` are the exceptions by which the parser says no."""
    try:
        parse(data.decode("utf-8", "surrogateescape" if data[:1] == b"\x01" else "replace"))
    except refuses:
        return


def _warc() -> list[bytes]:
    pages = [made_web.page(number) for number in range(3)]
    return [b"".join(pages), made_web.zipped(*pages)]


def _wet() -> bytes:
    return made_web.record(1, made_web.PROSE.encode() * 9, kind="conversion", **{"Content-Type": "text/plain"})


def _contents() -> bytes:
    """A row of BigQuery's table; without a table of licences none of it is kept."""
    row = {"id": "a", "size": 60, "content": "x = 1\n" * 10, "binary": False, "copies": 1}
    return json.dumps(row | {"sample_repo_name": "o/n", "sample_path": "a.py"}).encode() + b"\n"


def _tar(mode: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in (("p-1/PKG-INFO", b"Name: p\nVersion: 1\nLicense: MIT\n"), ("p-1/p/a.py", b"x = 1\n" * 40)):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("p-1/PKG-INFO", "Name: p\nVersion: 1\nLicense: MIT\n")
        archive.writestr("p-1/p/a.py", "x = 1\n" * 40)
    return file.getvalue()


def _posts() -> bytes:
    return made_stack.dump(made_stack.row(1), made_stack.row(2, 2, 1))


def _site() -> list[bytes]:
    return [made_stack.seven([("Posts.xml", _posts())])]


def _papers() -> list[bytes]:
    members = [
        ("2101/2101.00001.gz", made_papers.single(TEX)),
        ("2101/2101.00002.gz", made_papers.packed({"a.tex": TEX})),
    ]
    return [made_papers.dump(members)]


def _inside() -> Iterator[tuple[str, Target]]:
    from puna.data.latex.expand import EndlessError, expand
    from puna.data.stack import markup
    from puna.data.web.main_text import HostilePageError, Prose, main_text, parsed

    yield "wikitext", Target(partial(text, wikitext.clean, (wikitext.BrokenMarkupError,)), lambda: [WIKITEXT.encode()])
    yield "latex", Target(partial(text, expand, (EndlessError,)), lambda: [TEX.encode()])
    prose = Prose(80, 40, 200)
    page = partial(text, lambda said: main_text(parsed(valid(said)), "", prose), (HostilePageError,))
    yield "html", Target(page, lambda: [made_web.html().encode()])
    yield "post", Target(partial(text, markup.text, ()), lambda: [POST.encode()])
    yield (
        "licence",
        Target(partial(text, lambda said: licence.of_expression(said, ["MIT"]), ()), lambda: [b"MIT OR (A AND B)"]),
    )
    yield (
        "mask",
        Target(partial(text, lambda said: mask.masked(said, ["mail", "phone", "ip"]), ()), lambda: [b"a@b.cd 1.2.3.4"]),
    )


def testset(benchmark: str, data: bytes) -> None:
    """Read a benchmark's file, or be told in one line why not."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        path = made_testsets.write(Path(folder), benchmark)
        path.write_bytes(data)
        with suppress(InputError):
            for item in testsets.read(benchmark, path):
                assert isinstance(item, testsets.Item), item


def _testset(benchmark: str) -> list[bytes]:
    return [made_testsets.FILES[benchmark][1].encode()]


def classifier(data: bytes) -> None:
    """Read a classifier of languages, and ask it; or be told in one line why not."""
    from puna.data.quality.classifier import OtherModelError, parse
    from puna.data.quality.lid import Scorer

    with suppress(InputError, OtherModelError):
        for labels, scores in Scorer(parse(data, "a.ftz")).best([TEX, "日本 é __label__x </s>", "x" * 99]):
            assert len(labels) == len(scores)


def _classifier() -> list[bytes]:
    """Dense, and as lid.176.ftz is: quantised and pruned."""
    small = {"dimensions": 3, "buckets": 30}
    return [made_classifier.model(**small), made_classifier.model(**small, quantised=True, pruned=True)]


def message(data: bytes) -> None:
    """Read what a program of a model might answer to its tests, or be told that it is no message."""
    from puna.evaluate.sandbox.messages import Reader, Unreadable

    reader = Reader(data, int)
    with suppress(Unreadable):
        reader.value()
        reader.end()


def _message() -> list[bytes]:
    from puna.evaluate.sandbox.messages import Writer

    writer = Writer(id)
    inner: list[object] = [1, "a", {2.5: (None, b"c")}]
    writer.value(("gave", [inner, inner, range(3), {1j, True}, Counter("ab"), defaultdict(int), deque([int], 2)]))
    return [bytes(writer.data)]


def model_header(kind: str, data: bytes) -> None:
    """Read the header of a model's file, or its pieces, or be told in one line why not."""
    from puna.convert import gguf_file, safetensors_file
    from puna.tokenizer import pieces
    from puna.tokenizer.tokenizer_json import JsonTokenizer

    with suppress(InputError):
        if kind == "gguf":
            gguf_file.parse(data, len(data), "a file")
        elif kind == "safetensors":
            safetensors_file.header(io.BytesIO(data), len(data), "a file")
        elif kind == "tokenizer.json":
            assert JsonTokenizer(data, "a file", bos="<s>", eos="</s>").encode("a  b\n12") is not None
        else:
            pieces.parse(data)


def _gguf() -> list[bytes]:
    import torch

    import made_parts
    from puna.convert import gguf_file, gguf_tokenizer, quants

    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        path = Path(folder) / "a.gguf"
        tensor = {"a": (torch.ones(4, 32), quants.BY_NAME["Q8_0"])}
        gguf_file.write(path, gguf_tokenizer.written(made_parts.made()), tensor)
        return [path.read_bytes()]


def _safetensors() -> list[bytes]:
    head = b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'
    return [len(head).to_bytes(8, "little") + head + bytes(8)]


def _tokenizer_json() -> list[bytes]:
    from puna.tokenizer import pieces

    names = ("<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", "a", "\u2581a")
    kinds = (pieces.UNKNOWN, pieces.CONTROL, pieces.CONTROL, *[pieces.BYTE] * 256, *[pieces.NORMAL] * 3)
    return [pieces.to_json(pieces.Pieces(names, (0.0,) * len(names), kinds, prefix=prefix)) for prefix in (False, True)]


def _pieces() -> list[bytes]:
    import made_parts

    return [made_parts.tokenizer().model]


def weights(name: str, data: bytes) -> None:
    """Read a shard of Meta's layout, or an index of shards, in a folder of its own, or be told in one line why not."""
    from puna.convert import meta, safetensors_file

    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        file = Path(folder) / name
        (Path(folder) / "model.safetensors").write_bytes(_safetensors()[0])
        file.write_bytes(data)
        with suppress(InputError):
            if name.endswith(".pth"):
                meta._load(file)
            else:
                for each in safetensors_file.shards(Path(folder)):
                    assert each.parent == Path(folder)


def _pth() -> list[bytes]:
    import torch

    file = io.BytesIO()
    torch.save({"norm.weight": torch.ones(2), "rope.freqs": torch.ones(1, dtype=torch.bfloat16)}, file)
    return [file.getvalue()]


def chat_template(source: str) -> None:
    """Write a conversation by a model's template, in the process of its own that templates have."""
    import made_parts
    from puna.generate import chat

    tokenizer = made_parts.tokenizer()
    made = chat.template(source, "a file", tokenizer, {"bos": "<s>", "eos": "</s>"})
    assert all(0 <= number < tokenizer.vocabulary for number in made.ids([{"role": "user", "content": "a"}], tokenizer))


def _templates() -> list[bytes]:
    loop = (
        b"{{ bos_token }}{% for m in messages %}{% if loop.first %}{{ m.role | upper }}{% endif %}: {{ m['content'] }}"
    )
    return [
        loop + b"{{ eos_token }}{% endfor %}{% set x = namespace(a=1) %}{% if add_generation_prompt %}A:{% endif %}"
    ]


TARGETS: dict[str, Target] = {
    "warc": Target(partial(reader, "commoncrawl", "a.warc"), lambda: _warc()[:1]),
    "warc.gz": Target(partial(reader, "commoncrawl", "a.warc.gz"), lambda: _warc()[1:]),
    "wet": Target(partial(reader, "commoncrawl", "a.warc.wet"), lambda: [_wet()]),
    "c4": Target(
        partial(reader, "c4", "c4-train.00000.json.gz"),
        lambda: [gzip.compress(b'{"text": "A page.", "url": "http://a.b", "timestamp": "2019-01-01T00:00:00Z"}\n' * 3)],
    ),
    "wikipedia": Target(
        partial(reader, "wikipedia", "enwiki-a.xml"), lambda: [dump(page(1, "A", WIKITEXT), page(2, "B"))]
    ),
    "wikipedia.bz2": Target(
        partial(reader, "wikipedia", "enwiki-a.xml.bz2"), lambda: [bz2.compress(dump(page(1, "A")))]
    ),
    "books": Target(partial(reader, "books", "1.txt"), lambda: [third_era(STORY).encode()]),
    "arxiv": Target(partial(reader, "arxiv", "arXiv_src_2101_001.tar"), _papers),
    "stackexchange": Target(partial(reader, "stackexchange", "a.stackexchange.com.7z"), _site),
    "posts": Target(partial(reader, "stackexchange", "Posts.xml"), lambda: [_posts()]),
    "contents": Target(partial(reader, "github", "contents.json"), lambda: [_contents()]),
    "tar": Target(partial(reader, "github", "p-1.tar"), lambda: [_tar("w")]),
    "tar.gz": Target(partial(reader, "github", "p-1.tar.gz"), lambda: [_tar("w:gz")]),
    "zip": Target(partial(reader, "github", "p-1.zip"), lambda: [_zip()]),
    "gguf": Target(partial(model_header, "gguf"), _gguf),
    "safetensors": Target(partial(model_header, "safetensors"), _safetensors),
    "tokenizer.json": Target(partial(model_header, "tokenizer.json"), _tokenizer_json),
    "tokenizer.model": Target(partial(model_header, "tokenizer.model"), _pieces),
    "pth": Target(partial(weights, "consolidated.00.pth"), _pth),
    "index": Target(
        partial(weights, "model.safetensors.index.json"), lambda: [b'{"weight_map": {"a": "model.safetensors"}}']
    ),
    "chat template": Target(partial(text, chat_template, (InputError,)), _templates),
    "classifier": Target(classifier, _classifier),
    "message": Target(message, _message),
    **{f"testsets.{name}": Target(partial(testset, name), partial(_testset, name)) for name in BENCHMARKS},
    **dict(_inside()),
}
