"""Writing to a terminal or a pipe that may take no more, without waiting for it."""

from __future__ import annotations

import asyncio
import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from types import TracebackType
from typing import Self, TextIO

import anyio


class Outlet:
    """Writes to a stream on a thread of its own: who reads it, or has stopped it with Ctrl-S, holds up nobody.

    What is written goes to the stream's file at once, past its buffer. When the reader has gone, the rest goes nowhere,
    silently, and so does what others write to the stream: a batch does not end because nobody watches it any more.

    Use it as `async with`. It is left when all is written or, when an exception leaves the block, after `LAST_S`
    seconds: who wants the end does not wait for who does not read.

    Args:
        stream: Where to.
        encoding: In which encoding; what it does not have becomes `?`.
    """

    LAST_S = 2.0

    def __init__(self, stream: TextIO, encoding: str = "utf-8") -> None:
        self._stream = stream
        self._encoding = encoding
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._given = self._taken = 0
        self._gone = False

    async def __aenter__(self) -> Self:
        """Begin."""
        # No anyio thread: Python waits for those when it ends, for ever if the terminal is stopped.
        threading.Thread(target=self._work, name="flaude outlet", daemon=True).start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait until all is written."""
        try:
            if exc_type is None:
                await self.drained()
            else:
                with anyio.move_on_after(self.LAST_S, shield=True):
                    await self.drained()
        finally:
            self._tasks.put(None)

    @property
    def is_idle(self) -> bool:
        """Whether all is written."""
        return self._given == self._taken

    def write(self, text: str) -> None:
        """Have it written; neither waits nor raises. From the event loop's thread alone."""
        data = text.encode(self._encoding, "replace")
        self._given += 1
        self._tasks.put(lambda: self._write(data))

    async def drained(self) -> None:
        """Return when everything up to here is written, or the reader gone."""
        if self.is_idle:
            return
        loop, done = asyncio.get_running_loop(), anyio.Event()

        def tell() -> None:
            with suppress(RuntimeError):  # nobody waits any more: the loop is closed
                loop.call_soon_threadsafe(done.set)

        self._given += 1
        self._tasks.put(tell)
        await done.wait()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()
            self._taken += 1

    def _write(self, data: bytes) -> None:
        if self._gone:
            return
        try:
            self._stream.flush()
            file = self._file()
            if file is None:
                self._stream.write(data.decode(self._encoding))
                self._stream.flush()
            else:
                _write_all(file, data)
        except (OSError, ValueError):  # the reader has gone, the terminal is closed, the stream is
            self._gone = True
            self._silence()

    def _file(self) -> int | None:
        try:
            return self._stream.fileno()
        except OSError:  # it is in memory
            return None

    def _silence(self) -> None:
        # Python flushes its streams when it ends, and would end with 120 and a message.
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def _write_all(file: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(file, data) :]
        except BlockingIOError:  # somebody else has made it non-blocking
            select.select([], [file], [])
