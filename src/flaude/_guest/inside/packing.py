"""How a request is written in one word of a command: JSON, compressed, base64. Both sides of the link use it."""

from __future__ import annotations

import binascii
import json
import zlib
from typing import Any

_SHORT_BYTES = 4096
_BZ2 = b"BZh"


def compressed(request: dict[str, Any]) -> bytes:
    """The request as JSON, by zlib, or for long ones by bz2, which makes prose a fifth shorter."""
    data = json.dumps(request, separators=(",", ":")).encode()
    forms = [zlib.compress(data, 9)]
    if len(data) > _SHORT_BYTES:
        import bz2  # noqa: PLC0415  # as below

        forms.append(bz2.compress(data, 9))
    return min(forms, key=len)


def pack_request(request: dict[str, Any]) -> str:
    """The request as ASCII text without blanks."""
    return binascii.b2a_base64(compressed(request), newline=False).decode("ascii")


def unpack_request(packed: str) -> dict[str, Any]:
    """The request.

    Raises:
        ValueError: It is none.
    """
    return decompressed(binascii.a2b_base64(packed))


def decompressed(data: bytes) -> dict[str, Any]:
    """The request.

    Raises:
        ValueError: It is none.
    """
    try:
        if data.startswith(_BZ2):
            import bz2  # noqa: PLC0415  # what is asked every second does without it

            data = bz2.decompress(data)
        else:
            data = zlib.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"not compressed: {error}") from None
    request = json.loads(data)
    if not isinstance(request, dict):
        raise ValueError("give a JSON object")  # noqa: TRY004  # one error for every malformed request
    return request
