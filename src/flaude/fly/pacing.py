"""Fly's published rate limits, kept by waiting before a call is sent.

Source: Fly docs, "Working with the Machines API", rate limits: each action once a second with bursts of 3, getting a
machine 5 times a second with bursts of 10, counted for each machine, or for the app where there is no machine yet.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from aiolimiter import AsyncLimiter


@dataclass(frozen=True)
class Rate:
    """Calls a second in the long run, and how many may come at once."""

    per_second: float
    burst: int

    def limiter(self) -> AsyncLimiter:
        """A bucket for one action on one thing.

        Part of the burst is kept in reserve: calls that left at the right distance may arrive closer together, and Fly
        counts arrivals. The rate in the long run is the same.
        """
        capacity = self.burst - max(1, round(self.per_second / 2))
        return AsyncLimiter(capacity, capacity / self.per_second)


EVERY_ACTION = Rate(per_second=1, burst=3)
GET_MACHINE = Rate(per_second=5, burst=10)
DELETE_APP = Rate(per_second=100 / 60, burst=3)
_RATES = {"get_machine": GET_MACHINE, "delete_app": DELETE_APP}


# A bucket that nobody has used for its whole period is as good as a new one; the longest period is 3 seconds.
_IDLE_S = 60.0


class Pace:
    """One bucket for each (action, identifier); those of machines long gone are dropped.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, str], tuple[AsyncLimiter, float]] = OrderedDict()

    def __len__(self) -> int:
        """How many buckets are kept."""
        return len(self._buckets)

    async def wait(self, action: str, identifier: str) -> None:
        """Return when a call of `action` on `identifier` may be sent."""
        key, now = (action, identifier), self._clock()
        if key not in self._buckets:
            self._buckets[key] = _RATES.get(action, EVERY_ACTION).limiter(), now
        limiter, _ = self._buckets.pop(key)
        self._buckets[key] = limiter, now
        while next(iter(self._buckets.values()))[1] < now - _IDLE_S:
            self._buckets.popitem(last=False)
        await limiter.acquire()
