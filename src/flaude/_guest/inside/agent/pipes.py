"""A process's pipes and its end, each awaited for itself.

From Python 3.11 on asyncio takes a process for ended only when its pipes are closed as well: whatever it has left
behind that holds one of them would keep us waiting, maybe for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Awaitable, Callable
from typing import IO

_READ_BYTES = 1 << 16
_POLL_S = 0.05


async def ended(process: subprocess.Popen[bytes]) -> int:
    """Wait for the process itself; its return code as `subprocess` gives it, negative for a signal."""
    with contextlib.suppress(AttributeError, OSError):  # before Linux 5.3, or elsewhere; or it has been reaped
        await _readable(os.pidfd_open(process.pid))
    # Or it is over and cannot be reaped yet, because somebody traces it.
    while process.poll() is None:  # noqa: ASYNC110  # nobody else could tell
        await asyncio.sleep(_POLL_S)
    return int(process.returncode)


async def _readable(fd: int) -> None:
    readable = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(fd, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)


async def feed(pipe: IO[bytes], data: bytes) -> None:
    """Write to its stdin and close that; a process that does not want all of it is free not to read it."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, pipe)
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    try:
        writer.write(data)
        await writer.drain()
    except (BrokenPipeError, ConnectionResetError):
        pass
    finally:
        writer.close()


async def drain(pipe: IO[bytes], take: Callable[[bytes], None]) -> None:
    """Hand over what comes from its stdout or stderr, piece by piece, until nobody holds the other end any more."""

    async def take_at_once(piece: bytes) -> None:
        take(piece)

    await drain_slowly(pipe, take_at_once)


async def drain_slowly(pipe: IO[bytes], take: Callable[[bytes], Awaitable[None]]) -> None:
    """The same for who lets others work meanwhile: the process waits when its pipe is full."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        while piece := await reader.read(_READ_BYTES):
            await take(piece)
    finally:
        transport.close()
