"""Handing events to whoever watches a batch, whatever that may do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from inspect import isawaitable

from flaude.events import Event
from flaude.stopping import Stop, Stopping

_log = logging.getLogger(__name__)

_LONGEST_S = 5.0
"""Seconds that an async handler may still take once its batch is to stop."""

EventHandler = Callable[[Event], Awaitable[None] | None]


class Watcher:
    """The program's `on_event`: what it raises is logged, and the runs go on.

    A handler that does not return keeps its run waiting, which is its right, until the batch is to stop: then it is
    left behind, and no further event is handed to it.

    Args:
        on_event: Called with every event, plain or async; None for nobody.
        stopping: Tells when the batch is to stop.
        end: Takes what the handler raises that is no Exception: it wants to end the program, not one run's task.
    """

    def __init__(self, on_event: EventHandler | None, stopping: Stopping, end: Callable[[BaseException], None]) -> None:
        self._on_event = on_event
        self._stopping = stopping
        self._end = end

    async def emit(self, event: Event) -> None:
        """Hand an event over; raises only when the task itself is cancelled."""
        if self._on_event is None:
            return
        try:
            answer = self._on_event(event)
            if isawaitable(answer):
                await self._wait_for(answer)
        except Exception:  # noqa: BLE001  # whatever a watcher does, the runs go on
            _log.exception("on_event raised for %s", type(event).__name__)
        except asyncio.CancelledError:
            raise
        except BaseException as ending:  # noqa: BLE001  # an exit, or what a test's framework ends a test with
            self._end(ending)

    async def _wait_for(self, answer: Awaitable[None]) -> None:
        with self._stopping.interrupts(Stop.AGENTS, after_s=_LONGEST_S) as scope:
            try:
                await answer
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if scope.cancel_called or (task is not None and task.cancelling()):
                    raise
                # Not we were cancelled, but something that the handler waited for.
                _log.exception("on_event raised")
        if scope.cancelled_caught:
            self._on_event = None
            _log.error("on_event did not return within %g s of the stop: it hears of nothing more", _LONGEST_S)
