"""What is imported when, so that a start is short: told by modules, never by time."""

from __future__ import annotations

import ast
import os
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import flaude

ON_DEMAND = ("flaude", "flaude._providers.fly", "flaude.journal")

SMALL = {"flaude", "flaude._version", "flaude._lazy"}
PYDANTIC = {"pydantic", "pydantic_core"}
HTTP = {"aiohttp", "httpx2", "http.client", "truststore"}
SERVER = {"starlette", "uvicorn", "flaude.local"}
FILES = {"ruamel.yaml", "jinja2", "flaude.batch_file", "flaude.report"}
LOOP = {"anyio", "asyncio", "ssl", "email"}
TERMINAL = {"cyclopts", "rich"}
MARKDOWN = {"markdown_it", "pygments", "rich.markdown"}


def _table(package: str) -> dict[str, str]:
    """The names that a package imports on demand, and the modules that they are from."""
    return dict(vars(import_module(package))["_MODULE_OF"])


def _declared(package: str) -> dict[str, str]:
    """The names that type checkers see, and the modules that they are from."""
    tree = ast.parse(Path(str(import_module(package).__file__)).read_text())
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


@pytest.mark.parametrize("package", ON_DEMAND)
def test_type_checkers_see_what_there_is(package: str) -> None:
    """What is imported on demand is what type checkers are told, from the same modules; all of it is public."""
    assert _table(package) == _declared(package)
    assert set(_table(package)) <= set(import_module(package).__all__)


@pytest.mark.parametrize("package", ON_DEMAND)
def test_every_name_is_there(package: str) -> None:
    """Each public name is what its module has by that name, and so after `import *`."""
    module, star = import_module(package), dict[str, object]()
    exec(f"from {package} import *", star)  # noqa: S102  # there is no other way to write it in a function
    for name in module.__all__:
        assert star[name] is getattr(module, name)
    for name, home in _table(package).items():
        assert module.__getattr__(name) is getattr(import_module(home), name)


@pytest.mark.parametrize("package", ON_DEMAND)
def test_another_name_is_an_attribute_error(package: str) -> None:
    """A name that a package does not have is the usual error, with what `hasattr` and suggestions need."""
    module = import_module(package)
    with pytest.raises(AttributeError, match=f"^module '{package}' has no attribute 'no_such_name'$") as raised:
        module.no_such_name  # noqa: B018
    assert (raised.value.name, raised.value.obj) == ("no_such_name", module)
    with pytest.raises(ImportError, match="cannot import name 'no_such_name'"):
        exec(f"from {package} import no_such_name")  # noqa: S102


@pytest.mark.parametrize("package", ON_DEMAND)
def test_no_module_hides_a_name(package: str) -> None:
    """No public name is a module's as well: once imported, the module would be what the name means."""
    module = import_module(package)
    assert not {found.name for found in pkgutil.iter_modules(module.__path__)} & set(module.__all__)


def test_the_public_names_are_the_exported_ones() -> None:
    """`__all__` is sorted, has all that is imported on demand and the version, and is what `dir` shows."""
    assert flaude.__all__ == sorted(flaude.__all__) == dir(flaude)
    assert set(flaude.__all__) == {*_table("flaude"), "__version__"}


def _imported(folder: Path, *arguments: str) -> set[str]:
    """The modules that a Python imports."""
    own = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        check=True,
        env={**own, "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    times = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rsplit("|", 1)[1].strip() for line in times}


def test_import_flaude(tmp_path: Path) -> None:
    """`import flaude` imports no other module of flaude, and nobody else's."""
    found = _imported(tmp_path, "-c", "import flaude")
    assert {name for name in found if name.partition(".")[0] == "flaude"} == SMALL
    assert not found & (PYDANTIC | HTTP | SERVER | FILES | LOOP | TERMINAL)


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_the_command_alone(tmp_path: Path, option: str) -> None:
    """What a command would need is not imported to say which commands there are."""
    found = _imported(tmp_path, "-m", "flaude", option)
    assert "cyclopts" in found
    assert not found & (PYDANTIC | HTTP | SERVER | FILES | LOOP | MARKDOWN | {"sqlite3"})


def test_the_list_of_batches(tmp_path: Path) -> None:
    """`flaude ps` reads the journal, and needs nothing that runs something."""
    found = _imported(tmp_path, "-m", "flaude", "ps")
    assert "sqlite3" in found
    assert not found & (PYDANTIC | HTTP | SERVER | FILES | MARKDOWN)


def test_the_executor(tmp_path: Path) -> None:
    """To prepare a batch takes no HTTP, no database, no terminal, and nothing that reads files."""
    code = (
        "from flaude import ConcurrentExecutor, ExecutionRequest, MachineConfig\n"
        "ConcurrentExecutor('my-app'), ExecutionRequest(MachineConfig(prompt='Hello'))"
    )
    found = _imported(tmp_path, "-c", code)
    assert "pydantic" in found
    assert not found & (HTTP | SERVER | FILES | TERMINAL | {"sqlite3"})
