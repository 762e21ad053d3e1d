"""How much to ask for with one call: more while it arrives, less when it does not. Pure."""

from __future__ import annotations

_FIRST_BYTES = 1024 * 1024
_LARGEST_BYTES = 8 * 1024 * 1024
_SMALLEST_BYTES = 64 * 1024
_WHOLE_ONES = 8


class PieceSize:
    """The size of the next piece, in `bytes`.

    Calls are rationed, and how long an answer may be is not documented: as long as pieces arrive whole, the next one is
    twice as long. One that fails may have been too long: half of it is enough then, until many of those have arrived;
    and twice as many after each failure, so that a limit is not run into again and again.
    """

    def __init__(self) -> None:
        self.bytes = _FIRST_BYTES
        self._most = _LARGEST_BYTES
        self._wanted = _WHOLE_ONES
        self._whole_ones = 0

    def arrived(self, count: int) -> None:
        """So many bytes have arrived."""
        if count < self.bytes:  # there were no more
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
        self.bytes = self._most = max(_SMALLEST_BYTES, self.bytes // 2)
        self._wanted *= 2
        self._whole_ones = 0
