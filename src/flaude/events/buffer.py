"""Events between runs, which hardly wait, and a consumer, who may be slow: bounded, and no result is ever lost."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator

import anyio

from flaude._model.json_values import is_deep
from flaude.events import AssistantText, Event, Notice, OtherOutput, Output, Skipped, StderrOutput, ToolResult, ToolUse

_MOST_EVENTS = 10_000
_MOST_CHARACTERS = 64 * 1024 * 1024


class BufferBudget:
    """How many characters of output the buffers of one batch may hold together.

    Args:
        characters: That many.
    """

    def __init__(self, characters: int = _MOST_CHARACTERS) -> None:
        self.left = characters
        self._half = characters // 2
        self._freed = anyio.Event()

    def take(self, characters: int) -> None:
        """So many are held."""
        self.left -= characters

    def free(self, characters: int) -> None:
        """So many are held no more."""
        self.left += characters
        self._freed.set()

    async def next_free(self) -> None:
        """Return when something has been taken out of any of the buffers."""
        if self._freed.is_set():  # several may wait
            self._freed = anyio.Event()
        await self._freed.wait()

    @property
    def is_filling_up(self) -> bool:
        """Whether more than half of it is taken."""
        return self.left < self._half


class EventBuffer:
    """A queue whose producers need not wait: when it is full, output is left out, and `Skipped` says how much.

    What a run says of itself (its phases, its result) is always taken: a handful of events a run. What the agent prints
    is taken as long as there is room: an agent must not wait, at a machine's price, for somebody who watches it.

    Args:
        room: Shared by all buffers of a batch.
        most: How many events may wait before output is left out.
    """

    def __init__(self, room: BufferBudget, most: int = _MOST_EVENTS) -> None:
        self._room = room
        self._most = most
        self._events: deque[tuple[Event, int]] = deque()
        self._skipped: Counter[int] = Counter()
        self._last: dict[int, Event] = {}
        self._news = anyio.Event()
        self._closed = False

    def put(self, event: Event) -> None:
        """Take an event."""
        size = _size(event)
        if size and (len(self._events) >= self._most or size > self._room.left):
            self._leave_out(event)
            return
        self._say_skipped(event.index)
        self._append(event, size)

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._events

    @property
    def is_filling_up(self) -> bool:
        """Whether half of what may wait waits."""
        return len(self._events) > self._most // 2 or self._room.is_filling_up

    async def drained(self) -> None:
        """Return when it is no longer filling up."""
        while self.is_filling_up:
            await self._room.next_free()

    def close(self) -> None:
        """No further event comes: who iterates gets what is left."""
        for index in list(self._skipped):
            self._say_skipped(index)
        self._closed = True
        self._news.set()

    def drop_output(self) -> None:
        """Leave out, and count, all output that waits, for a consumer who is to come to an end."""
        waiting, self._events = self._events, deque()
        for event, size in waiting:
            if size:
                self._room.free(size)
                self._leave_out(event)
            else:
                self._say_skipped(event.index)
                self._append(event, 0)
        if self._closed:
            self.close()

    def __aiter__(self) -> AsyncIterator[Event]:
        """The events, until it is closed and empty."""
        return self

    async def __anext__(self) -> Event:
        """The next one, as soon as it is there."""
        while not self._events:
            if self._closed:
                raise StopAsyncIteration
            if self._news.is_set():  # several may wait
                self._news = anyio.Event()
            await self._news.wait()
        return self._take()

    def _take(self) -> Event:
        event, size = self._events.popleft()
        self._room.free(size)
        return event

    def _append(self, event: Event, size: int) -> None:
        self._room.take(size)
        self._events.append((event, size))
        self._news.set()

    def _leave_out(self, event: Event) -> None:
        self._skipped[event.index] += 1
        self._last[event.index] = event

    def _say_skipped(self, index: int) -> None:
        if count := self._skipped.pop(index, 0):
            last = self._last.pop(index)
            self._append(Skipped(last.batch, last.index, last.tag, last.at, last.machine_id, count=count), 0)


def _size(event: Event) -> int:
    """About how many characters an event holds that may be left out; 0 for one that may not."""
    match event:
        case AssistantText(text=text) | ToolResult(text=text) | StderrOutput(text=text) | Notice(text=text):
            return 1 + len(text)
        case ToolUse(input=value) | OtherOutput(line=value):
            # One rule for all versions of Python: how deep they can write differs.
            if is_deep(value):
                raise ValueError("it is nested too deep")
            return 1 + len(str(value))
        case Output():
            return 1
        case _:
            return 0
