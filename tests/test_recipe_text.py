"""The recipe's written forms: TOML that loads to the same recipe, JSON, the table of keys in docs/recipe.md."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna import recipe

DOC = Path(__file__).parent.parent / "docs" / "recipe.md"
TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=3)
REALS = st.floats(min_value=1e-300, max_value=1e300)
SHARES = st.integers(1, 10**9).map(lambda n: Decimal(n) / 10**9)
POSITIVE = st.integers(1, 2**63 - 1)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """The tables of a valid recipe."""
    heads = draw(st.integers(1, 8))
    github = {
        "share": draw(SHARES),
        "inputs": draw(TEXTS),
        "max_epochs": draw(st.none() | REALS),
        "declared": draw(
            st.dictionaries(
                st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
                st.text(max_size=8).filter(str.isprintable),
                max_size=3,
            )
        ),
        "drop_paths": draw(st.lists(st.sampled_from([r"\.py$", "a'b", r"(^|/)x\\/", "", "\x7f", '"']), max_size=3)),
    }
    wikipedia = {"share": draw(SHARES), "languages": draw(TEXTS), "keep_tables": draw(st.booleans())}
    length = {draw(st.sampled_from(["tokens", "steps"])): draw(POSITIVE)}
    return {
        "name": draw(st.text("aZä0_", min_size=1, max_size=8).map(lambda word: f"{word} -.{word}")),
        "seed": draw(st.integers(0, 2**63 - 1)),
        "sources": {"github": github, "wikipedia": wikipedia} if draw(st.booleans()) else {"wikipedia": wikipedia},
        "data": {"task_size": draw(POSITIVE)},
        "model": {"dim": heads * 2 * draw(st.integers(1, 99)), "heads": heads, "layers": draw(POSITIVE)},
        "train": {"learning_rate": draw(REALS), "weight_decay": draw(REALS), "batch": draw(POSITIVE), **length},
        "samples": {"prompts": draw(TEXTS)},
    }


@given(documents())
@settings(deadline=None, max_examples=60)
def test_the_resolved_toml_loads_to_the_same_recipe(
    tmp_path_factory: pytest.TempPathFactory, tables: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "resolved.toml"
    made = recipe.Recipe.model_validate(tables)
    path.write_bytes(recipe.as_toml(made, origins=True).encode())
    assert recipe.load(path) == made
    path.write_bytes(recipe.as_toml(made).encode())
    assert recipe.load(path) == made
    assert recipe.as_toml(recipe.load(path)) == recipe.as_toml(made)


@pytest.mark.parametrize("name", recipe.names())
def test_recipes_in_the_package_are_valid_named_as_their_file_and_round_trip(name: str, tmp_path: Path) -> None:
    loaded = recipe.load(name)
    (tmp_path / "recipe.toml").write_text(recipe.as_toml(loaded))
    assert loaded.name == name
    assert recipe.load(tmp_path / "recipe.toml") == loaded
    assert recipe.load(tmp_path / "recipe.toml") != recipe.load(name, ["seed=2"])


def test_json_holds_every_value_as_a_plain_number_and_its_origin() -> None:
    document = json.loads(recipe.as_json(recipe.load("llama-65b", ["train.batch=2M tokens"])))
    assert document["train"]["batch"] == 2_000_000
    assert document["train"]["tokens"] == 1_400_000_000_000
    assert document["sources"]["books"]["share"] == 0.045
    assert document["origins"]["train.batch"] == "command line"
    assert document["origins"]["model.dim"] == "recipes/llama-65b.toml"


def test_a_recipe_travels_to_a_worker_with_its_origins() -> None:
    loaded = recipe.load("laptop", ["seed=4"])
    arrived = pickle.loads(pickle.dumps(loaded))
    assert arrived == loaded
    assert recipe.explain(arrived) == recipe.explain(loaded)


def test_the_laptop_recipes_differ_in_length_and_compiling_only() -> None:
    laptop, plain = recipe.load("laptop"), recipe.load("laptop-plain")
    assert recipe.steps(plain) < recipe.steps(laptop)
    changed = {"name": "laptop", "train": laptop.train}
    assert plain.model_copy(update=changed) == laptop
    assert plain.train.compile == "off"


@pytest.mark.promise("numbers")
def test_the_documents_table_of_keys_is_current() -> None:
    shown = DOC.read_text(encoding="utf-8").partition("<!-- keys -->\n")[2].partition("<!-- end of keys -->")[0]
    assert shown == recipe.key_table(), "docs/recipe.md: replace its table by the text of puna.recipe.key_table()"


def test_every_key_says_what_it_does() -> None:
    rows = recipe.key_table().splitlines()[2:]
    assert len(rows) > 50
    assert not [row for row in rows if row.endswith("|  |")]


@pytest.mark.promise("house")
def test_importing_the_recipe_is_light() -> None:
    code = (
        "import sys, puna.recipe; print(sorted({'torch', 'ray', 'pyarrow', 'matplotlib', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
