"""Flaude's program inside a machine, as it is sent there: built once a process."""

from __future__ import annotations

import base64
import hashlib
from functools import cache

import anyio.to_thread

from flaude._guest import archive

GUEST_PATH = "/opt/flaude/guest.pyz"
"""Where it lies in the machine."""


async def prepare() -> None:
    """Build it in a worker thread: dozens of files are read for it. Without this the first who needs it does."""
    for build in (packed_guest, packed_bootstrap, guest_sha256):
        if not build.cache_info().currsize:
            await anyio.to_thread.run_sync(build)


@cache
def packed_guest() -> str:
    """The whole program, in base64."""
    return base64.b64encode(archive.build()).decode("ascii")


@cache
def packed_bootstrap() -> str:
    """The program that waits for it where a create cannot hold all, in base64."""
    return base64.b64encode(archive.bootstrap()).decode("ascii")


@cache
def guest_sha256() -> str:
    """SHA-256 of the program, in hexadecimal."""
    return hashlib.sha256(base64.b64decode(packed_guest())).hexdigest()
