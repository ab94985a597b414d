"""The recipe's promises: the paper's numbers, units, layers that stay visible, one-line errors with the mend."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna import recipe
from puna.errors import InputError
from puna.recipe_values import count, written

# Touvron et al. 2023, arXiv 2302.13971
TABLE_1 = {
    "commoncrawl": "0.67",
    "c4": "0.15",
    "github": "0.045",
    "wikipedia": "0.045",
    "books": "0.045",
    "arxiv": "0.025",
    "stackexchange": "0.02",
}
TABLE_2 = {  # name: parameters in tenths of a billion, dim, heads, layers, learning rate, tokens
    "llama-7b": (67, 4096, 32, 32, 3.0e-4, 1_000_000_000_000),
    "llama-13b": (130, 5120, 40, 40, 3.0e-4, 1_000_000_000_000),
    "llama-33b": (325, 6656, 52, 60, 1.5e-4, 1_400_000_000_000),
    "llama-65b": (652, 8192, 64, 80, 1.5e-4, 1_400_000_000_000),
}
LANGUAGES = "bg ca cs da de en es fr hr hu it nl pl pt ro ru sl sr sv uk".split()  # noqa: SIM905

SMALL = """
name = "small"
[sources.wikipedia]
share = 1
[model]
dim = 64
heads = 4
layers = 2
[train]
steps = 10
learning_rate = 1e-3
"""


def refused(name: str | Path, *overrides: str) -> str:
    """The one line that refuses this recipe."""
    with pytest.raises(InputError) as caught:
        recipe.load(name, overrides)
    line = str(caught.value)
    assert line.splitlines() == [line]
    return line


def loaded_or_refused_in_one_line(name: str | Path, overrides: Sequence[str] = ()) -> bool:
    try:
        recipe.load(name, overrides)
    except InputError as error:
        return len(str(error).splitlines()) == 1
    return True


def origin(loaded: recipe.Recipe, key: str) -> str:
    return {row.key: row.origin for row in recipe.explain(loaded)}[key]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


# The paper


@pytest.mark.parametrize("name", TABLE_2)
def test_the_papers_recipes_hold_tables_1_and_2(name: str) -> None:
    size, dim, heads, layers, learning_rate, tokens = TABLE_2[name]
    paper = recipe.load(name)
    assert {source: str(table.share) for source, table in paper.sources.items()} == TABLE_1
    assert sum(table.share for _, table in paper.sources.items()) == 1
    assert all(table.inputs == [] for _, table in paper.sources.items())
    assert (paper.model.dim, paper.model.heads, paper.model.layers) == (dim, heads, layers)
    assert (paper.train.learning_rate, paper.train.tokens, paper.train.batch) == (learning_rate, tokens, 4_000_000)
    assert paper.model.parameters(32_000) // 10**8 == size  # the paper cuts to one decimal: 65.286 is its 65.2
    assert paper.tokenizer.pieces == 32_000


@pytest.mark.parametrize("name", TABLE_2)
def test_the_papers_recipes_hold_sections_2_2_and_2_3(name: str) -> None:
    paper = recipe.load(name)
    train = paper.train
    assert (train.context, train.warmup, train.weight_decay, train.clip) == (2048, 2000, 0.1, 1.0)
    assert (train.beta1, train.beta2, train.minimum_rate) == (0.9, 0.95, 0.1)
    assert paper.sources.wikipedia is not None
    assert paper.sources.wikipedia.languages == LANGUAGES
    assert paper.model.hidden == {4096: 11008, 5120: 13824, 6656: 17920, 8192: 22016}[paper.model.dim]


def test_parameters_count_every_tensor_of_a_grouped_and_tied_model() -> None:
    model = recipe.Model(dim=64, heads=4, layers=2, kv_heads=2, multiple_of=32, tied=True)
    assert model.hidden == 192  # 170.67 rounded up to a multiple of 32
    layer = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 192 + 2 * 64
    assert model.parameters(1000) == 1000 * 64 + 2 * layer + 64


@pytest.mark.parametrize(
    ("name", "weights", "dim", "layers", "heads", "context"),
    [("tiny-15m", 15_191_712, 288, 6, 6, 256), ("small-110m", 109_529_856, 768, 12, 12, 1024)],
)
def test_recipes_for_one_machine_have_the_size_of_their_name_and_the_papers_sources(
    name: str, weights: int, dim: int, layers: int, heads: int, context: int
) -> None:
    loaded = recipe.load(name)
    model = loaded.model
    assert (model.dim, model.layers, model.heads, loaded.train.context) == (dim, layers, heads, context)
    pieces = loaded.tokenizer.pieces
    assert pieces == 32_000
    assert model.parameters(pieces) - pieces * model.dim == weights  # the input embedding apart
    assert {source: str(table.share) for source, table in loaded.sources.items()} == TABLE_1
    assert all(table.inputs for _, table in loaded.sources.items())
    assert loaded.train.tokens is not None
    assert recipe.steps(loaded) > 10 * loaded.train.warmup
    assert recipe.batch_windows(loaded) % loaded.train.micro_batch == 0


# Derived values


def test_a_batch_is_rounded_down_to_whole_windows_and_is_at_least_one() -> None:
    assert recipe.batch_windows(recipe.load("llama-7b")) == 1953
    assert recipe.batch_tokens(recipe.load("llama-7b")) == 1953 * 2048
    assert recipe.batch_windows(recipe.load("laptop", ["train.context=256", "train.batch=1023"])) == 3
    assert recipe.batch_windows(recipe.load("laptop", ["train.context=256", "train.batch=1"])) == 1


def test_steps_are_the_tokens_over_the_batch_rounded_up() -> None:
    length = ["train.context=10", "train.batch=25 tokens"]
    assert recipe.steps(recipe.load("laptop", [*length, "train.tokens=100"])) == 5
    assert recipe.steps(recipe.load("laptop", [*length, "train.tokens=101"])) == 6
    assert recipe.steps(recipe.load("laptop", [*length, "train.steps=7"])) == 7
    assert recipe.steps(recipe.load("llama-7b")) == 250_017


# Units


@pytest.mark.parametrize(
    ("text", "unit", "number"),
    [
        ("4M tokens", "tokens", 4_000_000),
        ("1.4T", "tokens", 1_400_000_000_000),
        ("16k tokens", "tokens", 16_000),
        ("2000 steps", "steps", 2000),
        ("1 step", "steps", 1),
        ("10 MB", "bytes", 10_000_000),
        ("150KB", "bytes", 150_000),
        ("0 bytes", "bytes", 0),
        (Decimal("6e6"), "tokens", 6_000_000),
        (7, "steps", 7),
    ],
)
def test_counts_are_decimal_and_name_their_unit(text: object, unit: str, number: int) -> None:
    assert count(text, unit) == number


@pytest.mark.promise("errors")
@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("4 MB", "tokens"),
        ("4M steps", "tokens"),
        ("10M", "bytes"),
        ("10 MiB", "bytes"),
        ("10 B", "bytes"),
        ("1.5 tokens", "tokens"),
        ("-1", "steps"),
        (-1, "steps"),
        ("", "steps"),
        ("٣", "steps"),
        (True, "steps"),
        (Decimal("NaN"), "tokens"),
        (Decimal("1e999999999"), "tokens"),
        ([], "tokens"),
    ],
)
def test_counts_of_something_else_are_refused(text: object, unit: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  the words are added where the key is known
        count(text, unit)


@given(
    st.integers(0, 2**63 - 1) | st.integers(0, 9999).map(lambda n: n * 10**14),
    st.sampled_from(["tokens", "steps", "bytes"]),
)
@settings(deadline=None, max_examples=200)
def test_a_written_count_reads_back(number: int, unit: str) -> None:
    assert count(written(number, unit), unit) == number


# Layers


def test_every_value_says_who_set_it(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('name = "mine"\nextends = "llama-7b"\n[model]\nlayers = 4\n')
    loaded = recipe.load(mine, ["train.learning_rate=1e-3", "sources.github.declared.torch=BSD-3-Clause"])
    assert origin(loaded, "model.layers") == str(mine)
    assert origin(loaded, "model.dim") == "recipes/llama-7b.toml"
    assert origin(loaded, "train.epsilon") == "default"
    assert origin(loaded, "train.learning_rate") == "command line"
    assert origin(loaded, "sources.github.declared.torch") == "command line"
    assert loaded.name == "mine"


def test_extended_tables_merge_key_by_key_and_lists_replace(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(
        'name = "mine"\nextends = "laptop"\n[sources.github]\ninputs = ["package:numpy"]\n[sources.github.declared]\n'
        'scipy = "BSD-3-Clause"\n[sources.arxiv]\nshare = 0.1\n'
    )
    loaded = recipe.load(mine)
    assert [name for name, _ in loaded.sources.items()] == ["github", "wikipedia", "arxiv"]
    assert loaded.sources.github is not None
    assert loaded.sources.github.inputs == ["package:numpy"]
    assert set(loaded.sources.github.declared) == {"torch", "numpy", "scipy"}
    assert loaded.sources["wikipedia"] == recipe.load("laptop").sources["wikipedia"]
    assert "arxiv" in loaded.sources
    assert "books" not in loaded.sources


def test_extends_takes_a_path_beside_the_file_and_one_level_only(small: Path) -> None:
    folder = small.parent
    (folder / "second.toml").write_text('name = "second"\nextends = "small.toml"\n')
    (folder / "third.toml").write_text('name = "third"\nextends = "second.toml"\n')
    (folder / "lost.toml").write_text('name = "lost"\nextends = "lptop"\n')
    assert recipe.load(folder / "second.toml").model == recipe.load(small).model
    assert "only one level is allowed" in refused(folder / "third.toml")
    line = refused(folder / "lost.toml")
    assert str(folder / "lost.toml") in line
    assert "did you mean laptop?" in line


def test_a_name_is_never_inherited(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('extends = "laptop"\n')
    assert "name is missing" in refused(tmp_path / "mine.toml")


def test_tokens_and_steps_replace_each_other_between_layers(tmp_path: Path) -> None:
    by_steps = recipe.load("laptop", ["train.steps=5"])
    assert (by_steps.train.tokens, by_steps.train.steps) == (None, 5)
    (tmp_path / "mine.toml").write_text('name = "mine"\nextends = "laptop"\n[train]\nsteps = 9\n')
    assert recipe.load(tmp_path / "mine.toml").train.tokens is None
    again = recipe.load(tmp_path / "mine.toml", ["train.tokens=1M"])
    assert (again.train.tokens, again.train.steps) == (1_000_000, None)


def test_exactly_one_of_tokens_and_steps_is_given(small: Path) -> None:
    assert "both given" in refused("laptop", "train.steps=5", "train.tokens=1M")
    small.write_text(SMALL.replace("steps = 10\n", ""))
    assert "both missing; give exactly one" in refused(small)


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("train.batch=4M tokens", "train.batch", 4_000_000),
        ('train.batch="4M tokens"', "train.batch", 4_000_000),
        ("train.learning_rate=1e-3", "train.learning_rate", 1e-3),
        ("train.compile=off", "train.compile", "off"),
        ("sources.wikipedia.share=0.5", "sources.wikipedia.share", Decimal("0.5")),
        ("sources.wikipedia.max_epochs=none", "sources.wikipedia.max_epochs", None),
        ('sources.wikipedia.languages=["en", "de"]', "sources.wikipedia.languages", ["en", "de"]),
        ('sources.github.declared."ruamel.yaml"=MIT', 'sources.github.declared."ruamel.yaml"', "MIT"),
        ("sources.wikipedia.keep_tables=true", "sources.wikipedia.keep_tables", True),
        ("name=2024-01-01", "name", "2024-01-01"),
    ],
)
def test_overrides_read_toml_and_bare_words(override: str, key: str, value: object) -> None:
    rows = {row.key: row for row in recipe.explain(recipe.load("laptop", [override]))}
    assert rows[key].value == value
    assert rows[key].origin == "command line"


def test_none_leaves_a_source_out() -> None:
    assert [name for name, _ in recipe.load("laptop", ["sources.github=none"]).sources.items()] == ["wikipedia"]
    assert "no source" in refused("laptop", "sources.github=none", "sources.wikipedia=none")


# Errors


@pytest.mark.promise("errors")
@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("train.lerning_rate=1", "unknown key train.lerning_rate; did you mean train.learning_rate?"),
        ("learning_rate=1", "unknown key learning_rate; did you mean train.learning_rate?"),
        ("trian.tokens=1M", "unknown key trian.tokens; did you mean train.tokens?"),
        ("sources.wiki.share=0.5", "unknown key sources.wiki.share; did you mean sources.wikipedia.share?"),
        ("train.context=many", 'train.context takes a whole number above 0, not "many"'),
        ("train.context=256.5", "train.context takes a whole number above 0, not 256.5"),
        ("train.keep=true", "train.keep takes a whole number above 0, not true"),
        ("train.hang_minutes=1e-9", "train.hang_minutes takes minutes, 1/60 or more, or 0, not 1E-9; too few"),
        ("train.clip=inf", "train.clip takes a number above 0, not Infinity"),
        ("train.beta2=1", "train.beta2 takes a number from 0, below 1, not 1"),
        ("train.dtype=float16", 'train.dtype takes one of "auto", "bfloat16", "float32", not "float16"'),
        ("train.batch=4 MB", 'train.batch takes tokens, such as "4M tokens", not "4 MB"; "MB" does not count tokens'),
        ("train.checkpoint_every=0", 'train.checkpoint_every takes at least one step, such as "1000 steps", not 0'),
        (
            "sources.wikipedia.languages=en",
            'sources.wikipedia.languages takes a list of texts, such as ["en", "de"], not "en"',
        ),
        ("train=1", "train takes a table; write [train] and under it learning_rate"),
        ("name=a/b", 'name takes a name in quotes of letters, digits, spaces, -, _ and ., not "a/b"'),
        ("steps", '"steps" is not section.key=value; for example train.learning_rate=1e-3'),
        ("extends=laptop", "extends cannot be given on the command line; write it in a recipe file"),
    ],
)
def test_a_wrong_override_ends_in_one_line_with_the_mend(override: str, line: str) -> None:
    assert refused("laptop", override) == line


@pytest.mark.promise("errors")
@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("zzzz=1", "a recipe has extends, name, seed, sources"),
        ("sources.zzzz=1", "sources has commoncrawl, c4, github"),
        ("sources.books.inputs=[]", "sources.books.share is missing; it takes a number above 0"),
        ("sources.wikipedia.languages=[en]", "is not TOML; quote it for the shell"),
        ('sources.github.drop_paths=["("]', "takes a list of regular expressions"),
        ("model.heads=5", "model.dim 192 must be an even multiple of model.heads 5"),
        ("model.kv_heads=2", "model.heads 3 must be a multiple of model.kv_heads 2"),
        ("evaluate.stride=257", "evaluate.stride 257 is more than the context, 256"),
        ("sources.wikipedia.share=1e-400", "takes a number above 0"),
        ("samples.tokens=" + "9" * 5000, "samples.tokens takes a whole number above 0"),
    ],
)
def test_a_wrong_value_says_what_is_accepted(override: str, part: str) -> None:
    assert part in refused("laptop", override)


@pytest.mark.promise("errors")
def test_a_missing_recipe_names_the_nearest_and_all() -> None:
    line = refused("lptop")
    assert line.startswith('no recipe "lptop"; did you mean laptop?')
    assert all(name in line for name in recipe.names())
    assert "no recipe file nowhere/mine.toml" in refused("nowhere/mine.toml")


@pytest.mark.promise("errors")
def test_a_file_that_cannot_be_a_recipe_is_named_with_the_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    for text, line, what in [
        (b'name = "x"\n[train]\nsteps = = 2\n', 3, "broken TOML"),
        (b'name = "x"\nseed = 1\nseed = 2\n', 3, "broken TOML"),
        (b'name = "x"\nprompt = [\n', 2, "broken TOML"),
        (b'name = "x"\n# \xff\n', 2, "not UTF-8"),
    ]:
        broken.write_bytes(text)
        said = refused(broken)
        assert said.startswith(f"{broken}, line {line}: ")
        assert what in said
    assert "is a folder" in refused(tmp_path)


@pytest.mark.promise("errors")
def test_an_unknown_key_or_wrong_value_in_a_file_names_the_file(small: Path) -> None:
    small.write_text(SMALL + "warmpu = 3\n")
    assert refused(small) == f"{small}: unknown key train.warmpu; did you mean train.warmup?"
    small.write_text(SMALL + 'warmup = "3 MB"\n')
    assert refused(small).startswith(f"{small}: train.warmup takes steps")
    small.write_text(SMALL.replace("dim = 64\n", ""))
    assert refused(small).startswith(f"{small}: model.dim is missing")
    small.write_text('name = "small"\n')
    assert "is missing; write [" in refused(small)


@pytest.mark.promise("errors")
@given(
    st.text(max_size=60)
    | st.builds("{}={}".format, st.sampled_from(["train", "train.batch", "sources.c4", "a.b"]), st.text(max_size=40))
)
@settings(deadline=None, max_examples=150)
def test_any_override_is_taken_or_refused_in_one_line(override: str) -> None:
    assert loaded_or_refused_in_one_line("laptop", [override])


@pytest.mark.promise("errors")
@given(st.binary(max_size=80) | st.text(max_size=40).map(lambda text: (SMALL + text).encode("utf-8", "replace")))
@settings(deadline=None, max_examples=150)
def test_any_file_is_taken_or_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(raw)
    assert loaded_or_refused_in_one_line(path)
