"""How much to ask for with one call: more while it arrives, less when it does not. Pure."""

from __future__ import annotations

from flaude._providers.fly.exec_limits import FIRST_ANSWER_BYTES, SMALLEST_ANSWER_BYTES

_LARGEST_BYTES = 8 * 1024 * 1024
_WHOLE_ONES = 8
_FULL = 0.85


class ChunkSize:
    """The size of the next piece, in `bytes`.

    Calls are rationed, and how long an answer may be is not documented: as long as pieces arrive whole, the next one is
    twice as long. One that fails may have been too long: half of it is enough then, until many of those have arrived;
    and twice as many after each failure, so that a limit is not run into again and again.

    Args:
        first: The first one's.
    """

    def __init__(self, first: int = FIRST_ANSWER_BYTES) -> None:
        self.bytes = first
        self._most = _LARGEST_BYTES
        self._wanted = _WHOLE_ONES
        self._whole_ones = 0

    def arrived(self, count: int) -> None:
        """So many bytes have arrived; of a full piece they are nearly as many as were asked for."""
        if count < self.bytes * _FULL:  # there were no more
            return
        if self.bytes == self._most:
            self._whole_ones += 1
            if self._whole_ones < self._wanted:
                return
            self._whole_ones = 0
            self._most = min(_LARGEST_BYTES, 2 * self._most)
        self.bytes = min(self._most, 2 * self.bytes)

    def failed(self) -> None:
        """A piece of this size did not arrive."""
        self._fall_to(self.bytes // 2)

    def cut(self, size: int) -> None:
        """Of an answer so many bytes arrived: the next one, with what stands around its content, has to fit in."""
        self._fall_to(min(self.bytes // 2, size * 3 // 4))

    def _fall_to(self, size: int) -> None:
        self.bytes = self._most = max(SMALLEST_ANSWER_BYTES, size)
        self._wanted *= 2
        self._whole_ones = 0
