"""Handing events to whoever watches a batch, whatever that may do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from inspect import isawaitable

import anyio

from flaude._run.shutdown import Shutdown, Stage
from flaude.events import Event
from flaude.events.buffer import BufferBudget, EventBuffer
from flaude.events.emitter import EventSink

_log = logging.getLogger(__name__)

_LONGEST_S = 5.0
"""Seconds that an async handler may still take once its batch is to stop."""


EventHandler = Callable[[Event], Awaitable[None] | None]


class EventDispatcher:
    """The program's `on_event`: what it raises is logged, and the runs go on.

    It is called with the events of a run in their order, and with those of several runs side by side. A run hardly
    waits for it: while it is busy, events wait in a buffer, and output that does not fit is left out (`Skipped`). When
    a run is over it is waited for until the handler has had all of its events. That ends when the batch is to stop: a
    handler that does not return then is left behind, and hears of nothing more.

    Args:
        on_event: Called with every event, plain or async; None for nobody.
        shutdown: Tells when the batch is to stop.
        end: Called with a BaseException from the handler that is not an Exception (KeyboardInterrupt, SystemExit): it
            must end the program, not just one run's task.
        feed: Takes every event too, for who iterates over them.
    """

    def __init__(
        self,
        on_event: EventHandler | None,
        shutdown: Shutdown,
        end: Callable[[BaseException], None],
        feed: EventBuffer | None = None,
    ) -> None:
        self._on_event = on_event
        self._shutdown = shutdown
        self._end = end
        self._feed = feed
        self._room = BufferBudget()

    @asynccontextmanager
    async def following(self, record: Callable[[Event], None] | None = None) -> AsyncIterator[EventSink]:
        """Hand over the events of one run; yields what takes them, and ends when the handler has had them all.

        Args:
            record: Called with each at once.
        """
        waiting = EventBuffer(self._room) if self._on_event else None
        delivered = anyio.Event()
        emit = EventSink([buffer for buffer in (self._feed, waiting) if buffer is not None], record)

        async def deliver(events: EventBuffer) -> None:
            try:
                async for event in events:
                    await self._hand(event)
            finally:
                delivered.set()

        if waiting is None:
            yield emit
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(deliver, waiting)
            try:
                yield emit
            finally:
                waiting.close()
                with self._shutdown.interrupts(Stage.AGENTS) as scope:
                    await delivered.wait()
                if scope.cancelled_caught:
                    # What the agent has printed can be missed; what became of the run cannot.
                    waiting.drop_output()
                    await delivered.wait()

    async def _hand(self, event: Event) -> None:
        """Hand an event over; raises only when the task itself is cancelled."""
        if self._on_event is None:
            return
        try:
            answer = self._call(self._on_event, event)
            if isawaitable(answer):
                await self._wait_for(answer)
        except Exception:  # noqa: BLE001  # whatever a watcher does, the runs go on
            _log.exception("on_event raised for %s", type(event).__name__)
        except asyncio.CancelledError:
            raise
        except BaseException as ending:  # noqa: BLE001  # an exit, or what a test's framework ends a test with
            self._end(ending)

    def _call(self, on_event: EventHandler, event: Event) -> Awaitable[None] | None:
        try:
            return on_event(event)
        except asyncio.CancelledError:
            # Nothing was awaited: not we were cancelled, but something that it asked for its result.
            _log.exception("on_event raised for %s", type(event).__name__)
            return None

    async def _wait_for(self, answer: Awaitable[None]) -> None:
        with self._shutdown.interrupts(Stage.AGENTS, after_s=_LONGEST_S) as scope:
            try:
                await answer
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if scope.cancel_called or (task is not None and task.cancelling()):
                    raise
                # Not we were cancelled, but something that the handler waited for.
                _log.exception("on_event raised")
        if scope.cancelled_caught:
            self._leave_behind()

    def _leave_behind(self) -> None:
        if self._on_event is not None:
            self._on_event = None
            _log.error("on_event did not return within %g s of the stop: it hears of nothing more", _LONGEST_S)
