"""The outbox: files that the controller fetches, most of them in a folder that only the supervisor can read."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from .server import pack, pack_within

_INLINE_BYTES = 65536
_MOST_INLINE_BYTES = 8 * 1024 * 1024
_PIECE_BYTES = 1024 * 1024

Opener = Callable[[], BinaryIO]
"""Opens a file, the same one each time, or raises OSError."""


class OutgoingFiles:
    """Files by name, each with size and SHA-256. Small ones travel inside the result, the others in pieces."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, dict[str, Any]] = {}
        self._openers: dict[str, Opener] = {}
        self._inline = 0

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
        path = self.path(name)
        try:
            path.write_bytes(content)
        except OSError:
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        return self.announce(name, path)

    def announce(self, name: str, path: Path) -> dict[str, Any]:
        """Keep a file that lies in a folder of ours already and does not change any more.

        Returns:
            Its name, size and sha256.

        Raises:
            OSError: It cannot be read.
        """
        for _ in self._announcing(name, self.opener(path)):
            pass
        return {key: self._files[name][key] for key in ("name", "size", "sha256")}

    async def announce_large(self, name: str, opener: Opener, step: Callable[[], Awaitable[None]]) -> dict[str, Any]:
        """The same for a file anywhere, which is opened anew for each piece that is fetched.

        `step` is called after each piece: it may let others work, or end it with an exception.
        """
        for _ in self._announcing(name, opener):
            await step()
        return {key: self._files[name][key] for key in ("name", "size", "sha256")}

    def withdraw(self, name: str) -> None:
        """Announce this one no more."""
        file = self._files.pop(name, None)
        if file is not None and "data" in file:
            self._inline -= file["size"]

    def _announcing(self, name: str, opener: Opener) -> Iterator[None]:
        size, checksum, beginning = 0, hashlib.sha256(), b""
        with opener() as file:
            while piece := file.read(_PIECE_BYTES):
                beginning = beginning or piece
                size += len(piece)
                checksum.update(piece)
                yield
        told: dict[str, Any] = {"name": name, "size": size, "sha256": checksum.hexdigest()}
        if size <= _INLINE_BYTES and self._inline + size <= _MOST_INLINE_BYTES:
            self._inline += size
            told["data"] = pack(beginning)
        self._files[name] = told
        self._openers[name] = opener

    def clear(self) -> None:
        """Announce nothing any more."""
        self._files.clear()
        self._inline = 0

    def fetch(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to `fetch`: a piece of a file, or several small files at once, as far as they fit together.

        `length` bounds what is packed into the answer.
        """
        if "names" in request:
            return self._together(request)
        file = self._files.get(str(request.get("name")))
        if file is None:
            return {"error": f"no such file: {request.get('name')}"}
        offset, length = int(request.get("offset") or 0), int(request.get("length") or _PIECE_BYTES)
        with self._openers[file["name"]]() as opened:
            opened.seek(offset)
            piece = opened.read(length)
        told = {key: file[key] for key in ("name", "size", "sha256")}
        packed, taken = pack_within(piece, length)
        return {**told, "offset": offset, "next": offset + taken, "data": packed}

    def _together(self, request: dict[str, Any]) -> dict[str, Any]:
        left = int(request.get("length") or _PIECE_BYTES)
        found: list[str] = []
        for name in request["names"]:
            file = self._files.get(str(name))
            if file is None:
                return {"error": f"no such file: {name}"}
            with self._openers[file["name"]]() as opened:
                packed = pack(opened.read(file["size"]))
            left -= len(packed)
            if found and left < 0:
                break
            found.append(packed)
        return {"files": found}

    def opener(self, path: Path) -> Opener:
        """What opens a file that lies in a folder of ours."""
        return partial(_open, path)

    def path(self, name: str) -> Path:
        """Where in the outbox's own folder a file of that name lies, or may be written."""
        return self._folder / name.replace("/", "-")


def _open(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
