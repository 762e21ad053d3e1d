"""What happened in the last minute, in a memory of a fixed size."""

from __future__ import annotations

from datetime import datetime

_SECONDS = 60


class LastMinute:
    """A number for each of the last 60 seconds. Times may come a little out of order."""

    def __init__(self) -> None:
        self._numbers = [0] * _SECONDS
        self._second = 0

    def add(self, at: datetime) -> None:
        """One more has happened."""
        self._numbers[self._to(at)] += 1

    def reach(self, at: datetime, number: int) -> None:
        """It was as high as `number`."""
        place = self._to(at)
        self._numbers[place] = max(self._numbers[place], number)

    def total(self, now: datetime) -> int:
        """How many have happened."""
        self._to(now)
        return sum(self._numbers)

    def highest(self, now: datetime) -> int:
        """How high it was at most."""
        self._to(now)
        return max(self._numbers)

    def _to(self, at: datetime) -> int:
        """The place of a time; what is older than a minute by then is forgotten."""
        second = int(at.timestamp())
        for passed in range(min(_SECONDS, second - self._second)):
            self._numbers[(second - passed) % _SECONDS] = 0
        self._second = max(second, self._second)
        # What comes out of order counts as if it came in order: a place further back may be another minute's.
        return self._second % _SECONDS
