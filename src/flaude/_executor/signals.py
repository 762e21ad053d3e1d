"""SIGINT and SIGTERM while batches go on: stop, stop faster, leave."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import anyio
from anyio.lowlevel import RunVar

from flaude._model.errors import Interrupted, Terminated
from flaude._model.results import BatchResult
from flaude._run.shutdown import Shutdown

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(eq=False)
class Member:
    """A batch that wants to hear of signals.

    Attributes:
        shutdown: Is told to go on to the next stage, by the first signal and by the second.
        result: What the batch has come to.
        last_words: What to print when the third ends the program at once.
        owner: The task that awaits the batch.
        received: The first signal, once there was one.
        ending: What to raise, once the batch is over that a signal has ended.
    """

    shutdown: Shutdown
    result: Callable[[], BatchResult]
    last_words: Callable[[], str]
    owner: asyncio.Task[Any] | None = field(default_factory=asyncio.current_task)
    received: signal.Signals | None = None
    ending: Interrupted | Terminated | None = None


class _AlsoInterrupted(Interrupted, asyncio.CancelledError):
    """Raised when a task other than the main one awaits the batch.

    A KeyboardInterrupt that escapes from a task stops the event loop at once, and a second one aborts the cancellation
    of the remaining tasks. As a CancelledError this ends only its own task; `_Watch.task_ended` then cancels main.
    """


class _AlsoTerminated(Terminated, asyncio.CancelledError):
    """The same for SIGTERM."""


@dataclass
class _Watch:
    """All batches of one event loop hear the same signals."""

    loop: asyncio.AbstractEventLoop
    members: list[Member] = field(default_factory=list)
    ended: list[Member] = field(default_factory=list)
    told: list[signal.Signals] = field(default_factory=list)
    left: anyio.Event = field(default_factory=anyio.Event)
    previous: dict[signal.Signals, Any] = field(default_factory=dict)
    main: asyncio.Task[Any] | None = None
    over: bool = False
    _count: int = 0
    _owners: set[asyncio.Task[Any]] = field(default_factory=set)
    _unheeded: bool = False

    def hear(self, number: int, _frame: FrameType | None) -> None:
        """Python calls this between two steps of the main thread, also while its event loop is blocked."""
        if self.loop.is_closed():  # over the batches' heads
            _give_back(self)
            signal.raise_signal(number)
            return
        self._count += 1
        if self._count > 2:  # noqa: PLR2004  # the third
            self._leave(signal.Signals(number))
        self.loop.call_soon_threadsafe(self._tell, signal.Signals(number))

    def _tell(self, number: signal.Signals) -> None:
        if self.over:  # it came too late for the batches
            signal.raise_signal(number)
        self.told.append(number)
        for member in self.members:
            _tell(member, number)

    def join(self, member: Member) -> None:
        """One that comes after a signal is to stop as well: else those that wait for all would wait for ever."""
        self.members.append(member)
        for number in self.told:
            _tell(member, number)

    def part(self, member: Member) -> None:
        """The batch is over."""
        self.members.remove(member)
        if member.received:
            self.ended.append(member)
        left, self.left = self.left, anyio.Event()
        left.set()

    def see_out(self, member: Member) -> None:
        """Have the batch raise what its signal asks for, and look after the task that awaits it."""
        by_hand, elsewhere = member.received is signal.SIGINT, self.main not in (None, member.owner)
        if by_hand:
            ending: type[Interrupted | Terminated] = _AlsoInterrupted if elsewhere else Interrupted
        else:
            ending = _AlsoTerminated if elsewhere else Terminated
        member.ending = ending(member.result(), [one.result() for one in self.ended])
        if elsewhere and member.owner is not None and member.owner not in self._owners:
            self._owners.add(member.owner)
            member.owner.add_done_callback(self.task_ended)

    def task_ended(self, task: asyncio.Task[Any]) -> None:
        """End the program once all tasks are over whose batches a signal has ended, unless they have seen to it."""
        self._owners.discard(task)
        # A task that somebody has asked to be cancelled has not ended in our exception.
        self._unheeded = self._unheeded or (task.cancelled() and not task.cancelling())
        if self._owners or not self._unheeded or self.main is None or self.main.done():
            return
        self.main.remove_done_callback(self._main_ended)
        self.main.add_done_callback(self._main_ended)
        # If it awaits such a task, it has our exception or is about to have it, and that counts as its cancellation.
        if not any(_has_come_to(self.main, member.ending) for member in self.ended):
            self.main.cancel()

    def _main_ended(self, main: asyncio.Task[Any]) -> None:
        if main.cancelled():
            first, *_ = self.ended
            ending = Interrupted if first.received is signal.SIGINT else Terminated
            raise ending(first.result(), [one.result() for one in self.ended])

    def _leave(self, number: signal.Signals) -> None:
        """End the program by the signal's own hand, so that whoever started it sees what ended it."""
        with suppress(Exception):  # nobody may hear it: that must keep nobody alive
            words = filter(None, (member.last_words() for member in [*self.ended, *self.members]))
            os.write(2, "".join(f"{text}\n" for text in words).encode())
        with suppress(Exception):  # it may be closed, or just being written to
            sys.stdout.flush()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)


def _has_come_to(task: asyncio.Task[Any], error: BaseException | None) -> bool:
    """Whether a task has caught an exception, or has it on its way: one of its frames is in the traceback."""
    frames: list[object] = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        frames.append(getattr(awaited, "cr_frame", None))
        awaited = getattr(awaited, "cr_await", None)
    return any(frame in frames for frame, _ in traceback.walk_tb(error.__traceback__ if error else None))


def _tell(member: Member, number: signal.Signals) -> None:
    member.received = member.received or number
    member.shutdown.next(f"stopped by {number.name}")


_watch: RunVar[_Watch | None] = RunVar("flaude_signals")


@asynccontextmanager
async def heeding(member: Member) -> AsyncIterator[None]:
    """Hear SIGINT and SIGTERM inside the block, in place of Python's and asyncio's own handlers.

    The first signal takes every batch of the event loop to the next stage of stopping, the second once more, the third
    ends the program. The block is left when all of them are over: none is cut off because another was faster. What to
    raise then is in `member.ending`. Signals that the program handles itself are left to it, and so are all outside of
    the main thread.
    """
    watch = _watch.get(None) or _Watch(asyncio.get_running_loop())
    _watch.set(watch)
    if not watch.members:
        _take_over(watch)
    watch.join(member)
    try:
        yield
    finally:
        watch.part(member)
        try:
            with anyio.CancelScope(shield=True):
                while member.received and watch.members:
                    await watch.left.wait()
        finally:
            if member.received:
                watch.see_out(member)
        if not watch.members and _watch.get(None) is watch:  # not if another of them has done it before
            _give_back(watch)
            watch.over = True
            _watch.set(None)


def _take_over(watch: _Watch) -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    for number in SIGNALS:
        previous = signal.getsignal(number)
        if _is_pythons_own(previous):
            watch.previous[number] = previous
            signal.signal(number, watch.hear)
            if isinstance(previous, functools.partial):  # that of `asyncio.run`: it would cancel the main task
                watch.main = previous.keywords.get("main_task")


def _give_back(watch: _Watch) -> None:
    for number, previous in watch.previous.items():
        signal.signal(number, previous)


def _is_pythons_own(handler: Any) -> bool:
    """Whether nobody has chosen it: the system's default, Python's, or that of `asyncio.run`."""
    if handler in (signal.SIG_DFL, signal.default_int_handler):
        return True
    return isinstance(handler, functools.partial) and getattr(handler.func, "__name__", "") == "_on_sigint"
