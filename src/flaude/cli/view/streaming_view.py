"""What the views have in common that write one text for each event."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from flaude._model.results import BatchResult
from flaude.cli.view.background import Beside
from flaude.cli.view.nonblocking_writer import Outlet
from flaude.events import Event
from flaude.events.buffer import BufferBudget, EventBuffer

_log = logging.getLogger(__name__)

_AT_ONCE = 1000


class StreamedView(ABC):
    """Writes every event, in order, as fast as they are read.

    Where the reader is slower than the runs, output waits in a buffer of a fixed size, and what does not fit is left
    out and counted (`Skipped`); phases and results never are.

    Args:
        outlet: Where the events go.
        others: Where other things go.
    """

    def __init__(self, outlet: Outlet, *others: Outlet) -> None:
        self._outlet = outlet
        self._outlets = (outlet, *others)
        self._events = EventBuffer(BufferBudget())
        self._end: tuple[BatchResult, int] | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Begin."""
        for outlet in dict.fromkeys(self._outlets):
            await self._stack.enter_async_context(outlet)
        self._stack.callback(self._tell_end)
        await self._stack.enter_async_context(Beside(self._tell_events))
        self._stack.callback(self._events.close)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Write what is left and then, if there was an `ended`, what the batch came to."""
        await self._stack.__aexit__(exc_type, exc, traceback)

    def take(self, event: Event) -> None:
        """See `View`."""
        try:
            self._events.put(event)
        except Exception:  # noqa: BLE001  # it looks at how large an event is, which may be nested too deep for that
            _log.exception("%s is not shown", type(event).__name__)

    def ended(self, result: BatchResult, exit_code: int) -> None:
        """See `View`."""
        self._end = result, exit_code

    @abstractmethod
    def launched(self, batch: str, app: str, total: int, shards: int = 1) -> None:
        """See `View`."""

    @abstractmethod
    def text_of(self, event: Event) -> str:
        """What to write for an event, with its line break; empty for nothing."""

    @abstractmethod
    def tell_end(self, result: BatchResult, exit_code: int) -> None:
        """Write what the batch came to."""

    async def _tell_events(self) -> None:
        async for event in self._events:
            texts = [self._text_of(event)]
            while not self._events.is_empty and len(texts) < _AT_ONCE:
                texts.append(self._text_of(await anext(self._events)))
            if text := "".join(texts):
                self._outlet.write(text)
                await self._outlet.drained()

    def _text_of(self, event: Event) -> str:
        try:
            return self.text_of(event)
        except Exception:  # noqa: BLE001  # a defect of ours may cost a line and not the batch
            _log.exception("%s is not shown", type(event).__name__)
            return ""

    def _tell_end(self) -> None:
        if self._end is not None:
            self.tell_end(*self._end)
