"""The page itself: the sections in the order of the story, in one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import resources

from puna import storage
from puna.errors import InputError
from puna.report import (
    cloze,
    corpus,
    cost,
    energy,
    facts,
    figure2,
    finetuned,
    origin,
    quality,
    results,
    safety,
    tables,
    training,
)
from puna.report.facts import Facts
from puna.report.markup import Html, element, join
from puna.storage import Place

_SECTIONS: tuple[tuple[str, str, Callable[[Facts], Html]], ...] = (
    ("text", "What went in", corpus.went_in),
    ("heldout", "Repeats and held-out text", corpus.split),
    ("quality", "Quality", quality.judged),
    ("tokenizer", "Tokenizer", corpus.tokenizer),
    ("mixture", "Mixture", corpus.mixture),
    ("training", "Loss and learning rate", training.curves),
    ("throughput", "Throughput", training.throughput),
    ("benchmarks", "Benchmarks along the training", figure2.section),
    ("samples", "Samples", results.samples),
    ("finetuned", "Samples before and after finetuning", finetuned.gallery),
    ("bits", "Bits per byte", results.bits),
    ("cloze", "Cloze items", cloze.asked),
    ("tables", "Benchmarks", tables.asked),
    ("safety", "Bias, toxicity and truthfulness", safety.section),
    ("cost", "What the data cost", cost.stages),
    ("time", "Where the time went", training.times),
    ("energy", "Energy and carbon", energy.spent),
    ("recipe", "Recipe", origin.recipe),
    ("machine", "Versions and machine", origin.machine),
    ("digests", "Digests", origin.digests),
)


def write(folder: Place) -> Place:
    """Write `folder`/report.html from the files of the run there and return its path.

    The page tells what is there; a run folder that is almost empty gives a page that says so. InputError when there is
    no such folder.
    """
    if not storage.is_folder(folder):
        raise InputError("no such run folder", where=str(folder), mend="give the folder of a run")
    target = folder / "report.html"
    storage.write(target, page(facts.read(folder)).encode())
    return target


def page(of: Facts) -> str:
    """The whole document."""
    sections = [(name, title, tell(of)) for name, title, tell in _SECTIONS]
    return document(f"{of.name}: Puna run", join(results.headline(of), origin.overtaken(of)), sections)


def document(title: str, header: Html, sections: Sequence[tuple[str, str, Html]]) -> str:
    """A page of its own: style, contents, header and the sections (id, title, what they tell)."""
    style = resources.files("puna.report").joinpath("style.css").read_text("utf-8")
    links = [element("li", element("a", heading, href=f"#{name}")) for name, heading, _ in sections]
    parts = [element("section", element("h2", heading), told, id=name) for name, heading, told in sections]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Html(style)),
    )
    body = element(
        "body",
        element("nav", element("ol", *links), aria_label="Contents"),
        element("main", join(element("header", header), *parts, between="\n")),
    )
    return join(Html("<!DOCTYPE html>\n"), Html(f'<html lang="en">\n{head}\n{body}\n</html>\n'))
