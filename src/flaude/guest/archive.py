"""Builds what runs in the machine: the same bytes for the same sources, wherever it is built. Not in the archive."""

from __future__ import annotations

import bz2
import io
import json
import zipfile
from importlib.resources import files

from flaude.guest.loader import SOURCES
from flaude.guest.shrinking import shrink

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip can name
NOT_IN_IT = frozenset({"archive", "bootstrap", "loader", "shrinking"})
"""Modules that build the archive, or that are in it by another name."""


def build() -> bytes:
    """A zip that Python runs: `loader.py` as its `__main__.py`, and our modules as one compressed JSON object."""
    modules = {name: shrink(text) for name, text in sources().items() if name not in NOT_IN_IT}
    content = {
        "__main__.py": shrink(sources()["loader"]).encode(),
        SOURCES: bz2.compress(json.dumps(modules, sort_keys=True).encode(), 9),
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
    """The text of every module of this folder, by its name."""
    found = (entry for entry in files(__package__ or "flaude.guest").iterdir() if entry.name.endswith(".py"))
    return {entry.name[: -len(".py")]: entry.read_text(encoding="utf-8") for entry in found}
