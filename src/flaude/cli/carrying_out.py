"""Carrying out a batch in front of somebody: the view, the journal, the exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flaude._executor.executor import ConcurrentExecutor
from flaude._model.errors import BatchLeftError, Interrupted, JournalError, LeaseLostError, Terminated
from flaude._model.placement import Shards
from flaude._model.results import BatchResult
from flaude._model.settings import ExecutorSettings
from flaude.cli.on_this_computer import local_fly, local_settings
from flaude.cli.process import prepare_process
from flaude.cli.text.amounts import count
from flaude.cli.view.choosing import View, choose_view
from flaude.events import Event

if TYPE_CHECKING:
    from flaude._providers.fly.connection import FlyEndpoint
    from flaude.journal import Journal

OK, FAILED, BAD_INPUT, LEFTOVERS = 0, 1, 2, 3
INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM


@dataclass(frozen=True)
class Shown:
    """How a batch is shown, and where its machines are.

    Attributes:
        json: One JSON object a line.
        plain: No table that changes.
        local: On this computer.
        claude: Which agent is on this computer's machines.
    """

    json: bool = False
    plain: bool = False
    local: bool = False
    claude: str = "scripted"


Work = Callable[[ConcurrentExecutor], Awaitable[BatchResult]]


async def carry_out(
    work: Work,
    settings: ExecutorSettings,
    repos: Iterable[str],
    total: int,
    shown: Shown,
    *,
    journal: Journal,
    source: str = "",
    begins: bool = True,
) -> int:
    """Have an executor do something with a batch, and show it.

    Args:
        work: What it does.
        settings: What the batch keeps to.
        repos: The addresses of all repositories that it may clone.
        total: How many runs the batch has.
        shown: How it is shown.
        journal: Where it is recorded.
        source: Where the requests come from.
        begins: Whether the batch is a new one. One that was begun before goes on with the apps that there are.

    Returns:
        The exit code.

    Raises:
        FlaudeError: Nothing could be begun; the message says why.
    """
    prepare_process()
    watch = _Watch(
        choose_view(json=shown.json, plain=shown.plain, stdout=sys.stdout, stderr=sys.stderr, environ=os.environ),
        settings.apps,
        total,
    )
    async with _machines(settings.app, repos, shown) as fly:
        if shown.local:
            settings = local_settings(settings)
        executor = ConcurrentExecutor.from_settings(
            settings, fly=fly, journal=journal, on_event=watch.take, source=source
        )
        missing = await executor.check() if begins else ()
        if missing and not shown.local:
            # Nothing else is shown until they are there.
            print(f"flaude: making {_named(missing)}{_pace(settings.rate_limits)}", file=sys.stderr, flush=True)
        async with watch.view:
            result, code = await _outcome(work, executor)
            if result is not None:
                watch.ended(result, code)
    if result is not None and result.results and not shown.json and await _is_recorded(journal, result.id):
        print(f"\nAll of it: flaude results {result.id}, flaude report {result.id}", file=sys.stderr)
    return code


async def _outcome(work: Work, executor: ConcurrentExecutor) -> tuple[BatchResult | None, int]:
    try:
        result = await work(executor)
    except (Interrupted, Terminated) as stopped:
        code = INTERRUPTED if isinstance(stopped, Interrupted) else TERMINATED
        if isinstance(stopped.__cause__, BatchLeftError):
            return _left(stopped.__cause__, code)
        return stopped.batch, LEFTOVERS if stopped.batch.leftovers else code
    except LeaseLostError as error:
        print(f"flaude: {error}", file=sys.stderr)
        return None, FAILED
    except BatchLeftError as left:
        return _left(left, FAILED)
    if result.leftovers:
        return result, LEFTOVERS
    return result, OK if result.all_succeeded else FAILED


def _left(left: BatchLeftError, code: int) -> tuple[BatchResult, int]:
    print(f"flaude: {left}", file=sys.stderr)
    return left.batch, LEFTOVERS if left.leftovers else code


def _named(apps: Sequence[str]) -> str:
    return f"the app {apps[0]}" if len(apps) == 1 else f"{count(len(apps), 'app')}, {apps[0]} to {apps[-1]}"


def _pace(rate_limits: float | None) -> str:
    if rate_limits is None:
        return ""
    return f", about {'one' if rate_limits == 1 else f'{rate_limits:g}'} a second"


async def _is_recorded(journal: Journal, batch: str) -> bool:
    """Whether it came so far that the journal has it."""
    try:
        return (await journal.batch(batch)).id == batch
    except JournalError:
        return False


@asynccontextmanager
async def _machines(app: str, repos: Iterable[str], shown: Shown) -> AsyncIterator[FlyEndpoint | None]:
    if not shown.local:
        yield None
        return
    async with local_fly(app, repos, shown.claude) as fly:
        yield fly


class _Watch:
    """Tells the view that the batch has begun as soon as its id is known."""

    def __init__(self, view: View, apps: Shards, total: int) -> None:
        self.view = view
        self._apps = apps
        self._total = total
        self._batch = ""

    def take(self, event: Event) -> None:
        """Something has happened."""
        self._begun(event.batch)
        self.view.take(event)

    def ended(self, result: BatchResult, code: int) -> None:
        """The batch is over."""
        self._begun(result.id)
        self.view.ended(result, code)

    def _begun(self, batch: str) -> None:
        if not self._batch:
            self._batch = batch
            self.view.launched(batch, self._apps.app, self._total, self._apps.count)
