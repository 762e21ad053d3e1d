"""Clocks of flaude's in the hands of a test: that of machine seconds, and that of an account's limits."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial

import anyio
import pytest

from flaude._executor.admission import AdmissionControl


class Clock:
    """Tells the time, and more once it was put forward.

    A limit on machine seconds then passes when the agent has come to a certain point, on however slow a computer.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ahead = timedelta()
        monkeypatch.setattr("flaude._run.driver.datetime", self)

    def put_forward(self, seconds: float) -> None:
        """So much of a machine's time passes at once."""
        self._ahead += timedelta(seconds=seconds)

    def now(self, zone: tzinfo = UTC) -> datetime:
        """The time, as `datetime.now` gives it."""
        return datetime.now(zone) + self._ahead


class LimitClock:
    """Tells launches the time, and more once it was put forward; who waits for a limit looks at it all the time.

    The limit may then be far away, and is not lifted before the test has seen what it wants to see, on however slow a
    computer.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ahead_s = 0.0
        self._read = anyio.Event()
        monkeypatch.setattr("flaude._executor.executor.AdmissionControl", partial(AdmissionControl, clock=self))
        monkeypatch.setattr("flaude._executor.admission._LONGEST_NAP_S", 0.01)

    def __call__(self) -> float:
        """Seconds since the epoch."""
        self._read.set()
        return time.time() + self._ahead_s

    def put_forward(self, seconds: float) -> None:
        """So much time passes at once."""
        self._ahead_s += seconds

    async def is_looked_at(self, times: int) -> None:
        """Return when somebody has looked at it so many times from now on."""
        for _ in range(times):
            self._read = anyio.Event()
            await self._read.wait()
