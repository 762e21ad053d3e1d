"""A stream of items from work in the background that ends with its consumer.

An async generator must not hold an anyio cancel scope across a `yield`: when its consumer leaves the loop, Python
closes the generator from another task. So the work gets a task of its own, which the generator ends and awaits; this
is the one module that speaks asyncio for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import anyio

T = TypeVar("T")


async def stream(
    produce: Callable[[Callable[[T], Awaitable[None]]], Awaitable[None]], *, buffer: int
) -> AsyncGenerator[T]:
    """Yield what `produce` sends; leaving the loop cancels `produce` and waits until it has cleaned up.

    Args:
        produce: Called with an async function that takes one item.
        buffer: How many items may wait before `produce` has to.

    Raises:
        BaseException: What `produce` raised, after the items that it had sent.
    """
    send, receive = anyio.create_memory_object_stream[T](buffer)
    scope = anyio.CancelScope()
    ending: KeyboardInterrupt | SystemExit | None = None

    async def pass_on(item: T) -> None:
        with suppress(anyio.BrokenResourceError):  # the consumer has left
            await send.send(item)

    async def work() -> None:
        nonlocal ending
        with scope, send:
            try:
                await produce(pass_on)
            except (KeyboardInterrupt, SystemExit) as error:
                # A task that ends in one of these takes the event loop with it, past the consumer, for whom it is.
                ending = error

    task = asyncio.create_task(work())
    try:
        with receive:
            async for item in receive:
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
