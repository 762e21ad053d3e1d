from __future__ import annotations

import ast
import io
import sys
import zipfile
from importlib.resources import files

import pytest

from flaude.guest import archive

MODULES = {entry.name: entry.read_text() for entry in files("flaude.guest").iterdir() if entry.name.endswith(".py")}


def test_the_archive_is_deterministic() -> None:
    """The same sources give the same bytes, and all modules are in it."""
    assert archive.build() == archive.build()
    names = zipfile.ZipFile(io.BytesIO(archive.build())).namelist()
    assert names == sorted(["__main__.py", *(f"flaude_guest/{name}" for name in MODULES)])


@pytest.mark.parametrize("name", sorted(MODULES))
def test_any_image_can_run_it(name: str) -> None:
    """The guest is Python 3.9 and imports the standard library and itself, nothing else."""
    tree = ast.parse(MODULES[name], feature_version=(3, 9))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert all(alias.name.split(".")[0] in sys.stdlib_module_names for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            assert (node.module or "").split(".")[0] in sys.stdlib_module_names
        assert not isinstance(node, ast.Match), "match came with Python 3.10"
