"""A stream of items from work in the background that ends with its consumer.

An async generator must not hold an anyio cancel scope across a `yield`: when its consumer leaves the loop, Python
closes the generator from another task. So the work gets a task of its own, which the generator ends and awaits; this
is the one module that speaks asyncio for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from typing import TypeVar

import anyio

T = TypeVar("T")


async def stream(items: AsyncIterable[T], work: Callable[[], Awaitable[object]]) -> AsyncGenerator[T]:
    """Yield what `work` makes; leaving the loop cancels `work` and waits until it has cleaned up.

    Args:
        items: What `work` makes; must end when `work` does, however that ends.
        work: Called once.

    Raises:
        BaseException: What `work` raised, after the items that it had made.
    """
    scope = anyio.CancelScope()
    ending: KeyboardInterrupt | SystemExit | None = None

    async def run() -> None:
        nonlocal ending
        with scope:
            try:
                await work()
            except (KeyboardInterrupt, SystemExit) as error:
                # A task that ends in one of these takes the event loop with it, past the consumer, for whom it is.
                ending = error

    task = asyncio.create_task(run())
    try:
        async for item in items:
            yield item
        await task
    finally:
        scope.cancel()
        try:
            await _ended(task)
        finally:
            if ending is not None:
                raise ending


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
