"""What the live view costs: 500 runs at work, 20 events a second, on a terminal of 50 lines, for some seconds.

The baseline is the same rows as a table of rich's, in a `rich.live.Live` that is refreshed as often: the ratio is to
that. What it costs to make the events is taken off both. Below that, how many events a second a board takes.

    make bench
"""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import TextIO

import anyio
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from flaude.cli.view.board import Board
from flaude.cli.view.layout import Moment, frame
from flaude.cli.view.live import LiveView
from flaude.cli.view.terminal_style import UNICODE
from flaude.events import AssistantText, Booted, Cloned, Created, Creating, Event, Queued, Started, ToolResult, ToolUse

RUNS, EVENTS_S, SECONDS, COLUMNS, LINES = 500, 20, 10, 160, 50
FRAMES_S = 4
FLOOD = 100_000
LIMIT = 0.05  # of a core

Taker = Callable[[Event], None]


def where(index: int) -> tuple[str, int, str, datetime, str]:
    """The fields of every event."""
    return "4f2a9c01de", index, f"review-of-module-{index}", datetime.now(UTC), f"{index:014x}"


def beginnings() -> Iterator[Event]:
    """All runs come to work."""
    for index in range(RUNS):
        yield Queued(*where(index))
        yield Creating(*where(index))
        yield Created(*where(index), region="iad")
        yield Booted(*where(index))
        yield Cloned(*where(index))
        yield Started(*where(index))


def outputs() -> Iterator[Event]:
    """What their agents do, for ever."""
    number = 0
    while True:
        at = where(number * 7 % RUNS)
        yield AssistantText(*at, text=f"I look at case {number} now, and then at the one that comes after it.")
        yield ToolUse(
            *at, id=str(number), name="Bash", input={"command": f"python3 -m pytest -q tests/test_{number}.py"}
        )
        yield ToolResult(*at, tool_use_id=str(number), text="1 passed in 0.03s\n" * 20, is_error=False)
        number += 1


@contextmanager
def terminal() -> Iterator[TextIO]:
    """A pseudo-terminal that another process reads."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    with subprocess.Popen(["cat"], stdin=master, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as reader:
        os.close(master)
        with open(slave, "w", encoding="utf-8") as stream:  # noqa: PTH123  # a number
            yield stream
        reader.kill()


@asynccontextmanager
async def nobody(_stream: TextIO) -> AsyncIterator[Taker]:
    """Takes events and shows nothing."""
    yield lambda _event: None


@asynccontextmanager
async def ours(stream: TextIO) -> AsyncIterator[Taker]:
    """The live view."""
    async with LiveView(stream, stream, {"TERM": "xterm-256color"}) as view:
        view.launched("4f2a9c01de", "bench", RUNS)
        yield view.take


@asynccontextmanager
async def richs(stream: TextIO) -> AsyncIterator[Taker]:
    """The same rows in rich's table and live display."""
    board, step = Board(RUNS, datetime.now(UTC)), 0
    console = Console(file=stream, force_terminal=True, width=COLUMNS, height=LINES)

    def table() -> Table:
        rows = Table("", "tag", "phase", "time", "turns", "cost", "last", box=None, expand=True)
        for line in frame(board, Moment(datetime.now(UTC), step), UNICODE, COLUMNS, LINES - 1):
            cells = [Text(piece.text, style="green" if not piece.column else "") for piece in line][:7]
            rows.add_row(*cells)
        return rows

    async def refresh(live: Live) -> None:
        nonlocal step
        while True:
            await anyio.sleep(1 / FRAMES_S)
            step += 1
            live.update(table(), refresh=True)

    with Live(table(), console=console, auto_refresh=False) as live:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(refresh, live)
            yield board.take
            tasks.cancel_scope.cancel()


async def cpu(view: Callable[[TextIO], AbstractAsyncContextManager[Taker]]) -> float:
    """CPU seconds a second while the events come."""
    with terminal() as stream:
        async with view(stream) as take:
            for event in beginnings():
                take(event)
            await anyio.sleep(1)
            began, began_cpu, events = time.monotonic(), time.process_time(), outputs()
            for number in range(SECONDS * EVENTS_S):
                take(next(events))
                await anyio.sleep(max(0.0, began + (number + 1) / EVENTS_S - time.monotonic()))
            return (time.process_time() - began_cpu) / (time.monotonic() - began)


def flood() -> float:
    """Events a second that a board takes."""
    board, events = Board(RUNS, datetime.now(UTC)), outputs()
    for event in beginnings():
        board.take(event)
    many = [next(events) for _ in range(FLOOD)]
    began = time.process_time()
    for event in many:
        board.take(event)
    return FLOOD / (time.process_time() - began)


def main() -> None:
    """Print all of it."""
    print(f"{RUNS} runs at work, {EVENTS_S} events a second, {COLUMNS} x {LINES}; share of a core")
    floor = anyio.run(cpu, nobody)
    base = anyio.run(cpu, richs) - floor
    own = anyio.run(cpu, ours) - floor
    print(f"{'the events alone':<24}{floor:7.2%}")
    print(f"{'a table of rich':<24}{base:7.2%}   1.00x")
    print(f"{'the live view':<24}{own:7.2%}   {own / base:.2f}x   (limit {LIMIT:.0%})")
    print(f"a board takes {flood():,.0f} events a second")


if __name__ == "__main__":
    main()
