"""How a request reaches a simulated guest: one word of a command, or parts of it before; kept in memory."""

from __future__ import annotations

import base64
import bz2
import hashlib
import hmac
import json
import zlib
from typing import Any

_NAME_LENGTH = 32


class MissingPartsError(Exception):
    """A request is not whole; `offset` is where it ends."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"the request ends at character {offset}")
        self.offset = offset


def unpack_request(packed: str) -> dict[str, Any]:
    """The request of a word.

    Raises:
        ValueError: It is none.
    """
    return _decompressed(base64.b64decode(packed, validate=True))


def unmasked(request: dict[str, Any], pad: bytes) -> dict[str, Any]:
    """The request that came under the machine's pad.

    Raises:
        ValueError: It is not under this pad.
    """
    if "masked" not in request:
        return request
    hidden, nonce = base64.b64decode(request["masked"]), bytes.fromhex(request["nonce"])
    blocks = range((len(hidden) + 31) // 32)
    stream = b"".join(hmac.digest(pad, nonce + count.to_bytes(8, "big"), "sha256") for count in blocks)
    return _decompressed(bytes(one ^ other for one, other in zip(hidden, stream, strict=False)))


def _decompressed(data: bytes) -> dict[str, Any]:
    try:
        data = bz2.decompress(data) if data.startswith(b"BZh") else zlib.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"not compressed: {error}") from None
    request = json.loads(data)
    if not isinstance(request, dict):
        raise ValueError("give a JSON object")  # noqa: TRY004  # one error for every malformed request
    return request


class Parts:
    """The parts of one request at a time."""

    def __init__(self) -> None:
        self._name = ""
        self._parts: dict[int, str] = {}

    def keep(self, name: str, offset: str, chunk: str) -> None:
        """Keep a part; those of another request go."""
        if name != self._name:
            self._name, self._parts = name, {}
        self._parts[int(offset)] = chunk

    def join(self, name: str, length: str) -> str:
        """The whole word.

        Raises:
            MissingPartsError: It is not whole.
        """
        text = ""
        for offset, chunk in sorted(self._parts.items() if name == self._name else ()):
            if offset > len(text):
                break
            text += chunk[len(text) - offset :]
        if len(text) < int(length):
            raise MissingPartsError(len(text))
        if hashlib.sha256(text.encode()).hexdigest()[:_NAME_LENGTH] != name:
            raise MissingPartsError(0)
        return text

    def clear(self) -> None:
        """They were used."""
        self._name, self._parts = "", {}
