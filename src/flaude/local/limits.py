"""Fly's published rate limits, as token buckets.

Every action by itself may be called once a second with bursts of 3; getting a machine 5 times with bursts of 10; apps
are deleted at most 100 times a minute (Fly docs, "Working with the Machines API"). An action counts for each machine,
or for each app where no machine is named, as a create.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """Calls a second in the long run, and how many at once after a pause."""

    per_second: float
    burst: int


_USUAL = Rate(1, 3)
_RATES = {"get_machine": Rate(5, 10), "delete_app": Rate(100 / 60, 100)}


class Limits:
    """The buckets of all (action, identifier) pairs.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: dict[str, dict[str, tuple[float, float]]] = {}

    def allow(self, action: str, identifier: str) -> bool:
        """Take a token if there is one; a call that is refused takes none."""
        rate = _RATES.get(action, _USUAL)
        now = self._clock()
        buckets = self._buckets.setdefault(identifier, {})
        tokens, since = buckets.get(action, (float(rate.burst), now))
        tokens = min(rate.burst, tokens + (now - since) * rate.per_second)
        allowed = tokens >= 1
        buckets[action] = (tokens - allowed, now)
        return allowed

    def forget(self, identifier: str) -> None:
        """Drop the buckets of a machine that is no more."""
        self._buckets.pop(identifier, None)
