"""Whose lines count: of all processes that may write to Claude Code's stdout, its own."""

from __future__ import annotations

from .lines import LinesByWriter
from .processes import way_up


class StdoutWriter:
    """Claude Code's own process: mostly the one that was started, or one below it, started by a wrapper in the image.

    The one that was started is believed as soon as it writes a line that counts, and no other from then on. Until then
    it is a living process below it that has begun a session; when one above that one begins a session, it is that one.
    So nothing that Claude Code has started takes its place for longer than until its own first line.

    Args:
        own: The process that was started.
    """

    def __init__(self, own: int) -> None:
        self._own = own
        self.pid: int | None = None
        self._above: list[int] = []

    def knows(self, writer: int) -> bool:
        """Whether it may be Claude Code without saying more."""
        return writer in (self._own, self.pid)

    def believes(self, writer: int, *, begins: bool) -> bool:
        """Whether a line that counts is Claude Code's; `begins` is whether it is one that begins a session."""
        if writer == self._own:
            self.pid = writer
        elif writer != self.pid and begins and writer != LinesByWriter.NOBODY and self.pid != self._own:
            self._consider(writer)
        return writer == self.pid

    def _consider(self, writer: int) -> None:
        if self.pid is None or writer in self._above:
            above = way_up(writer, self._own)
            if above:
                self.pid, self._above = writer, above
