"""The spool: every event of the run, one JSON object a line, on disk, read by byte offset."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from pathlib import Path
from typing import Any

from .redact import Redactor

_CUT_LINE_BYTES = 65536


class Spool:
    """Append-only. `size` is the offset after the last event; `news` wakes who waits for more.

    `counts` has the agent's lines that are in it, by stream, and how many of them were cut; `dropped` are those that
    are not in it, because they were too many or because the disk was full.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab")
        self.size = 0
        self.redact = Redactor()
        self.max_bytes = 0
        self.dropped = 0
        self._without_room = 0
        self._reasons: set[str] = set()
        self.counts = {"stdout": 0, "stderr": 0, "cut": 0}
        self._news = asyncio.Event()

    def state(self, state: str) -> bool:
        """The supervisor entered a state; whether there was room to say so."""
        return self._append({"type": "state", "state": state})

    def log(self, message: str) -> None:
        """Something that a person should know."""
        self._append({"type": "log", "message": self.redact(message)})

    def line(self, stream: str, line: bytes, total_bytes: int) -> None:
        """A line of the agent's; `line` is only its beginning when it was longer than allowed."""
        if self.max_bytes and self.size > self.max_bytes:
            self.drop(1, f"the output is over {self.max_bytes} bytes")
            return
        event: dict[str, Any] = {"type": stream}
        cut = total_bytes > len(line)
        if cut:
            event["cut_bytes"] = total_bytes
            # Redacted before it is cut: half a secret would not be found.
            text = self.redact.beginning(line.decode("utf-8", "replace"))
            event["line"] = text.encode()[:_CUT_LINE_BYTES].decode("utf-8", "ignore")
        else:
            event["line"] = self.redact(line.decode("utf-8", "replace"))
        if self._append(event):
            self.counts[stream] += 1
            self.counts["cut"] += cut
        else:
            self.dropped += 1
            self._without_room += 1

    def drop(self, lines: int, reason: str) -> None:
        """Some lines of the agent's do not come; the first time it is said why."""
        if reason not in self._reasons:
            self._reasons.add(reason)
            self.log(f"{reason}: further lines are dropped")
        self.dropped += lines

    def tell_dropped(self) -> None:
        """Say how many lines a full disk has cost, once there is room again."""
        if self._without_room:
            self.log(f"the disk was full: {self._without_room} lines of the agent's output are missing")

    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset`."""
        with self._path.open("rb") as file:
            file.seek(offset)
            return file.read(max(0, min(length, self.size - offset)))

    async def wait(self, offset: int, seconds: float) -> None:
        """Return when there is something after `offset`, when woken, or after `seconds`."""
        if self.size > offset:
            return
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._news.wait(), seconds)

    def wake(self) -> None:
        """Wake everybody who waits."""
        self._news.set()
        self._news = asyncio.Event()

    def _append(self, event: dict[str, Any]) -> bool:
        data = (json.dumps({"t": time.time(), **event}, ensure_ascii=False) + "\n").encode("utf-8", "replace")
        try:
            self._file.write(data)
            self._file.flush()
        except OSError:
            # The agent may have filled the disk: the run goes on.
            with contextlib.suppress(OSError):  # closing writes what could not be written, and fails again
                self._file.close()
            with self._path.open("ab") as file:
                file.truncate(self.size)
            self._file = self._path.open("ab")
            return False
        self.size += len(data)
        self.wake()
        return True
