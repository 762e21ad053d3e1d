"""The spool of a simulated machine, in memory: every event of the run, one JSON object a line, read by byte offset."""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections import deque
from typing import Any

import anyio

_TAIL_LINES = 20
_TAIL_CHARACTERS = 2000


class Spool:
    """Append-only. `size` is the offset after the last event."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._news = anyio.Event()
        self.lines = 0
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self.last_output = time.monotonic()

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return len(self._bytes)

    def state(self, state: str) -> None:
        """The supervisor entered a state."""
        self._append({"type": "state", "state": state})

    def take(self, content: bytes) -> None:
        """Lines of the agent's stdout."""
        self.last_output = time.monotonic()
        for line in content.decode(errors="replace").splitlines():
            self._append({"type": "stdout", "line": line})
            self.lines += 1
            self.tail.append(line[:_TAIL_CHARACTERS])

    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset`."""
        return bytes(self._bytes[offset : offset + max(0, length)])

    async def wait(self, offset: int, seconds: float) -> None:
        """Return when there is something after `offset`, when woken, or after `seconds`."""
        if self.size > offset:
            return
        with anyio.move_on_after(seconds):
            await self._news.wait()

    def wake(self) -> None:
        """Wake everybody who waits."""
        news, self._news = self._news, anyio.Event()
        news.set()

    def _append(self, event: dict[str, Any]) -> None:
        self._bytes += (json.dumps({"t": time.time(), **event}, ensure_ascii=False) + "\n").encode()
        self.wake()


def pack(data: bytes) -> str:
    """Bytes for a JSON text: zlib, then base64."""
    return base64.b64encode(zlib.compress(data)).decode("ascii") if data else ""
