"""What signals mean for a batch that has not launched anything yet: many apps take a minute to make."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio

from flaude._executor.batch import BatchOptions
from flaude._executor.signals import Member, heeding
from flaude._model.request import ExecutionRequest
from flaude._model.results import BatchResult
from flaude._run.outcome import not_launched
from flaude._run.shutdown import Shutdown, Stage


@asynccontextmanager
async def stopped_before_launch(
    options: BatchOptions, batch: str, requests: Sequence[ExecutionRequest], owner: asyncio.Task[Any] | None
) -> AsyncIterator[None]:
    """A signal ends the block as it would end the batch.

    Args:
        options: Say whether signals are heeded.
        batch: The batch's id.
        requests: Each gets a result that says why it was not launched.
        owner: The task that waits for the batch.

    Raises:
        Interrupted: SIGINT.
        Terminated: SIGTERM.
    """
    if not options.handle_signals:
        yield
        return
    began, shutdown = anyio.current_time(), Shutdown()

    def result() -> BatchResult:
        results = [not_launched(request.tag, shutdown.kind, shutdown.reason) for request in requests]
        seconds = anyio.current_time() - began
        return BatchResult(results=results, seconds=seconds, stopped_by=shutdown.reason, id=batch)

    member = Member(shutdown, result, str, owner)
    try:
        async with heeding(member):
            with shutdown.interrupts(Stage.AGENTS):
                yield
    finally:
        if member.ending is not None:
            raise member.ending
