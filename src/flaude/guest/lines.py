"""From a stream of bytes to lines, of which the longest may be cut."""

from __future__ import annotations

from collections.abc import Iterator


class LineSplitter:
    """Feed it pieces cut anywhere; it gives lines without their end, and how long each really was."""

    def __init__(self, max_line_bytes: int) -> None:
        self._max = max_line_bytes
        self._line = bytearray()
        self._total = 0

    def feed(self, piece: bytes) -> Iterator[tuple[bytes, int]]:
        """The lines that `piece` completes: what was kept of each, and its length in bytes."""
        start = 0
        while True:
            end = piece.find(b"\n", start)
            part = piece[start : end if end >= 0 else len(piece)]
            self._total += len(part)
            room = self._max - len(self._line) if self._max else len(part)
            if room > 0:
                self._line += part[:room]
            if end < 0:
                return
            yield self._take()
            start = end + 1

    def finish(self) -> Iterator[tuple[bytes, int]]:
        """The last line, when it has no end."""
        if self._total:
            yield self._take()

    def _take(self) -> tuple[bytes, int]:
        line, total = bytes(self._line), self._total
        self._line.clear()
        self._total = 0
        return line, total
