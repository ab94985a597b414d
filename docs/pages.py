"""What the site needs beyond mkdocs itself: hooks that mkdocs.yml names, so that one text serves repository and site.

The documents are written to be read where they lie, in any viewer of Markdown. What such viewers do and mkdocs does not
is done here. Links to files outside docs (README, source) lead to pages made of those files; a list may follow a line
of text; headings have the anchors that links use; a picture for dark pages follows the page's own switch. The notebook
becomes a page, with what its cells give where EXECUTE is set (`make docs`).

The site is for reading without a network, so at the end every page is looked through, and the build fails when one of
them would load anything from another host.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import tempfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).parents[1]
PROJECT = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")  # pages of the site, though not in docs
NOTEBOOK = "tour.ipynb"
WIDE = ("paper.md",)  # pages of wide tables: their table of contents gives way
# How pages stand in the search by how their names begin: what one can type first, what was tried last, source not.
SEARCHED = (
    ("commands/", {"boost": 2}),
    ("project/", {"boost": 0.5}),
    ("log.md", {"boost": 0.2}),
    ("source/", {"exclude": True}),
)
CELL = re.compile(r"<td.*?</td>", re.DOTALL)
CODE = re.compile(r"(?<=<code>)[^<]+(?=</code>)")

FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"""(?<=\]\()[^)\s]+(?=\))|(?<=src=")[^"]+|(?<=srcset=")[^"]+""")
PICTURE = re.compile(r'<picture>\s*<source[^>]*srcset="([^"]*)">\s*<img src="([^"]*)"([^>]*)>\s*</picture>')
ITEM = re.compile(r"^(?:[-*]|\d+\.) ")
LANGUAGES = {".py": "python", ".toml": "toml", ".cff": "yaml", ".json": "json", ".css": "css", ".cpp": "cpp"}

# Attributes whose address a browser fetches without being asked.
LOADED = {"src", "srcset", "poster", "data", "background", "xlink:href"}
LINKED = {"stylesheet", "icon", "preload", "prefetch", "preconnect", "dns-prefetch", "modulepreload", "manifest"}
OUTSIDE = re.compile(r"^\s*(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
IN_STYLE = re.compile(r"""(?:url\(|@import)\s*["']?\s*((?:[a-z]+:)?//[^"')\s]+)""", re.IGNORECASE)


def on_config(config: Any) -> Any:
    config.mdx_configs.setdefault("toc", {})["slugify"] = anchor
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made of files outside docs, and that of the notebook."""
    from mkdocs.structure.files import File, InclusionLevel

    wanted = {link for page in files.documentation_pages() for link in _outside(_read(page), f"docs/{page.src_uri}")}
    for name in PROJECT:
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, f"project/{name}", content=text))
        wanted |= set(_outside(text, name))
    for path in sorted(name for name in wanted if (ROOT / name).is_file()):
        files.append(
            File.generated(config, f"source/{path}.md", content=source_page(path), inclusion=InclusionLevel.NOT_IN_NAV)
        )
    files.append(File.generated(config, f"{Path(NOTEBOOK).stem}.md", content=notebook_page(_notebook())))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    uri = page.file.src_uri
    if uri in WIDE:
        page.meta["hide"] = ["toc"]
    page.meta["search"] = next((how for begins, how in SEARCHED if uri.startswith(begins)), {})
    where = uri.removeprefix("project/") if uri.startswith("project/") else f"docs/{uri}"
    return adapted(markdown, where, uri)


def on_page_content(html: str, **_: Any) -> str:
    """Paths in the cells of tables may be broken where their parts end, and only there."""
    return CELL.sub(lambda cell: CODE.sub(lambda code: re.sub(r"[/_,](?=\w)", r"\g<0><wbr>", code[0]), cell[0]), html)


def on_post_build(config: Any) -> None:
    """End the build when a page, or a style sheet, loads something from another host."""
    from mkdocs.exceptions import BuildError

    found = [
        f"{path.relative_to(config.site_dir)}: {address}"
        for path in sorted(Path(config.site_dir).rglob("*"))
        if path.suffix in (".html", ".css")
        for address in loaded_from_outside(path.read_text(encoding="utf-8"), style=path.suffix == ".css")
    ]
    if found:
        raise BuildError("the site would load from other hosts:\n" + "\n".join(found))


def anchor(heading: str, separator: str = "-") -> str:
    """A heading's anchor as viewers of repositories make it, and links within the documents expect it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", separator)


def adapted(markdown: str, where: str, uri: str) -> str:
    """A document as mkdocs needs it, but for fenced code: `where` it lies in the repository, `uri` on the site."""
    parts, end = [], 0
    for block in FENCED.finditer(markdown):
        parts += [_adapted(markdown[end : block.start()], where, uri), block[0]]
        end = block.end()
    return "".join([*parts, _adapted(markdown[end:], where, uri)])


def _adapted(text: str, where: str, uri: str) -> str:
    text = LINK.sub(lambda link: relinked(link[0], where, uri), text)
    text = PICTURE.sub(r'<img src="\2#only-light"\3><img src="\1#only-dark"\3>', text)
    lines: list[str] = []
    for line in text.split("\n"):
        # A list may follow a line of text; behind an item, and behind its further lines, it goes on.
        if ITEM.match(line) and lines and lines[-1].strip() and not re.match(r"[-*] |\d+\. |[#|\s]|<!--", lines[-1]):
            lines.append("")
        lines.append(line)
    return "\n".join(lines)


def relinked(link: str, where: str, uri: str) -> str:
    """A link of the document at `where`, for the page at `uri`."""
    if re.match(r"[a-z][a-z0-9+.-]*:|#", link):
        return link
    path, mark, place = link.partition("#")
    target = site_path(posixpath.normpath(PurePosixPath(where).parent / path))
    return posixpath.relpath(target, PurePosixPath(uri).parent) + mark + place


def site_path(path: str) -> str:
    """Where a file of the repository is found on the site."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/").replace(NOTEBOOK, f"{Path(NOTEBOOK).stem}.md")
    return f"project/{path}" if path in PROJECT else f"source/{path}.md"


def _outside(markdown: str, where: str) -> Iterator[str]:
    """The files outside docs that a document links to, but for the project's own pages."""
    for link in LINK.findall(FENCED.sub("", markdown)):
        path = posixpath.normpath(PurePosixPath(where).parent / link.partition("#")[0])
        if not re.match(r"[a-z][a-z0-9+.-]*:|#", link) and not path.startswith("docs/") and path not in PROJECT:
            yield path


def _read(page: Any) -> str:
    return Path(page.abs_src_path).read_text(encoding="utf-8") if page.abs_src_path else page.content_string


def source_page(path: str) -> str:
    """A file of the repository as a page."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return f"# {path}\n\n````{LANGUAGES.get(Path(path).suffix, 'text')}\n{text}````\n"


def notebook_page(notebook: dict[str, Any]) -> str:
    """A notebook, as nbformat has it, as Markdown: its text, its code, and what the code gave where it was executed."""
    parts = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
            continue
        parts.append(f"```python\n{text}\n```")
        parts += [_shown(output) for output in cell["outputs"]]
    return "\n\n".join(parts) + f'\n\nThe notebook itself: <a href="{NOTEBOOK}" download>{NOTEBOOK}</a>.\n'


def _shown(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if picture := data.get("image/png"):
        return f'<img alt="what the code above draws" src="data:image/png;base64,{"".join(picture).strip()}">'
    if markdown := data.get("text/markdown"):
        return "".join(markdown)
    text = "".join(output.get("text", data.get("text/plain", "")))
    return f"```{{.text .given}}\n{text.strip()}\n```" if text.strip() else ""


def _notebook() -> dict[str, Any]:
    """The notebook as it lies there, or executed."""
    if not os.environ.get("EXECUTE"):
        return dict(json.loads((ROOT / "docs" / NOTEBOOK).read_text(encoding="utf-8")))
    with tempfile.TemporaryDirectory() as folder:
        return executed(folder)


def executed(folder: str | Path) -> dict[str, Any]:
    """The notebook with what its cells give, executed in `folder`; an error in a cell is an error here."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(ROOT / "docs" / NOTEBOOK, as_version=4)
    NotebookClient(notebook, resources={"metadata": {"path": str(folder)}}).execute()
    return dict(notebook)


def loaded_from_outside(text: str, *, style: bool = False) -> list[str]:
    """The addresses on other hosts that a browser would fetch to show this page, or style sheet."""
    if style:
        return IN_STYLE.findall(text)
    looked = _Loads()
    looked.feed(text)
    return looked.found


class _Loads(HTMLParser):
    """Collects what a page loads. Links that a reader follows (`<a href>`) are none of it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.within = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        loads = [value for name, value in given.items() if name in LOADED]
        if tag == "link" and LINKED & set(given.get("rel", "").lower().split()):
            loads.append(given.get("href", ""))
        loads = [address for each in loads for address in each.split(",")]
        self.found += [address.strip() for address in loads if OUTSIDE.match(address)]
        self.found += IN_STYLE.findall(given.get("style", ""))
        if "mermaid" in given.get("class", "").split():
            self.found.append("a drawing by mermaid, whose script the theme fetches")
        self.within = tag

    def handle_data(self, data: str) -> None:
        if self.within == "style":
            self.found += IN_STYLE.findall(data)
