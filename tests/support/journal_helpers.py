"""Journals for tests: what most of them need to be in one, and a wall clock in the hands of a test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from flaude import Attempt, ExecutionRequest, ExecutionResult, MachineConfig, RunResult
from flaude._model.codec import dump_request
from flaude._model.settings import ExecutorSettings
from flaude._recovery.journal_writer import JournalWriter
from flaude.events import Event, Finished
from flaude.journal import BatchEntry, EndNote, Journal, LeaseOwner, MemoryJournal, RunEntry, SqliteJournal
from flaude.journal.holder import this_process

BEGAN = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
ME = LeaseOwner("me", "here", 1, "boot:1:1")
OTHER = LeaseOwner("other", "here", 2, "boot:1:2")


@dataclass
class WallClock:
    """A wall clock that stands until a test moves it."""

    now: datetime = BEGAN

    def __call__(self) -> datetime:
        """The time, in UTC."""
        return self.now

    def passes(self, seconds: float) -> None:
        """Move it."""
        self.now += timedelta(seconds=seconds)


def batch_entry(id_: str = "b1", began: datetime = BEGAN) -> BatchEntry:
    """A batch of no run as yet."""
    return BatchEntry(id_, "my-app", began, {"max_concurrency": 5})


def run_entries(count: int = 3) -> list[RunEntry]:
    """So many runs that have not begun."""
    return [RunEntry(index, f"tag-{index}", {"config": {"prompt": f"do {index}"}}) for index in range(count)]


def nobody_is_dead(_: LeaseOwner) -> bool:
    """Nothing is known of any process."""
    return False


def make_journal(kind: str, folder: Path, clock: Callable[[], datetime]) -> Journal:
    """An empty journal: `sqlite` in a folder, or `memory`."""
    return SqliteJournal(folder, clock=clock) if kind == "sqlite" else MemoryJournal(clock=clock)


def run_result(**fields: Any) -> RunResult:
    """What a run brought that did nothing remarkable, but for these fields."""
    usual = {"machine_id": "m1", "exit_code": 0, "state": "destroyed", "destroyed": True, "machine_seconds": 75.0}
    return RunResult(**{**usual, **fields})


def execution_result(tag: str, **fields: Any) -> ExecutionResult:
    """The result of a run with one attempt, which brought these fields."""
    run = run_result(**fields)
    attempt = Attempt(
        number=1,
        name="machine",
        machine_id=run.machine_id,
        gone=True,
        agent_started=True,
        cost_usd=run.cost_usd,
        machine_seconds=run.machine_seconds,
    )
    return ExecutionResult(tag=tag, run_result=run, attempts=(attempt,))


@dataclass
class Recorded:
    """A batch in a journal, as a controller writes it; held by this process until it is let go."""

    journal: Journal
    id: str = "b1"
    holder: LeaseOwner = field(default_factory=this_process)

    async def begin(self, tags: Sequence[str], *, began: datetime | None = None, **settings: Any) -> Self:
        """A new batch of runs with these tags."""
        kept = {**ExecutorSettings("my-app").dump(), "source": "batch.yaml", "detached": False, **settings}
        entry = BatchEntry(self.id, "my-app", began or datetime.now(UTC), kept)
        requests = [ExecutionRequest(MachineConfig(prompt=f"do {index}"), tag=tag) for index, tag in enumerate(tags)]
        runs = [RunEntry(index, request.tag, dump_request(request)) for index, request in enumerate(requests)]
        await self.journal.add(entry, runs, self.holder, 3600)
        return self

    async def tell(self, *events: Event) -> None:
        """What happens to its runs."""
        writer = JournalWriter(self.journal, self.id, self.holder.owner)
        for event in events:
            writer.run(event.index).event(event)
        await writer.durable()

    async def over(self, index: int, result: ExecutionResult) -> None:
        """A run has come to its end."""
        writer = JournalWriter(self.journal, self.id, self.holder.owner)
        await writer.run(index).over(result)
        await self.tell(Finished(self.id, index, result.tag, datetime.now(UTC), "m1", result=result))

    async def left(self) -> None:
        """Its controller is gone."""
        await self.journal.release(self.id, self.holder.owner)

    async def end(self, stopped_by: str = "") -> None:
        """Its controller has come to its end."""
        await self.journal.write(self.id, self.holder.owner, [EndNote(datetime.now(UTC), stopped_by)])
        await self.left()
