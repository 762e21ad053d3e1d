"""Handing the events of one run over, without waiting."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio
from anyio.lowlevel import checkpoint

from flaude.events import Event
from flaude.events.buffer import EventBuffer

_LONGEST_WAIT_S = 1.0


_LONGEST_WAITS_S = 10.0


class EventSink:
    """Takes the events of one run; calling it neither waits nor raises.

    Args:
        buffers: Where they go.
        record: Called with each at once.
    """

    def __init__(self, buffers: Sequence[EventBuffer] = (), record: Callable[[Event], None] | None = None) -> None:
        self._buffers = buffers
        self._record = record
        self._may_wait_s = _LONGEST_WAITS_S

    def __call__(self, event: Event) -> None:
        """Take an event."""
        if self._record:
            self._record(event)
        for buffer in self._buffers:
            buffer.put(event)

    async def checkpoint(self) -> None:
        """Let who watches catch up: for a second at a time, and no more than ten over the whole run.

        A machine must not wait, at its price, for somebody who does not come back. Not even a cancelled task leaves it
        earlier: what it was about to tell would be lost.
        """
        with anyio.CancelScope(shield=True):
            await checkpoint()
            began = anyio.current_time()
            with anyio.move_on_after(min(_LONGEST_WAIT_S, self._may_wait_s)):
                for buffer in self._buffers:
                    await buffer.drained()
            self._may_wait_s = max(0.0, self._may_wait_s - (anyio.current_time() - began))
