"""How long to wait before the next attempt, and how long at all. Pure."""

from __future__ import annotations

import random

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0


def jitter(seconds: float) -> float:
    """Half to one and a half of it, so that those who failed together do not come back together."""
    return seconds * random.uniform(0.5, 1.5)  # noqa: S311  # guards nothing


def doubled(first_s: float, failures: int, longest_s: float) -> float:
    """The pause after so many failures, in seconds: `first_s` after the first, then twice as long each time."""
    return min(first_s * 2.0 ** min(max(failures - 1, 0), 60), longest_s)


class OutageBackoff:
    """Counts failures without a break; all times are seconds of one clock.

    Args:
        limit_s: How long Fly may fail to answer, without a break.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.failures = 0
        self._since: float | None = None

    @property
    def pause_s(self) -> float:
        """How long to wait before the next attempt: twice as long each time, 10 seconds at most."""
        return doubled(_FIRST_PAUSE_S, self.failures, _LONGEST_PAUSE_S)

    def failed(self, began: float, now: float, *, counts: bool) -> bool:
        """Count a failure, and return whether the outage has lasted longer than the limit.

        Args:
            began: When the attempt began: what it took counts as well.
            now: The time.
            counts: Whether it was Fly that did not answer; a machine that is not ready yet has a clock of its own.
        """
        self.failures += 1
        if not counts:
            return False
        self._since = began if self._since is None else self._since
        return now - self._since > self.limit_s

    def answered(self, now: float) -> float:
        """Note that something has worked again, and return for how long it had not."""
        lasted = 0.0 if self._since is None else now - self._since
        self._since, self.failures = None, 0
        return lasted
