"""Builds what runs in the machine: the same bytes for the same sources, wherever it is built."""

from __future__ import annotations

import bz2
import io
import json
import zipfile
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable

from flaude._guest.inside.loader import SOURCES
from flaude._guest.shrinking import shrink

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip can name
NOT_IN_IT = frozenset({"bootstrap", "loader"})
"""Modules that are in the archive by another name, or in a machine without it."""


def build() -> bytes:
    """A zip that Python runs: `loader.py` as its `__main__.py`, and our modules as one compressed JSON object."""
    modules = {name: shrink(text) for name, text in sources().items() if name not in NOT_IN_IT}
    content = {
        "__main__.py": shrink(sources()["loader"]).encode(),
        SOURCES: bz2.compress(json.dumps(modules, sort_keys=True, separators=(",", ":")).encode(), 9),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in content.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def bootstrap() -> bytes:
    """What waits in a machine for the archive, where that is too large for a create."""
    return shrink(sources()["bootstrap"]).strip().encode()


def sources() -> dict[str, str]:
    """The text of every module of `inside`, by its name there: `job_runner`, `git.clone`."""
    return dict(_modules(files("flaude._guest.inside"), ""))


def _modules(folder: Traversable, package: str) -> Iterator[tuple[str, str]]:
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != "__pycache__":
            yield from _modules(entry, f"{package}{entry.name}.")
        elif entry.name.endswith(".py") and entry.name != "__init__.py":
            yield package + entry.name.removesuffix(".py"), entry.read_text(encoding="utf-8")
