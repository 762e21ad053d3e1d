"""The bytes that all patches of a run may have together."""

from __future__ import annotations

from .. import wording


class Budget:
    """Counts down from a limit; 0 for none."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0

    @property
    def left(self) -> int | None:
        """Bytes that are left; `None` without a limit."""
        return max(0, self._limit - self._used) if self._limit else None

    def use(self, size: int) -> None:
        """So many are taken."""
        self._used += size

    def __str__(self) -> str:
        return f"{wording.size(self._limit)} a run"
