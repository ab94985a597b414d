"""Python, Puna, and the packages: what is there, against what the package's own metadata ask for."""

from __future__ import annotations

import json
import platform
import re
import shlex
import shutil
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

import puna
from puna.doctor.ask import Answer
from puna.doctor.finding import PACKAGE, Finding

if TYPE_CHECKING:
    from packaging.requirements import Requirement

OLDEST = (3, 11)  # as requires-python of pyproject.toml
DEEPER = {"lxml": "lxml.etree"}  # where the package itself imports nothing that could be broken
FOR = {  # what an extra is for
    "sample": "the text that the recipe laptop reads",
    "test": "make test",
    "check": "make check",
    "s3": "run folders on object stores, such as s3://",
    "convert": "import and export: tokenizer.json, and GGUF's K-quants",
    "ray": "data steps on a Ray cluster: --engine ray",
    "hub": "puna export --push: to a hub with Hugging Face's protocol",
    "serve": "puna serve: a model over HTTP, with a page",
}


def interpreter() -> list[Finding]:
    """Which Python this is."""
    what = f"{platform.python_version()}, {sys.executable or 'embedded in another program'}"
    oldest = ".".join(map(str, OLDEST))
    if sys.version_info < OLDEST:
        mend = f"make .venv anew with Python {oldest} or newer: rm -r .venv, then make run PYTHON=python3.12"
        return [Finding("Python", "error", f"{what}: older than {oldest}", mend)]
    if sys.maxsize < 1 << 32:
        return [Finding("Python", "error", f"{what}: a 32-bit build", "install a 64-bit Python; torch has no other")]
    if platform.python_implementation() != "CPython":
        what = f"{what}: {platform.python_implementation()}"
        return [Finding("Python", "error", what, "use CPython; torch is built for no other")]
    return [Finding("Python", "ok", what)]


def itself() -> list[Finding]:
    """Which Puna this is and where it lies."""
    what = f"{puna.__version__} in {Path(puna.__file__).parent}"
    try:
        recorded = metadata.version("puna")
    except metadata.PackageNotFoundError:
        what = f"{what}, run without being installed: what it needs and its extras are not known"
        return [Finding("Puna", "warning", what, _pip("--editable ."))]
    if recorded != puna.__version__:
        what = f"{what}, but installed as {recorded}: what is said below of packages is that version's"
        return [Finding("Puna", "warning", what, _pip(_this_project()))]
    return [Finding("Puna", "ok", what)]


def modules() -> list[str]:
    """The modules of the required packages that are installed, for package_loads.py; torch is asked apart."""
    return [module for one in _required() if one.name != "torch" and (module := _module(one.name))]


def packages(loaded: Answer) -> list[Finding]:
    """Each required package: its version against the range asked for, and whether it can be imported.

    loaded: what package_loads.py printed for `modules()`.
    """
    try:
        required = _required()
    except metadata.PackageNotFoundError:
        return []  # said by `itself`
    except ImportError as error:
        what = f"versions of packages cannot be compared: {error}"
        return [Finding("packages", "warning", what, _pip("packaging"))]
    results = _results(loaded.output)
    imported = {one.name: _module(one.name) for one in required if one.name != "torch"}
    unanswered = [module for module in imported.values() if module and module not in results]
    if unanswered and loaded.problem.startswith(("was ended", "did not answer")):
        results[unanswered[0]] = f"the process that imported it {loaded.problem}"
    return [_package(one, results.get(imported.get(one.name, ""), "")) for one in required]


def extras() -> list[Finding]:
    """Each optional part: whether all of its packages are there."""
    try:
        from packaging.requirements import Requirement

        names = metadata.metadata("puna").get_all("Provides-Extra") or []
    except ImportError:  # said by `itself` and `packages`
        return []
    found = []
    for extra in names:
        parts = [
            requirement
            for requirement in map(Requirement, metadata.requires("puna") or [])
            if requirement.marker is not None
            and requirement.marker.evaluate({"extra": extra})
            and not requirement.marker.evaluate({"extra": ""})
        ]
        missing = [wrong for requirement in parts if (wrong := _out_of_range(requirement))]
        purpose = FOR.get(extra, "an optional part")
        if missing:
            wanted = extra == "sample"  # without it the first run that a newcomer tries cannot begin
            mend = f"{'' if wanted else 'when you need it: '}{_pip(_this_project(extra))}"
            what = f"{purpose}: {', '.join(missing)}"
            found.append(Finding(f"extra {extra}", "warning" if wanted else "note", what, mend))
        else:
            found.append(Finding(f"extra {extra}", "ok", purpose))
    return found


def lmplz() -> list[Finding]:
    """KenLM's trainer, the oracle of our own in the tests."""
    path = shutil.which("lmplz")
    if path:
        return [Finding("lmplz", "ok", f"{path}: the tests compare the n-gram model with its")]
    mend = "when you want that test: build KenLM and put its lmplz on PATH"
    return [Finding("lmplz", "note", "not on PATH: no run needs it; the test that compares with it skips", mend)]


def _results(output: str) -> dict[str, str]:
    """What package_loads.py printed, without what the packages themselves did: module and what went wrong."""
    found = {}
    for line in output.splitlines():
        with suppress(ValueError, TypeError):
            name, wrong = json.loads(line)
            found[str(name)] = str(wrong)
    return found


def _required() -> list[Requirement]:
    from packaging.requirements import Requirement

    listed = map(Requirement, metadata.requires("puna") or [])
    return [one for one in listed if one.marker is None or one.marker.evaluate({"extra": ""})]


def _package(requirement: Requirement, problem: str) -> Finding:
    """problem: why it cannot be imported; "" when it can, or was not asked."""
    name = PACKAGE + requirement.name
    mend = _pip(shlex.quote(str(requirement)))
    if wrong := _out_of_range(requirement):
        return Finding(name, "error", wrong, mend)
    if problem:
        return Finding(name, "error", f"cannot be imported ({problem})", f"{mend} --force-reinstall")
    what = f"{metadata.version(requirement.name)} (asked for: {requirement.specifier or 'any'})"
    return Finding(name, "ok", what)


def _out_of_range(requirement: Requirement) -> str:
    """What is wrong with the installed version, naming the package; "" when it is in the range."""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is not installed"
    if not version:
        return f"{requirement.name} has no version: half of it was removed"
    try:
        if requirement.specifier.contains(version, prereleases=True):
            return ""
    except ValueError:
        return f"{requirement.name} has a version that cannot be read ({version})"
    return f"{requirement.name} {version} is not in the range {requirement.specifier}"


def _module(package: str) -> str:
    """What a package is imported by: the module of its name, else its first; "" when it is not installed."""
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        return ""
    tops = sorted({match[1] for file in files if (match := re.match(r"([A-Za-z]\w*)(/__init__)?\.py$", str(file)))})
    own = re.sub(r"[-.]+", "_", package).lower()
    top = own if own in tops or not tops else tops[0]
    return DEEPER.get(top, top)


def _pip(what: str) -> str:
    return f"{shlex.quote(_shown(sys.executable))} -m pip install {what}"


def _this_project(extra: str = "") -> str:
    """What pip is given to install Puna again as it was installed, with an extra."""
    suffix = f"[{extra}]" if extra else ""
    text = metadata.distribution("puna").read_text("direct_url.json")
    place = json.loads(text) if text else {}
    folder = unquote(urlparse(place.get("url", "")).path)
    if place.get("dir_info", {}).get("editable") and folder:
        return "--editable " + shlex.quote(_shown(folder) + suffix)
    return f"'puna{suffix}'"


def _shown(path: str) -> str:
    """A path as one types it here: relative when it lies below this folder."""
    try:
        here = Path.cwd()
        return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path
    except OSError:  # the folder in which we are was removed
        return path
