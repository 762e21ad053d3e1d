"""A terminal emulator (pyte) at the other end of a pseudo-terminal: what a user sees of a program, as text."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TextIO

import anyio
import pyte
import pytest

ROOT = Path(__file__).parents[2]

# The program becomes a session's leader and the terminal its own: only then does a ^C that is typed become a signal.
_OWN_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


class Reflowing(pyte.Screen):
    """A screen that breaks lines anew when it becomes narrower, as most terminals do; pyte's own cuts them."""

    def resize(self, lines: int | None = None, columns: int | None = None) -> None:
        """Break what is longer, and keep the cursor in the line that it is in."""
        new = columns or self.columns
        rows = [line.rstrip() for line in self.display[: self.cursor.y]]
        broken = [row[at : at + new] for row in rows for at in range(0, max(1, len(row)), new)]
        super().resize(lines, columns)
        self.reset()
        for row in broken:
            self.draw(row)
            self.carriage_return()
            self.index()


class Terminal:
    """A pseudo-terminal and its screen.

    Args:
        columns: Its width.
        lines: Its height.
        reflows: Whether it breaks lines anew when it becomes narrower.
    """

    def __init__(self, columns: int = 100, lines: int = 30, *, reflows: bool = False) -> None:
        self._master, self._slave = pty.openpty()
        self._set_size(columns, lines)
        self.screen = (Reflowing if reflows else pyte.Screen)(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""

    def close(self) -> None:
        """Hang up."""
        for number in (self._master, self._slave):
            if number >= 0:
                os.close(number)
        self._master = self._slave = -1

    @contextmanager
    def stream(self) -> Iterator[TextIO]:
        """The terminal as a program in this process has it."""
        with open(os.dup(self._slave), "w", encoding="utf-8") as stream:  # noqa: PTH123  # a number
            yield stream

    @asynccontextmanager
    async def program(self, *arguments: str, environment: Mapping[str, str]) -> AsyncIterator[subprocess.Popen[bytes]]:
        """Run Python with these arguments on it, in a session of its own; what is left of it is killed."""
        whole = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "PYTHONUTF8": "1", **environment}
        whole["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        process = subprocess.Popen(  # noqa: ASYNC220  # it takes a moment
            [sys.executable, "-c", _OWN_TERMINAL, sys.executable, *arguments],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env=whole,
            cwd=ROOT,
            start_new_session=True,
        )
        os.close(self._slave)
        self._slave = -1
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def resize(self, columns: int, lines: int) -> None:
        """As a user does who drags the window's corner."""
        self.screen.resize(lines, columns)
        self._set_size(columns, lines)

    def type(self, keys: bytes) -> None:
        """As a user does."""
        os.write(self._master, keys)

    @property
    def text(self) -> list[str]:
        """The screen's lines, without the blanks at their ends and the empty lines at its end."""
        lines = [line.rstrip() for line in self.screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    async def until(self, condition: Callable[[list[str]], object], within_s: float = 40) -> list[str]:
        """The screen's lines as soon as they are as they should be."""
        with anyio.move_on_after(within_s):
            while not (self._is_whole and condition(self.text)):
                if not await self._read():
                    break
        if not condition(self.text):
            pytest.fail("the screen never was as it should be; it is\n" + "\n".join(self.text))
        return self.text

    async def is_written_to(self) -> None:
        """Return when there is something that nobody has read yet."""
        await anyio.wait_readable(self._master)

    async def rest(self) -> list[str]:
        """The screen's lines when the program has ended."""
        with anyio.fail_after(40):
            while await self._read():
                pass
        return self.text

    @property
    def _is_whole(self) -> bool:
        """Whether a user would see this: terminals hold back what is between these two."""
        return self.raw.rfind(b"\x1b[?2026h") <= self.raw.rfind(b"\x1b[?2026l")

    async def _read(self) -> bool:
        await anyio.wait_readable(self._master)
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:  # the program has ended
            return False
        self.raw += data
        self._stream.feed(data)
        return bool(data)

    def _set_size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


@contextmanager
def terminal(columns: int = 100, lines: int = 30, *, reflows: bool = False) -> Iterator[Terminal]:
    """Open one, and hang up at the end."""
    opened = Terminal(columns, lines, reflows=reflows)
    try:
        yield opened
    finally:
        opened.close()
