"""The agent's stdout: a socket, so that nobody else can open it, and the kernel says who wrote what.

A pipe can be opened by every process of the same user, as `/proc/PID/fd/1`, and be written to; a socket cannot
(ENXIO). Who got hold of it all the same, because a process of the agent's left it open to its children, or with
pidfd_getfd(2), which the same user may use, is told apart by its process id, which the kernel hands over with the bytes
(SO_PASSCRED, see unix(7)). What is left to a process of the agent's user is what ptrace(2) allows it: to make the agent
itself write something.

Claude Code (2.1.197) exits without waiting for its output to be taken: of what does not fit into the pipe or socket at
that moment, the end is lost, and with it the result. So the socket holds more than it says at once; of a pipe with its
64 KB a reader that was late by a moment got no result at all.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import socket
import struct
import termios
from collections.abc import Awaitable, Callable

from ..cooperative import Pace

_READ_BYTES = 1 << 16
_BUFFER_BYTES = 16 << 20  # the kernel doubles it, for what it needs itself
_SO_SNDBUFFORCE = 32  # <asm-generic/socket.h>: for root, beyond the limit for all others
_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid: `struct ucred` of unix(7)

KNOWS_WRITERS = hasattr(socket, "SO_PASSCRED")
Take = Callable[[bytes, int], Awaitable[None]]
"""Takes a piece, and the process id of who wrote it: 0 where the kernel does not say."""


class Stdout:
    """One socket: `theirs` is for the process to start, and to be closed here once that has it."""

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair()
        self._ours.setblocking(False)
        if KNOWS_WRITERS:
            self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        try:
            self.theirs.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER_BYTES)
        except OSError:  # not root, or not of this machine
            self.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        self._wake = asyncio.Event()
        self._left: int | None = None
        self._then: Callable[[], None] | None = None
        self._rest_taken = asyncio.Event()

    async def drain(self, take: Take) -> None:
        """Hand over what comes, until nobody holds the other end any more; others have their turn meanwhile."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._ours, self._wake.set)
        pace = Pace(None)
        try:
            while True:
                if self._left == 0:
                    self._end_rest()
                await pace.step()
                try:
                    piece, writer = self._read()
                except (BlockingIOError, InterruptedError):
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                if not piece:
                    break
                if self._left is not None:
                    self._left -= len(piece)
                await take(piece, writer)
        finally:
            loop.remove_reader(self._ours)
            self._end_rest()
            self.close()

    async def rest(self, then: Callable[[], None]) -> None:
        """Wait until `drain` has handed over what lies in the socket now; `then` comes before what is written later."""
        self._then = then
        if self._ours.fileno() < 0:
            self._end_rest()
        else:
            waiting = array.array("i", [0])
            fcntl.ioctl(self._ours, termios.FIONREAD, waiting)
            self._left = waiting[0]
            self._wake.set()
        await self._rest_taken.wait()

    def close(self) -> None:
        """Close this end."""
        self._ours.close()

    def _end_rest(self) -> None:
        self._left = None
        if self._then is not None:
            self._then()
            self._then = None
            self._rest_taken.set()

    def _read(self) -> tuple[bytes, int]:
        most = _READ_BYTES if self._left is None else min(self._left, _READ_BYTES)
        try:
            piece, control, _, _ = self._ours.recvmsg(most, socket.CMSG_SPACE(_CREDENTIALS.size))
        except (BlockingIOError, InterruptedError):
            raise
        except OSError:  # reset: it is over
            return b"", 0
        return piece, _sender(control)


def _sender(control: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, getattr(socket, "SCM_CREDENTIALS", None)):
            return int(_CREDENTIALS.unpack_from(data)[0])
    return 0
