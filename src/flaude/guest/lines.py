"""From streams of bytes to lines, of which the longest may be cut."""

from __future__ import annotations

from collections.abc import Iterator


class LineSplitter:
    """Feed it pieces cut anywhere; it gives lines without their end, and how long each really was."""

    def __init__(self, max_line_bytes: int) -> None:
        self._max = max_line_bytes
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


class LinesByWriter:
    """The same for a stream that several processes may write to: no line has bytes of two of them.

    Of processes that leave a line without its end only so many are told apart: the lines of the others come as
    `NOBODY`'s, and may be mixed.
    """

    NOBODY = -1
    _MOST = 8

    def __init__(self, max_line_bytes: int) -> None:
        self._max_line_bytes = max_line_bytes
        self._splitters: dict[int, LineSplitter] = {}

    def feed(self, piece: bytes, writer: int) -> Iterator[tuple[int, bytes, int]]:
        """The lines that `piece` completes: who wrote it, and the rest as `LineSplitter` gives it."""
        if writer not in self._splitters and len(self._splitters) >= self._MOST:
            writer = self.NOBODY
        splitter = self._splitters.setdefault(writer, LineSplitter(self._max_line_bytes))
        for line, total in splitter.feed(piece):
            yield writer, line, total
        if not splitter.pending:
            del self._splitters[writer]

    def finish(self) -> Iterator[tuple[int, bytes, int]]:
        """The last line of each, when it has no end."""
        for writer, splitter in self._splitters.items():
            for line, total in splitter.finish():
                yield writer, line, total
        self._splitters.clear()
