"""Work in the background that ends with whoever wants it, and what it makes as a stream of items.

An async generator must not hold an anyio cancel scope across a `yield`: when its consumer leaves the loop, Python
closes the generator from another task. So the work gets a task of its own, which its owner ends and awaits; this is the
one module that speaks asyncio for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from typing import TypeVar

import anyio

T = TypeVar("T")


class BackgroundTask:
    """Work in a task of its own; whoever begins it has to `end` it.

    Args:
        work: Called once, at once.
    """

    def __init__(self, work: Callable[[], Awaitable[object]]) -> None:
        self._scope = anyio.CancelScope()
        self._ending: KeyboardInterrupt | SystemExit | None = None
        self._task = asyncio.create_task(self._run(work))

    async def wait(self) -> None:
        """Wait until it is over; giving up the waiting does not end it.

        Raises:
            BaseException: What it raised.
        """
        await asyncio.wait([self._task])
        self._tell()

    async def end(self) -> None:
        """Cancel it if it is not over, and wait until it has cleaned up.

        Raises:
            KeyboardInterrupt: It raised that, or SystemExit, or was cancelled meanwhile: likewise.
        """
        self._scope.cancel()
        try:
            await _ended(self._task)
        finally:
            if self._task.done() and not self._task.cancelled():
                self._task.exception()  # whoever ends it early does not ask what it raised
            if self._ending is not None:
                raise self._ending

    async def _run(self, work: Callable[[], Awaitable[object]]) -> None:
        with self._scope:
            try:
                await work()
            except (KeyboardInterrupt, SystemExit) as error:
                # A task that ends in one of these takes the event loop with it, past its owner, for whom it is.
                self._ending = error

    def _tell(self) -> None:
        if self._ending is not None:
            raise self._ending
        self._task.result()


async def stream(items: AsyncIterable[T], work: Callable[[], Awaitable[object]]) -> AsyncGenerator[T]:
    """Yield what `work` makes; leaving the loop cancels `work` and waits until it has cleaned up.

    Args:
        items: What `work` makes; must end when `work` does, however that ends.
        work: Called once.

    Raises:
        BaseException: What `work` raised, after the items that it had made.
    """
    background = BackgroundTask(work)
    try:
        async for item in items:
            yield item
        await background.wait()
    finally:
        await background.end()


async def _ended(task: asyncio.Task[None]) -> None:
    """Wait for it however often the waiting is cancelled; it hears of every time, and may hurry."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            with anyio.CancelScope(shield=True):
                await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
            task.cancel()
    if cancelled is not None:
        raise cancelled
