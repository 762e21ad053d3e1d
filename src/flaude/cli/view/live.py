"""The live view: one table on a terminal that follows a batch."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Self, TextIO

import anyio

from flaude._model.results import BatchResult
from flaude.cli.text.amounts import apps_text, count
from flaude.cli.view.background import Beside
from flaude.cli.view.board import Board
from flaude.cli.view.columns import Line
from flaude.cli.view.layout import Moment, frame
from flaude.cli.view.nonblocking_writer import Outlet
from flaude.cli.view.painter import Painter
from flaude.cli.view.stderr_capture import Above, stderr_above
from flaude.cli.view.summary import summary
from flaude.cli.view.terminal_size import columns_of, size_of
from flaude.cli.view.terminal_style import is_terminal, look_of
from flaude.events import Event

_log = logging.getLogger(__name__)

_EVERY_S = 0.25
_IDLE_EVERY = 4  # with nothing going on, every fourth time: the clock goes on


class LiveView:
    """One table on stderr, a row a run, that changes up to four times a second; at the end the summary on stdout.

    Args:
        stdout: Where the summary goes.
        stderr: The terminal.
        environ: The environment: colours, and what kind of terminal it is.
    """

    def __init__(self, stdout: TextIO, stderr: TextIO, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._stdout, self._terminal = stdout, stderr
        self._look = look_of(stderr, environ)
        self._summary_look = look_of(stdout, environ)
        self._screen = Outlet(stderr, self._look.encoding)
        self._results = Outlet(stdout, self._summary_look.encoding)
        self._painter = Painter(self._look, reflows=not _keeps_long_lines(environ))
        self._above = Above(stderr)
        self._board: Board | None = None
        self._batch = self._app = ""
        self._news = False
        self._ticks = 0
        self._broken = False
        self._end: tuple[BatchResult, int] | None = None
        self._leaving = anyio.Event()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Begin."""
        await self._stack.enter_async_context(self._results)
        await self._stack.enter_async_context(self._screen)
        self._stack.push_async_exit(self._leave)
        self._above = self._stack.enter_context(stderr_above(self._terminal))
        self._stack.enter_context(self._heeding_continues())
        await self._stack.enter_async_context(Beside(self._paint_all))
        self._stack.callback(self._leaving.set)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the terminal as anybody wants to find it, and print the summary if there was an `ended`."""
        await self._stack.__aexit__(exc_type, exc, traceback)

    def launched(self, batch: str, app: str, total: int, shards: int = 1) -> None:
        """See `View`."""
        self._batch, self._app = batch, app
        self._board = Board(total, datetime.now(UTC), shards)
        self._above.write(f"batch {batch} on {apps_text(app, shards)}: {count(total, 'run')}\n")

    def take(self, event: Event) -> None:
        """See `View`."""
        if self._board is None:
            self._board = Board(0, event.at)
        try:
            self._board.take(event)
        except Exception:  # noqa: BLE001  # a defect of ours may cost a row and not the batch
            _log.exception("%s is not shown", type(event).__name__)
        self._news = True

    def ended(self, result: BatchResult, exit_code: int) -> None:
        """See `View`."""
        self._end = result, exit_code

    async def _paint_all(self) -> None:
        while not self._leaving.is_set():
            self._paint()
            with anyio.move_on_after(_EVERY_S):
                await self._leaving.wait()

    def _paint(self) -> None:
        """Show what is new, unless the terminal has not taken the last frame yet, or is somebody else's now."""
        self._ticks += 1
        board = self._board
        goes_on = self._news or (board is not None and board.at_once > 0) or self._ticks % _IDLE_EVERY == 0
        if not goes_on or not self._screen.is_idle:
            return
        if not _is_in_front(self._terminal):
            self._painter.forget()
            return
        self._news = False
        self._show(self._above.fetch())

    def _show(self, above: list[str]) -> None:
        lines: list[Line] = []
        size = size_of(self._terminal)
        try:
            if self._board is not None and not self._broken:
                moment = Moment(datetime.now(UTC), self._ticks)
                lines = frame(self._board, moment, self._look.glyphs, size.columns, size.lines - 1)
        except Exception:  # noqa: BLE001  # a defect of ours may cost the table and not the batch
            self._broken = True
            _log.exception("the table has ended")
        if text := self._painter.frame(lines, size, above):
            self._screen.write(text)

    async def _leave(
        self, exc_type: type[BaseException] | None, _exc: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """The last frame, or none where the summary takes its place."""
        if not _is_in_front(self._terminal):
            self._painter.forget()
        self._show(self._above.fetch(all_of_it=True))
        if self._end is None:
            return
        width = columns_of(self._stdout, self._environ)
        text = summary(self._end[0], self._summary_look, width, app=self._app, batch=self._batch)
        if text and is_terminal(self._stdout):
            self._screen.write(self._painter.erase(size_of(self._terminal)))
        # The summary may go to the same terminal: not before it has taken the last frame.
        with anyio.move_on_after(Outlet.LAST_S, shield=True) if exc_type else nullcontext():
            await self._screen.drained()
        self._results.write(text)

    @contextmanager
    def _heeding_continues(self) -> Iterator[None]:
        """After a Ctrl-Z the shell has written below the last frame: the next one begins there."""
        loop = asyncio.get_running_loop()
        try:
            loop.add_signal_handler(signal.SIGCONT, self._painter.forget)
        except (RuntimeError, ValueError):  # not the main thread
            yield
            return
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGCONT)


def _is_in_front(terminal: TextIO) -> bool:
    """Whether the terminal is ours to draw on: a batch in the background leaves it to the shell."""
    with suppress(OSError, ValueError):
        return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    return True  # it is no terminal of our session's: nobody else is on it


def _keeps_long_lines(environ: Mapping[str, str]) -> bool:
    return "XTERM_VERSION" in environ or environ.get("TERM", "").startswith(("linux", "screen"))
