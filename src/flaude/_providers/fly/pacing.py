"""Fly's published rate limits, kept by waiting before a call is sent.

Source: Fly docs, "Working with the Machines API", rate limits: each action once a second with bursts of 3, getting a
machine 5 times a second with bursts of 10, counted for each machine, or for the app where there is no machine yet.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio
from aiolimiter import AsyncLimiter


@dataclass(frozen=True)
class Rate:
    """Calls a second in the long run, and how many may come at once."""

    per_second: float
    burst: int

    @property
    def capacity(self) -> int:
        """How many calls we send at once.

        Part of the burst is kept in reserve: calls that left at the right distance may arrive closer together, and Fly
        counts arrivals. The rate in the long run is the same.
        """
        return self.burst - max(1, round(self.per_second / 2))

    def limiter(self, times: float = 1.0) -> AsyncLimiter:
        """A bucket for one action on one thing, filled so many times as fast."""
        return AsyncLimiter(self.capacity, self.capacity / self.per_second / times)

    def last_after_s(self, calls: int) -> float:
        """How many seconds after the first of so many calls the last one is sent, at the earliest."""
        return max(0, calls - self.capacity) / self.per_second


EVERY_ACTION = Rate(per_second=1, burst=3)
GET_MACHINE = Rate(per_second=5, burst=10)
DELETE_APP = Rate(per_second=100 / 60, burst=3)
_RATES = {"get_machine": GET_MACHINE, "delete_app": DELETE_APP}


# A bucket that nobody has used for its whole period is as good as a new one; the longest period is 3 seconds.
_IDLE_S = 60.0


@dataclass
class _Bucket:
    """A limiter, and the door where new calls queue: only the one at its head stands at the limiter."""

    limiter: AsyncLimiter
    door: anyio.Lock = field(default_factory=anyio.Lock)
    used: float = 0.0


class Pace:
    """One bucket for each (action, identifier); those of machines long gone are dropped.

    Args:
        rate_limits: How many times Fly's published rates may be used; `None` when there are no limits.
        clock: Seconds, monotonic.
    """

    def __init__(self, rate_limits: float | None = 1.0, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate_limits = rate_limits
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, str], _Bucket] = OrderedDict()

    def __len__(self) -> int:
        """How many buckets are kept."""
        return len(self._buckets)

    async def wait(self, action: str, identifier: str, *, again: bool = False) -> None:
        """Return when a call of `action` on `identifier` may be sent.

        `again` is for a call that has been sent before: it goes ahead of those that have not, because somebody may
        already be waiting for it who cannot be cancelled, and a thousand creates are a queue of a quarter of an hour.
        """
        if self._rate_limits is None:
            return
        key = action, identifier
        bucket = self._buckets.get(key) or _Bucket(_RATES.get(action, EVERY_ACTION).limiter(self._rate_limits))
        self._use(key, bucket)
        if again:
            await bucket.limiter.acquire()
        else:
            async with bucket.door:
                await bucket.limiter.acquire()
        # While calls queue, one of them passes here every second: a bucket with a queue is never taken for forgotten.
        self._use(key, bucket)

    def _use(self, key: tuple[str, str], bucket: _Bucket) -> None:
        bucket.used = self._clock()
        self._buckets[key] = bucket
        self._buckets.move_to_end(key)
        while next(iter(self._buckets.values())).used < bucket.used - _IDLE_S:
            self._buckets.popitem(last=False)
