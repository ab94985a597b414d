"""What tests of code share: licence texts, archives, and what is read of inputs and becomes of it."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

from puna.data.document import Document
from puna.data.sources import Aside, Dropped, Record, SetAside, locate, read, split
from puna.recipe import GitHub

FAMILIES = ["MIT", "BSD", "Apache"]
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


def everything(*inputs: str | Path, task_size: int = 1 << 30, **values: object) -> list[Record | Aside]:
    recipe = GitHub.model_validate({"inputs": list(map(str, inputs)), "share": 1, **values})
    found = locate("github", recipe)
    return [record for task in split("github", found, recipe, task_size) for record in read(task, found, recipe)]


def records(*inputs: str | Path, task_size: int = 1 << 30, **values: object) -> list[Record]:
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
