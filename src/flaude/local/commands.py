"""Commands in machines that are processes: started with pipes, talked to, ended in time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio
from anyio.abc import ByteReceiveStream, Process

from flaude.local.isolation import Executed

_LEFT_OPEN_S = 0.5
_END_WITHIN_S = 5.0

End = Callable[[Process], Awaitable[None]]
"""Kills a command and its process group, and returns when it has ended."""


async def converse(process: Process, stdin: bytes, timeout_s: float, end: End) -> Executed:
    """Give a command its input and take its output, until it ends; one that takes longer is ended.

    Raises:
        TimeoutError: It took longer.
    """
    stdout, stderr = bytearray(), bytearray()
    async with process:
        try:
            with anyio.fail_after(timeout_s):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_feed, process, stdin)
                    tasks.start_soon(_drain, process.stdout, stdout)
                    tasks.start_soon(_drain, process.stderr, stderr)
                    await process.wait()
                    # A child that was left behind may hold the pipes open for ever.
                    tasks.cancel_scope.deadline = anyio.current_time() + _LEFT_OPEN_S
        finally:
            if process.returncode is None:
                with anyio.move_on_after(_END_WITHIN_S, shield=True):
                    await end(process)
    return Executed(process.returncode or 0, bytes(stdout), bytes(stderr))


async def _feed(process: Process, stdin: bytes) -> None:
    if process.stdin is None:
        return
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, BrokenPipeError, ConnectionResetError):
        await process.stdin.send(stdin)
    await process.stdin.aclose()


async def _drain(stream: ByteReceiveStream | None, into: bytearray) -> None:
    if stream is not None:
        async for piece in stream:
            into += piece
