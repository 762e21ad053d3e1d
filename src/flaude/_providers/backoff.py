"""How long to wait before the next try, and how long at all."""

from __future__ import annotations

import random


def jitter(seconds: float) -> float:
    """Half to one and a half of it."""
    return seconds * random.uniform(0.5, 1.5)  # noqa: S311  # guards nothing


_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0


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
        """How long to wait before the next try: twice as long each time, 10 seconds at most."""
        return min(_FIRST_PAUSE_S * 2.0 ** max(self.failures - 1, 0), _LONGEST_PAUSE_S)

    def failed(self, began: float, now: float, *, counts: bool) -> bool:
        """Something was tried in vain; whether patience is at its end.

        Args:
            began: When the try began: what it took counts as well.
            now: The time.
            counts: Whether it was Fly that did not answer; a machine that is not ready yet has a clock of its own.
        """
        self.failures += 1
        if not counts:
            return False
        self._since = began if self._since is None else self._since
        return now - self._since > self.limit_s

    def answered(self, now: float) -> float:
        """Something has worked again; for how long it had not."""
        lasted = 0.0 if self._since is None else now - self._since
        self._since, self.failures = None, 0
        return lasted
