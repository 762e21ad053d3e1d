"""From streams of bytes to lines, of which the longest may be cut."""

from __future__ import annotations

import re
from collections.abc import Iterator

_GAP = re.compile(rb"\n\n+")


def without_gaps(piece: bytes) -> bytes:
    """The piece with one line end for several: empty lines are many millions at no cost for who writes them."""
    return _GAP.sub(b"\n", piece) if b"\n\n" in piece else piece


class LineSplitter:
    """Feed it pieces cut anywhere; it gives lines without their end, and how long each really was."""

    def __init__(self, max_line_bytes: int) -> None:
        self.max = max_line_bytes
        self._line = bytearray()
        self._total = 0

    @property
    def pending(self) -> bool:
        """Whether a line has begun and has no end yet."""
        return bool(self._total)

    def feed(self, piece: bytes) -> Iterator[tuple[bytes, int]]:
        """The lines that `piece` completes: what was kept of each, and its length in bytes."""
        start = 0
        while True:
            end = piece.find(b"\n", start)
            part = piece[start : end if end >= 0 else len(piece)]
            self._total += len(part)
            room = self.max - len(self._line) if self.max else len(part)
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


class LinesByWriter:
    """The same for a stream that several processes may write to: no line has bytes of two of them.

    Strangers, who are any others than who is known, have shorter lines. Of those that leave a line without its end only
    so many are told apart: the oldest such line comes, as `NOBODY`'s, when there is one more.
    """

    NOBODY = -1
    _MOST = 8
    _STRANGE_BYTES = 1 << 20

    def __init__(self, max_line_bytes: int) -> None:
        self._max = max_line_bytes
        self._known: dict[int, LineSplitter] = {}
        self._strange: dict[int, LineSplitter] = {}

    def feed(self, piece: bytes, writer: int, *, known: bool) -> Iterator[tuple[int, bytes, int]]:
        """The lines that `piece` completes: who wrote it, and the rest as `LineSplitter` gives it."""
        if not known and writer not in self._strange and len(self._strange) >= self._MOST:
            oldest = next(iter(self._strange))
            for line, total in self._strange.pop(oldest).finish():
                yield self.NOBODY, line, total
        splitter = self._strange.pop(writer, None) or self._known.pop(writer, None) or LineSplitter(0)
        splitter.max = self._max if known else min(self._max or self._STRANGE_BYTES, self._STRANGE_BYTES)
        for line, total in splitter.feed(piece):
            yield writer, line, total
        if splitter.pending:
            (self._known if known else self._strange)[writer] = splitter

    def finish(self) -> Iterator[tuple[int, bytes, int]]:
        """The last line of each, when it has no end."""
        for splitters in (self._known, self._strange):
            for writer, splitter in splitters.items():
                for line, total in splitter.finish():
                    yield writer, line, total
            splitters.clear()
