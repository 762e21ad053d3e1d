"""The outbox: files that the controller fetches, in a folder that only the supervisor can read."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from .server import pack

_INLINE_BYTES = 65536
_PIECE_BYTES = 1024 * 1024


class Outbox:
    """Files by name. Small ones travel inside the result, the others in pieces, each with size and SHA-256."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, dict[str, Any]] = {}

    @property
    def files(self) -> list[dict[str, Any]]:
        """How the result announces them: name, size, sha256, and data for small ones."""
        return list(self._files.values())

    def keep(self, name: str, content: bytes) -> dict[str, Any]:
        """Keep a file.

        Returns:
            Its name, size and sha256.

        Raises:
            OSError: There is no room for it.
        """
        self._path(name).write_bytes(content)
        told = {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        inline = {"data": pack(content)} if len(content) <= _INLINE_BYTES else {}
        self._files[name] = {**told, **inline}
        return told

    def clear(self) -> None:
        """Announce nothing any more."""
        self._files.clear()

    def fetch(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to `fetch`: a piece of a file."""
        file = self._files.get(str(request.get("name")))
        if file is None:
            return {"error": f"no such file: {request.get('name')}"}
        offset, length = int(request.get("offset") or 0), int(request.get("length") or _PIECE_BYTES)
        with self._path(file["name"]).open("rb") as opened:
            opened.seek(offset)
            piece = opened.read(length)
        told = {key: file[key] for key in ("name", "size", "sha256")}
        return {**told, "offset": offset, "next": offset + len(piece), "data": pack(piece)}

    def _path(self, name: str) -> Path:
        return self._folder / name.replace("/", "-")
