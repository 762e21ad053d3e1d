"""uvicorn inside this process: ready when entered, gone when left, without a hand on the signals."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio
import uvicorn
from starlette.types import ASGIApp

from flaude.local.misbehaving import protocol


class _Server(uvicorn.Server):
    def __init__(self, application: ASGIApp, *, fast: bool) -> None:
        config = uvicorn.Config(
            application,
            http=protocol(fast=fast),
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_graceful_shutdown=5,
        )
        super().__init__(config)
        self.ready = anyio.Event()
        self.ended = anyio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals belong to the program that uses the stand-in.
        yield

    async def main_loop(self) -> None:
        await self.on_tick(0)
        self.ready.set()
        while not self.ended.is_set():
            with anyio.move_on_after(1):
                await self.ended.wait()
            await self.on_tick(0)  # the `Date` of the answers


@asynccontextmanager
async def serving(application: ASGIApp, listener: socket.socket, *, fast: bool = False) -> AsyncIterator[None]:
    """Serve while inside the block; it answers when the block is entered.

    Args:
        application: What answers.
        listener: Where it is asked.
        fast: See `protocol`.
    """
    server = _Server(application, fast=fast)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_serve, server, listener)
        await server.ready.wait()
        try:
            yield
        finally:
            server.ended.set()


async def _serve(server: _Server, listener: socket.socket) -> None:
    # Ended by its event: cancelled in the middle, uvicorn would leave connections open.
    with anyio.CancelScope(shield=True):
        await server.serve([listener])


@contextmanager
def listening(port: int) -> Iterator[socket.socket]:
    """A socket bound to this port of 127.0.0.1; 0 is any free one.

    Raises:
        OSError: The port cannot be had.
    """
    # The protocol is said: only then asyncio switches Nagle's delay off, which would cost 40 ms an answer.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OverflowError as error:
            raise OSError(errno.EINVAL, "a port is a number from 0 to 65535") from error
        yield listener
