"""Builds the archive that runs in the machine: the same bytes for the same sources, wherever it is built."""

from __future__ import annotations

import io
import zipfile
from importlib.resources import files

_MAIN = "from flaude_guest.main import main\n\nraise SystemExit(main())\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip can name


def build() -> bytes:
    """A zip that Python runs: our modules as `flaude_guest`, and a `__main__.py`."""
    sources = {"__main__.py": _MAIN}
    for entry in files(__package__ or "flaude.guest").iterdir():
        if entry.name.endswith(".py"):
            sources["flaude_guest/" + entry.name] = entry.read_text(encoding="utf-8")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(sources):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), sources[name].encode(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
