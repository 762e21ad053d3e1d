"""What others print on stderr while lines stay at the bottom of the terminal: it goes above them, in whole lines."""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from flaude.cli.text.one_line import one_line

_LONGEST = 4000
_MOST = 10_000


class Above(io.TextIOBase):
    """Takes text from any thread, and keeps its lines until they are fetched.

    Args:
        stream: What it stands in for.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: deque[str] = deque(maxlen=_MOST)
        self._begun = ""
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        """Take text; a line counts when it is whole."""
        with self._lock:
            *whole, self._begun = (self._begun + text).split("\n")
            self._lines.extend(whole)
            if len(self._begun) > _LONGEST:
                self._lines.append(self._begun)
                self._begun = ""
        return len(text)

    def fetch(self, *, all_of_it: bool = False) -> list[str]:
        """The lines since the last call, without what a terminal would obey; at the end also one that is not whole."""
        with self._lock:
            lines, self._lines = list(self._lines), deque(maxlen=_MOST)
            if all_of_it and self._begun:
                lines.append(self._begun)
                self._begun = ""
        return [_shown(line) for line in lines]

    def isatty(self) -> bool:
        """As the stream it stands in for; so are the next two."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Its number."""
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has it as a variable
        """Its encoding."""
        return self._stream.encoding


def _shown(line: str) -> str:
    indent = len(line) - len(line.lstrip(" "))
    return " " * min(indent, 40) + one_line(line, _LONGEST)


@contextmanager
def stderr_above(stream: TextIO) -> Iterator[Above]:
    """Have what is written to stderr inside the block go to an `Above`: by `print`, warnings, `logging`.

    Args:
        stream: The terminal; when stderr is another one, it is left as it is.
    """
    above = Above(stream)
    if sys.stderr is not stream:
        yield above
        return
    handlers = [one for one in _handlers() if isinstance(one, logging.StreamHandler) and one.stream is stream]
    sys.stderr = above
    for handler in handlers:
        handler.setStream(above)
    try:
        yield above
    finally:
        sys.stderr = stream
        for handler in handlers:
            handler.setStream(stream)


def _handlers() -> Iterator[logging.Handler]:
    yield from logging.getLogger().handlers
    for logger in list(logging.getLogger().manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            yield from logger.handlers
