"""The agent's stdout: a socket, so that nobody else can open it, and the kernel says who wrote what.

A pipe can be opened by every process of the same user, as `/proc/PID/fd/1`, and be written to; a socket cannot
(ENXIO). Who got hold of it all the same, because a process of the agent's left it open to its children, is told apart
by its process id, which the kernel hands over with the bytes (SO_PASSCRED, see unix(7)). What is left to a process of
the agent's user is what ptrace(2) allows it: to make the agent itself write something.

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
from collections.abc import Callable

_READ_BYTES = 1 << 16
_BUFFER_BYTES = 16 << 20  # the kernel doubles it, for what it needs itself
_SO_SNDBUFFORCE = 32  # <asm-generic/socket.h>: for root, beyond the limit for all others
_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid: `struct ucred` of unix(7)

Take = Callable[[bytes, int], None]
"""Takes a piece, and the process id of who wrote it: 0 where the kernel does not say."""


class Stdout:
    """One socket: `theirs` is for the process to start, and to be closed here once that has it."""

    def __init__(self, take: Take) -> None:
        self._take = take
        self._ours, self.theirs = socket.socketpair()
        self._ours.setblocking(False)
        if hasattr(socket, "SO_PASSCRED"):
            self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        try:
            self.theirs.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER_BYTES)
        except OSError:  # not root, or not of this machine
            self.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        self._closed = asyncio.Event()

    async def drain(self) -> None:
        """Hand over what comes, until nobody holds the other end any more."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._ours, self._read)
        try:
            await self._closed.wait()
        finally:
            loop.remove_reader(self._ours)
            self.close()

    def hand_over_rest(self) -> None:
        """Hand over what lies in the socket now, and not what is written meanwhile."""
        if self._closed.is_set():
            return
        rest = array.array("i", [0])
        fcntl.ioctl(self._ours, termios.FIONREAD, rest)
        left = rest[0]
        while left > 0 and (read := self._read(left)):
            left -= read

    def close(self) -> None:
        """Close this end."""
        self._closed.set()
        self._ours.close()

    def _read(self, most: int = _READ_BYTES) -> int:
        try:
            piece, control, _, _ = self._ours.recvmsg(min(most, _READ_BYTES), socket.CMSG_SPACE(_CREDENTIALS.size))
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            piece, control = b"", []
        if piece:
            self._take(piece, _sender(control))
        else:
            self._closed.set()
        return len(piece)


def _sender(control: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, getattr(socket, "SCM_CREDENTIALS", None)):
            return int(_CREDENTIALS.unpack_from(data)[0])
    return 0
