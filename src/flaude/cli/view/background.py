"""A task beside a block of code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import anyio
import anyio.abc


class Beside:
    """Runs `work` while the block goes on, and waits for it at the end; what the block raises stays as it is.

    A task group alone would wrap it into an exception group, and a signal's KeyboardInterrupt with it. When the block
    has raised, `work` has `_LAST_S` seconds left.

    Args:
        work: Ends by itself once the block is left; it may not raise.
    """

    _LAST_S = 2.0

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._over = anyio.Event()
        self._tasks: anyio.abc.TaskGroup | None = None

    async def __aenter__(self) -> Self:
        """Begin."""
        self._tasks = await anyio.create_task_group().__aenter__()
        self._tasks.start_soon(self._run)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for it."""
        try:
            if exc_type is None:
                await self._over.wait()
            else:
                with anyio.move_on_after(self._LAST_S, shield=True):
                    await self._over.wait()
        finally:
            if self._tasks is not None:
                self._tasks.cancel_scope.cancel()
                await self._tasks.__aexit__(None, None, None)

    async def _run(self) -> None:
        try:
            await self._work()
        finally:
            self._over.set()
