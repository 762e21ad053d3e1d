"""Where things are: the rooms of `src/flaude`, and what the import contracts of `pyproject.toml` must not forget."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path
from typing import Any

import names
import pytest

import flaude

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "flaude"
CONTRACTS: list[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]
ROOMS = next(contract["layers"] for contract in CONTRACTS if contract["type"] == "layers")
SMALL = {"_lazy", "_offload"}
ALIAS = {"executor"}
"""A module of 0.6.1 that programs import from."""


def modules(folder: Path) -> set[str]:
    """The modules and packages of a folder, by their names."""
    found = {path.parent.name for path in folder.glob("*/__init__.py")}
    return found | {path.stem for path in folder.glob("*.py")} - {"__init__"}


def layered() -> set[str]:
    """The rooms that the contract puts above each other."""
    return {room for layer in ROOMS for room in layer.split(" | ")}


def test_at_the_top_are_the_rooms_alone() -> None:
    """Apart from the rooms there are the version, the entry point and two small helpers; there are at most 8 floors."""
    assert modules(SOURCE) == layered() | {"local", "__main__", "_version"} | SMALL | ALIAS
    assert len(ROOMS) <= 8


def test_what_is_public() -> None:
    """A room without an underscore is one that the reference documents, or the command."""
    public = {name for name in modules(SOURCE) if not name.startswith("_")}
    assert {f"flaude.{name}" for name in public - ALIAS - {"cli"}} == set(names.MODULES) - {"flaude"}


@pytest.mark.parametrize("source", ["flaude._guest.inside", "flaude.local"])
def test_what_may_import_nothing(source: str) -> None:
    """What runs in a machine, and the stand-in, imports nothing of flaude: the contract names every other module."""
    contract = next(one for one in CONTRACTS if one.get("source_modules") == [source])
    room = source.split(".")[1]
    others = {f"flaude.{name}" for name in modules(SOURCE) - {room, "__main__"}}
    if source.count(".") > 1:
        others |= {f"flaude.{room}.{name}" for name in modules(SOURCE / room)} - {source}
    assert set(contract["forbidden_modules"]) == others


@pytest.mark.parametrize("forbidden", ["flaude.local", "aiohttp"])
def test_who_may_not_import(forbidden: str) -> None:
    """The contracts on the stand-in and on HTTP name every room but those that may."""
    contract = next(one for one in CONTRACTS if one.get("forbidden_modules") == [forbidden])
    allowed = {"cli"} if forbidden == "flaude.local" else {"_providers"}
    rooms = layered() | ({"local"} if forbidden == "aiohttp" else set())
    assert set(contract["source_modules"]) == {f"flaude.{room}" for room in rooms - allowed}


def places(page: Path) -> set[str]:
    """What a page names as `room/module` or `room/module.py`, and as `room/`."""
    inline = re.findall(r"`([\w./-]+)`", page.read_text(encoding="utf-8"))
    return {name.partition(".py")[0] for name in inline if "/" in name and not name.startswith("flaude/")}


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CONTRIBUTING.md", "AGENTS.md"])
def test_what_the_pages_for_maintainers_name_is_there(name: str) -> None:
    """Every file and folder that they name exists, from the root, in the source, or inside the machine's part."""
    roots = (ROOT, SOURCE, SOURCE / "_guest")

    def exists(place: str) -> bool:
        folder, _, file = place.rpartition("/")
        names = (file, f"{file}.py", f"{file.partition('.')[0]}.py")  # `command.credentials` is a function of `command`
        return any((root / folder / one).exists() for root in roots for one in names)

    missing = {place for place in places(ROOT / name) if not exists(place)}
    assert missing == set()


def test_every_room_is_in_the_picture() -> None:
    """ARCHITECTURE.md has a line for each room."""
    rows = re.findall(r"^\| `(\w+)/` \|", (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(layered() | {"local"})


def test_the_module_of_older_programs() -> None:
    """`flaude.executor` of 0.6.1 has the same classes as `flaude`."""
    older = importlib.import_module("flaude.executor")
    for name in ("ConcurrentExecutor", "ExecutionRequest", "ExecutionResult", "BatchResult"):
        assert getattr(older, name) is getattr(flaude, name)
