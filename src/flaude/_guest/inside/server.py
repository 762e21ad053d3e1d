"""The socket that `ctl` talks to: one JSON object in, one out, for root alone."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from .ctl import SOCKET

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""Answers a message of `ctl`: `verb`, `request` (None when parts of it are missing), and the `name` of a long one."""


def pack(data: bytes) -> str:
    """Bytes for a JSON text: zlib, then base64."""
    return base64.b64encode(zlib.compress(data)).decode("ascii") if data else ""


def pack_within(data: bytes, characters: int) -> tuple[str, int]:
    """As much of the data's beginning as `pack` makes no longer than that, and how many bytes it is; at least one."""
    taken = len(data)
    while len(packed := pack(data[:taken])) > characters and taken > 1:
        # What it would be if all of it were as dense, and a little less: one or two rounds are enough.
        taken = max(1, min(taken - 1, int(taken * characters / len(packed) * 0.95)))
    return packed, taken


async def serve(run_folder: str, handle: Handler) -> asyncio.AbstractServer:
    """Listen; the server is closed by its owner."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answer = await handle(json.loads(await reader.read()))
            writer.write(json.dumps(answer).encode())
            await writer.drain()
        except ConnectionError:
            pass  # whoever asked has gone
        except Exception as error:  # noqa: BLE001  # an answer is due: without one, `ctl` would say "not yet" for ever
            writer.write(json.dumps({"error": f"bad request: {error}"}).encode())
        finally:
            writer.close()

    here = Path.cwd()
    os.chdir(run_folder)  # a socket's path may have 108 bytes at most: a relative one always fits
    try:
        with contextlib.suppress(FileNotFoundError):
            Path(SOCKET).unlink()
        server = await asyncio.start_unix_server(connected, SOCKET)
        Path(SOCKET).chmod(0o600)
    finally:
        os.chdir(here)
    return server
