"""SIGINT and SIGTERM while batches go on: stop, stop faster, leave."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.lowlevel import RunVar

from flaude.stopping import Stopping

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(eq=False)
class Member:
    """A batch that wants to hear of signals.

    Attributes:
        stopping: Is told to go on to the next stage, by the first signal and by the second.
        last_words: What to print when the third ends the program at once.
        received: The first signal, once there was one.
    """

    stopping: Stopping
    last_words: Callable[[], str]
    received: signal.Signals | None = None


@dataclass
class _Watch:
    """All batches of one event loop hear the same signals."""

    members: list[Member] = field(default_factory=list)
    count: int = 0
    left: anyio.Event = field(default_factory=anyio.Event)
    previous: dict[signal.Signals, Any] = field(default_factory=dict)

    def on_signal(self, number: signal.Signals) -> None:
        self.count += 1
        if self.count > 2:  # noqa: PLR2004  # the third
            self.leave(number)
        for member in self.members:
            member.received = member.received or number
            member.stopping.next(f"stopped by {number.name}")

    def leave(self, number: signal.Signals) -> None:
        """End the program by the signal's own hand, so that whoever started it sees what ended it."""
        words = "\n".join(filter(None, (member.last_words() for member in self.members)))
        if words:
            os.write(2, f"{words}\n".encode())
        sys.stdout.flush()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)


_watch: RunVar[_Watch | None] = RunVar("flaude_signals")


@asynccontextmanager
async def heeding(member: Member) -> AsyncIterator[None]:
    """Hear SIGINT and SIGTERM inside the block, in place of Python's and asyncio's own handlers.

    The first signal takes every batch of the event loop to the next stage of stopping, the second once more, the third
    ends the program. The block is left when all of them are over: none is cut off because another was faster. Signals
    that the program handles itself are left to it, and so are all outside of the main thread.
    """
    watch = _watch.get(None) or _Watch()
    _watch.set(watch)
    if not watch.members:
        _take_over(watch)
    watch.members.append(member)
    try:
        yield
    finally:
        watch.members.remove(member)
        left, watch.left = watch.left, anyio.Event()
        left.set()
        with anyio.CancelScope(shield=True):
            while member.received and watch.members:
                await watch.left.wait()
        if not watch.members:
            _give_back(watch)
            _watch.set(None)


def _take_over(watch: _Watch) -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        previous = signal.getsignal(number)
        if _is_pythons_own(previous):
            watch.previous[number] = previous
            loop.add_signal_handler(number, watch.on_signal, number)


def _give_back(watch: _Watch) -> None:
    loop = asyncio.get_running_loop()
    for number, previous in watch.previous.items():
        loop.remove_signal_handler(number)
        signal.signal(number, previous)


def _is_pythons_own(handler: Any) -> bool:
    """Whether nobody has chosen it: the system's default, Python's, or that of `asyncio.run`."""
    if handler in (signal.SIG_DFL, signal.default_int_handler):
        return True
    return isinstance(handler, functools.partial) and getattr(handler.func, "__name__", "") == "_on_sigint"
