"""Long work in the event loop, in short steps: the clocks and the controller get their turn, and it ends in time."""

from __future__ import annotations

import asyncio
import time

_LONGEST_STEP_S = 0.02


class OutOfTime(Exception):
    """The time that the work was given is over."""


class Pace:
    """For work that calls `step` often.

    Args:
        seconds: How long the work may take; None for as long as it likes.
    """

    def __init__(self, seconds: float | None) -> None:
        now = time.monotonic()
        self._ends = None if seconds is None else now + seconds
        self._pause = now + _LONGEST_STEP_S

    async def step(self) -> None:
        """Let others work when it is their turn.

        Raises:
            OutOfTime: It is over.
        """
        now = time.monotonic()
        if self._ends is not None and now >= self._ends:
            raise OutOfTime
        if now >= self._pause:
            await asyncio.sleep(0)
            self._pause = time.monotonic() + _LONGEST_STEP_S
