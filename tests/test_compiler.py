"""torch can compile from any folder, whatever its path looks like."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys
sys.path.append(sys.argv[1])
from puna.compiler import name_torch_without_spaces
name_torch_without_spaces()
name_torch_without_spaces()
import torch
print(torch.__file__, sum(sys.argv[1] in path or "packages-" in path for path in sys.path))
"""


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder with a space, in which something called torch is installed."""
    made = tmp_path / "a folder" / "site-packages"
    (made / "torch").mkdir(parents=True)
    (made / "torch" / "__init__.py").write_text("")
    return made


def _torch(packages: Path, cache: Path) -> str:
    # Without the site's packages, so that the torch of this environment is not found first.
    import xxhash

    lent = packages.parent / "lent"
    lent.mkdir(exist_ok=True)
    for module in (Path(xxhash.__file__).parent, Path(__file__).parents[1] / "src" / "puna"):
        if not (lent / module.name).exists():
            (lent / module.name).symlink_to(module)
    environment = {**os.environ, "PYTHONPATH": str(lent), "XDG_CACHE_HOME": str(cache)}
    command = [sys.executable, "-S", "-c", CODE, str(packages)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_torch_in_a_folder_with_a_space_is_imported_by_a_path_without_one(packages: Path, tmp_path: Path) -> None:
    for _ in range(2):
        name, _, count = _torch(packages, tmp_path / "cache").rpartition(" ")
        assert " " not in name
        assert Path(name).samefile(packages / "torch" / "__init__.py")
        assert count == "2"


def test_a_link_that_leads_elsewhere_is_not_followed(packages: Path, tmp_path: Path) -> None:
    _torch(packages, tmp_path / "cache")
    (link,) = (tmp_path / "cache" / "puna").iterdir()
    other = tmp_path / "other"
    (other / "torch").mkdir(parents=True)
    (other / "torch" / "__init__.py").write_text("")
    link.unlink()
    link.symlink_to(other)
    assert _torch(packages, tmp_path / "cache") == f"{packages / 'torch' / '__init__.py'} 1"


def test_where_no_link_can_be_made_all_stays_as_it_is(packages: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert _torch(packages, tmp_path / "file") == f"{packages / 'torch' / '__init__.py'} 1"
    assert _torch(packages, tmp_path / "a cache") == f"{packages / 'torch' / '__init__.py'} 1"
