"""Inputs are found by the names that a recipe gives them, and are recorded by names that hold on any machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from puna import recipe as recipes
from puna import storage
from puna.data.pipeline import look, steps
from puna.data.sources import Input, Part, Task, as_json, from_json, locate
from puna.data.sources.inputs import normal, passed_over, split_package
from puna.errors import InputError
from puna.recipe import GitHub, Wikipedia
from puna.steps import Context, Step

DUMP = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"


def wikipedia(*inputs: str | Path) -> list[Input]:
    return locate("wikipedia", Wikipedia.model_validate({"inputs": [str(one) for one in inputs], "share": 1}))


def github(*inputs: str) -> list[Input]:
    return locate("github", GitHub.model_validate({"inputs": list(inputs), "share": 1}))


@pytest.fixture
def dumps(tmp_path: Path) -> Path:
    """Dumps in folders, a folder of a name that is hard to read among them, and what lies beside dumps."""
    folder = tmp_path / "all dumps [ä]"
    for name in (
        "dewiki.xml.bz2",
        "enwiki.xml",
        "2022/enwiki.xml",
        "enwiki-multistream-index.txt.bz2",
        "README",
        ".x.xml",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_files_folders_and_globs_are_named_from_their_root(dumps: Path) -> None:
    assert [entry.declared for entry in wikipedia(dumps)] == ["2022/enwiki.xml", "dewiki.xml.bz2", "enwiki.xml"]
    assert [entry.declared for entry in wikipedia(dumps / "*wiki*")] == ["dewiki.xml.bz2", "enwiki.xml"]
    assert [entry.declared for entry in wikipedia(dumps / "**" / "enwiki.xml")] == ["2022/enwiki.xml", "enwiki.xml"]
    (one,) = wikipedia(dumps / "2022" / "enwiki.xml")
    assert (one.declared, one.dump, one.size, one.version) == ("enwiki.xml", "enwiki.xml", 15, "")
    assert one.location == str(dumps / "2022" / "enwiki.xml")
    assert one.digest == storage.digest(one.location)


def test_what_a_folder_holds_and_is_not_read_is_said(dumps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A dump under another ending, or behind a link, would else be missed without a word."""
    (dumps / "2022" / "linked").symlink_to(dumps / "2022", target_is_directory=True)

    def over(*inputs: Path) -> list[str]:
        named = [str(one) for one in inputs]
        return passed_over("wikipedia", Wikipedia.model_validate({"inputs": named, "share": 1}))

    others = [str(dumps / name) for name in ("2022/linked", "README", "enwiki-multistream-index.txt.bz2")]
    assert over(dumps) == others
    assert over(dumps, dumps / "README") == [others[0], others[2]]
    assert over(dumps / "*.xml", dumps / "enwiki.xml") == []
    recipe = recipes.load("laptop", ["sources.github=none", f"sources.wikipedia.inputs=[{str(dumps)!r}]"])
    _step("inputs.wikipedia", recipe).work(Context(dumps.parent / "run", "inputs.wikipedia", "0", 1, {}))
    assert (
        f"3 more files or links in what inputs names are not read (docs/sources/wikipedia.md says how dumps are "
        f"named), such as {others[0]}" in capsys.readouterr().err
    )


def _step(name: str, recipe: recipes.Recipe) -> Step:
    found = {"wikipedia": look(locate("wikipedia", recipe.sources["wikipedia"]))}
    return next(step for step in steps(recipe, found) if step.name == name)


@pytest.mark.promise("order")
def test_the_order_of_the_recipe_and_the_place_of_the_folder_do_not_matter(
    dumps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forth = wikipedia(dumps / "enwiki.xml", dumps / "dewiki.xml.bz2", dumps / "enwiki.xml")
    monkeypatch.chdir(dumps)
    back = wikipedia("dewiki.xml.bz2", "enwiki.xml")
    assert back == forth
    assert [entry.declared for entry in back] == ["dewiki.xml.bz2", "enwiki.xml"]


def test_a_name_that_is_not_utf_8_is_read_and_recorded(tmp_path: Path) -> None:
    (tmp_path / "en\udcffwiki.xml").write_text("dump")
    recipe = recipes.load("laptop", ["sources.github=none", f"sources.wikipedia.inputs=[{str(tmp_path)!r}]"])
    context = Context(tmp_path / "run", "inputs.wikipedia", "0", 1, {})
    step = _step(context.name, recipe)
    assert step.space is not None
    assert step.space(context)
    assert step.work(context)[0]["declared"] == "en\udcffwiki.xml"
    assert storage.read_json(tmp_path / "run" / "inputs" / "wikipedia.json")["inputs"][0]["size"] == 4


def test_object_stores_are_listed_like_folders() -> None:
    for name in ("a/dewiki.xml", "a/enwiki.xml", "a/notes.txt"):
        storage.write(f"memory://dumps/{name}", name.encode())
    assert [entry.declared for entry in wikipedia("memory://dumps/a/*wiki*")] == ["dewiki.xml", "enwiki.xml"]
    (one,) = wikipedia("memory://dumps/a/enwiki.xml")
    assert (one.dump, one.size) == ("enwiki.xml", 12)


@pytest.mark.promise("errors")
def test_what_is_missing_or_twice_there_is_said_in_one_line(dumps: Path) -> None:
    cases = {
        str(dumps / "nothing.xml"): "nothing.xml: no such input; check the name",
        str(dumps / "*.gz"): "no such input",
        str(dumps / "READ*"): "holds no file that wikipedia is read from; docs/sources/wikipedia.md says how",
        "memory://nowhere/*.bz2": "no such input",
        "memory://nowhere/a.bz2": "no such input",
        "package:no-such-thing/a": "package:no-such-thing: is not installed; pip install no-such-thing",
        "package:fsspec/no/such/path": "no such path in the package",
    }
    for declared, said in cases.items():
        with pytest.raises(InputError, match=re.escape(said)):
            wikipedia(declared)
    with pytest.raises(InputError, match="two inputs are named enwiki"):
        wikipedia(dumps / "enwiki.xml", dumps / "2022" / "enwiki.xml")


@pytest.mark.promise("errors")
def test_a_missing_package_of_the_sample_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    for name in ("gensim", "networkx", "sympy"):
        with pytest.raises(InputError, match=rf"package:{name}: is not installed; pip install 'puna\[sample\]'"):
            github(f"package:{name}")


@pytest.mark.usefixtures("sample_packages")
def test_a_dump_inside_a_package_is_located() -> None:
    (one,) = wikipedia(f"package:gensim/test/test_data/{DUMP}")
    assert one.declared == f"package:gensim/test/test_data/{DUMP}"
    assert one.dump == DUMP
    assert one.version.startswith("gensim ")
    assert Path(one.location).stat().st_size == one.size


def test_a_package_is_its_own_files_without_what_the_installer_added() -> None:
    (fsspec,) = github("package:fsspec")
    paths = [path for path, _ in fsspec.members]
    assert "fsspec/core.py" in paths
    assert paths == sorted(paths)
    assert not [path for path in paths if "__pycache__" in path or "dist-info" in path or path.startswith("..")]
    assert fsspec.dump == f"fsspec {fsspec.version.partition('+')[0]}"
    assert fsspec.size == sum(size for _, size in fsspec.members)
    assert fsspec.digest.startswith("xxh3:")
    (part,) = github("package:FsSpec/implementations")
    assert {path for path, _ in part.members} < set(paths)
    assert all(path.startswith("fsspec/implementations/") for path, _ in part.members)
    assert part.digest != fsspec.digest


def test_a_build_for_other_hardware_is_the_same_dump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "mine-1.0+cu130.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0+cu130\n")
    (info / "RECORD").write_text("mine/a.py,,\nmine/gone.py,,\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (entry,) = github("package:mine")
    assert (entry.dump, entry.version) == ("mine 1.0", "1.0+cu130")
    assert entry.members == (("mine/a.py", 6), ("mine/gone.py", 0))
    before = entry.digest
    (tmp_path / "mine" / "a.py").write_text("x = 2\n")
    (again,) = github("package:mine")
    assert again.digest != before


@pytest.mark.promise("errors")
def test_overlapping_parts_of_a_package_are_refused() -> None:
    with pytest.raises(InputError, match="both hold fsspec/implementations/"):
        github("package:fsspec", "package:fsspec/implementations")


@pytest.mark.promise("errors")
def test_kinds_of_input_that_code_is_not_read_from_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("x = 1\n")
    cases = {
        str(tmp_path): "no repository, archive or table of code in it",
        "project.tar.gz": "no such input",
        str(tmp_path / "code.py"): "is none of the files that code is read from",
    }
    for declared, said in cases.items():
        with pytest.raises(InputError, match=said):
            github(declared)


def test_a_folder_and_a_glob_read_the_same_archives_and_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = [
        "a.TAR.GZ",
        "a.tbz",
        "b.whl",
        "contents.csv",
        "contents-01.json",
        "contents_2.parquet",
        "contents7.jsonl.gz",
    ]
    read += ["in/licenses.csv.gz", "licenses/000.json"]
    left = [
        "contentsX.json",
        "content.json",
        "Contents.json",
        "a.tar.zst",
        "a.7z",
        "contents/in/0.json",
    ]
    for name in (*read, *left):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    folder = [entry.declared for entry in github(str(tmp_path)) if not entry.members]
    assert sorted(folder) == sorted(read)
    assert [entry.declared for entry in github(str(tmp_path / "**" / "*"))] == folder
    assert [entry.declared for entry in github(str(tmp_path / "licenses" / "*"))] == ["000.json"]
    monkeypatch.chdir(tmp_path / "licenses")
    assert [entry.declared for entry in github(".")] == ["000.json"]


def test_names_of_packages_are_compared_as_indexes_do() -> None:
    assert normal("Ruamel.Yaml__clib") == "ruamel-yaml-clib"
    assert split_package("package:Py_Torch/nn/modules/") == ("py-torch", "nn/modules")


def test_tasks_survive_json() -> None:
    tasks = [Task("00000", "github", (Part("package:a", members=("a/b.py", "a/ä.py")), Part("x", 3, 9)))]
    assert from_json(as_json(tasks)) == tasks
