"""What a batch writes to its journal while it goes on: events in their order, how far each run is, what it came to.

What costs or destroys something is written before it is done, and waited for (`durable`). The rest is written a few
times a second, many notes at once.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

import anyio

from flaude.errors import JournalError, LeaseLostError
from flaude.event_json import dump_event, kind_of
from flaude.events import Event, Finished
from flaude.harvest import Harvest, dump_harvest
from flaude.journal.entries import CheckpointNote, EndNote, EventNote, Note, OutcomeNote, Wish
from flaude.journal.protocol import Journal
from flaude.result_json import dump_result
from flaude.results import ExecutionResult
from flaude.run_result import RunResult

_log = logging.getLogger("flaude.journal")

LEASE_S = 15.0
_RENEW_S = 2.0
_GATHER_S = 0.3
_LAST_S = 10.0
_MOST_WAITING = 20_000
_LONGEST_EVENT = 256 * 1024

Checkpoint = tuple[str, Mapping[str, Any]]
"""A run's phase, and where another controller takes it up, as JSON."""


class RunRecord(Protocol):
    """Takes what is to be known of one run. Nothing of it raises, but for `durable`."""

    checkpoint: Callable[[], Checkpoint] | None
    """Tells how far the run is, whenever that is written."""

    def event(self, event: Event) -> None:
        """Something has happened; it is written soon."""

    def moved(self) -> None:
        """The run has come further; it is written soon."""

    async def durable(self) -> None:
        """Return when all that was told before is written.

        Raises:
            JournalError: It could not be.
        """

    async def harvest(self, attempt: int, harvest: Harvest) -> None:
        """Keep what the machine of an attempt has given, before it is told that it may go."""

    async def attempted(self, number: int, brought: RunResult) -> None:
        """Keep what an attempt has brought that is not the last one."""

    async def over(self, result: ExecutionResult) -> None:
        """Keep what the run came to."""


class NoRecord:
    """For a batch without a journal."""

    checkpoint: Callable[[], Checkpoint] | None = None

    def event(self, event: Event) -> None:
        """Take an event."""

    def moved(self) -> None:
        """Take a step."""

    async def durable(self) -> None:
        """Nothing is to be written."""

    async def harvest(self, attempt: int, harvest: Harvest) -> None:
        """Take a harvest."""

    async def attempted(self, number: int, brought: RunResult) -> None:
        """Take an attempt."""

    async def over(self, result: ExecutionResult) -> None:
        """Take a result."""


class Recording:
    """Writes one batch to its journal, which it holds.

    Args:
        journal: Where to.
        batch: The batch's id.
        owner: Who holds it: the `Holder.owner`.
    """

    def __init__(
        self,
        journal: Journal,
        batch: str,
        owner: str,
    ) -> None:
        self._journal = journal
        self._batch = batch
        self._owner = owner
        self._lost: Callable[[LeaseLostError], None] = _nobody
        self._wished: Callable[[Wish], None] = _nobody
        self._notes: list[Note] = []
        self._moved: dict[int, _RunRecord] = {}
        self._told = self._written = 0
        self._something = anyio.Event()
        self._writing = anyio.Lock()

    def run(self, index: int) -> RunRecord:
        """What takes the record of one run."""
        return _RunRecord(self, index)

    @asynccontextmanager
    async def going_on(
        self, lost: Callable[[LeaseLostError], None], wished: Callable[[Wish], None]
    ) -> AsyncIterator[None]:
        """Write what is told, and keep hold of the batch, until the block is left; then write the rest.

        Args:
            lost: Called when somebody else has taken the batch.
            wished: Called with what others want.
        """
        self._lost, self._wished = lost, wished
        # Out of reach of cancellation: runs that are cancelled have something to tell until their end.
        scope = anyio.CancelScope(shield=True)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._go_on, scope)
            try:
                yield
            finally:
                scope.cancel()
                with anyio.CancelScope(shield=True), anyio.move_on_after(_LAST_S):
                    await self._quietly(self.durable)

    async def _go_on(self, scope: anyio.CancelScope) -> None:
        with scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._write_on)
                tasks.start_soon(self._hold_on)

    def ended(self, stopped_by: str) -> None:
        """The batch has come to its end."""
        self.note(EndNote(datetime.now(UTC), stopped_by))

    def note(self, note: Note) -> None:
        """Write this soon."""
        if len(self._notes) >= _MOST_WAITING:  # a disk that is full for long: what the run came to is kept all the same
            self._notes = [note for note in self._notes if not isinstance(note, EventNote)]
            _log.error("batch %s: events were left out of the journal, which cannot be written", self._batch)
        self._notes.append(note)
        self._tell()

    def moved(self, record: _RunRecord) -> None:
        """Write soon how far this run is."""
        self._moved[record.index] = record
        self._tell()

    def _tell(self) -> None:
        self._told += 1
        self._something.set()

    async def durable(self) -> None:
        """Return when all that was told before is written.

        Raises:
            JournalError: It could not be.
        """
        mark = self._told
        async with self._writing:
            if self._written < mark:
                await self._write()

    async def _write(self) -> None:
        """Write what there is; what could not be written stays."""
        notes, moved, told = self._notes, self._moved, self._told
        self._notes, self._moved, self._something = [], {}, anyio.Event()
        # Taken now, in one go: a checkpoint's offset must be that of the events before it, and of no other.
        points = [note for record in moved.values() if (note := record.note()) is not None]
        try:
            with anyio.CancelScope(shield=True):
                await self._journal.write(self._batch, self._owner, [*notes, *points])
        except LeaseLostError as error:
            self._lost(error)
            raise
        except JournalError:
            self._notes, self._moved = notes + self._notes, moved | self._moved
            raise
        self._written = told

    async def _write_on(self) -> None:
        while True:
            await self._something.wait()
            await anyio.sleep(_GATHER_S)
            await self._quietly(self.durable)

    async def _hold_on(self) -> None:
        while True:
            try:
                for wish in await self._journal.renew(self._batch, self._owner, LEASE_S):
                    self._wished(wish)
            except LeaseLostError as error:
                self._lost(error)
                return
            except JournalError as error:
                _log.error("batch %s: %s", self._batch, error)  # a sentence for people
            await anyio.sleep(_RENEW_S)

    async def put(self, name: str, content: bytes) -> None:
        """Keep a file; one that cannot be kept is said."""
        await self._quietly(lambda: self._journal.put(self._batch, name, content))

    async def drop(self, name: str) -> None:
        """Remove a file."""
        await self._quietly(lambda: self._journal.drop(self._batch, name))

    async def _quietly(self, write: Callable[[], Any]) -> None:
        try:
            await write()
        except LeaseLostError:
            pass  # told already
        except JournalError as error:
            _log.error("batch %s: %s", self._batch, error)  # a sentence for people


def _nobody(_told: object) -> None:
    pass


class _RunRecord:
    """The record of one run in its batch's."""

    def __init__(self, recording: Recording, index: int) -> None:
        self._recording = recording
        self.index = index
        self.checkpoint: Callable[[], Checkpoint] | None = None

    def note(self) -> CheckpointNote | None:
        """How far the run is now."""
        if self.checkpoint is None:
            return None
        phase, point = self.checkpoint()
        return CheckpointNote(self.index, phase, point)

    def event(self, event: Event) -> None:
        data = dump_event(event)
        if isinstance(event, Finished):
            del data["result"]  # it is a file
        elif len(data.get("text", "")) > _LONGEST_EVENT:
            data["text"] = data["text"][:_LONGEST_EVENT] + "…"
        self._recording.note(EventNote(self.index, event.at, kind_of(event), data))

    def moved(self) -> None:
        self._recording.moved(self)

    async def durable(self) -> None:
        await self._recording.durable()

    async def harvest(self, attempt: int, harvest: Harvest) -> None:
        content = await anyio.to_thread.run_sync(lambda: _bytes(dump_harvest(harvest)))
        await self._recording.put(harvest_file(self.index, attempt), content)

    async def attempted(self, number: int, brought: RunResult) -> None:
        content = await anyio.to_thread.run_sync(lambda: brought.model_dump_json().encode())
        await self._recording.put(attempt_file(self.index, number), content)

    async def over(self, result: ExecutionResult) -> None:
        run, folder = result.run_result, run_folder(self.index)
        for number, patch in enumerate(run.patches if run else ()):
            if patch.diff:
                name = patch.path.rstrip("/").rpartition("/")[2] or "repo"
                await self._recording.put(f"{folder}/{number}-{name}.patch", patch.diff)
        await self._recording.put(f"{folder}/result.json", await _result_bytes(result))
        self._recording.note(OutcomeNote(self.index, outcome(result), result.success, result.cost_usd))
        await self._recording._quietly(self.durable)  # noqa: SLF001  # our own
        for attempt in result.attempts:
            await self._recording.drop(harvest_file(self.index, attempt.number))


def run_folder(index: int) -> str:
    """Where the files of a run are, in its batch's."""
    return f"runs/{index:03}"


def harvest_file(index: int, attempt: int) -> str:
    """What the machine of an attempt has given, until the run is over."""
    return f"{run_folder(index)}/harvest-{attempt}.json"


def attempt_file(index: int, number: int) -> str:
    """What an attempt has brought that was not the last one."""
    return f"{run_folder(index)}/attempt-{number}.json"


def outcome(result: ExecutionResult) -> dict[str, Any]:
    """What a run came to, in short."""
    run, failure = result.run_result, result.failure
    return {
        "kind": failure.kind if failure else None,
        "message": failure.message if failure else str(result.error or ""),
        "phase": failure.phase if failure else None,
        "exit_code": run.exit_code if run else None,
        "num_turns": run.num_turns if run else None,
        "seconds": result.machine_seconds,
        "machine_id": run.machine_id if run else "",
        "changed": sum(len(patch.changes) for patch in run.patches) if run else 0,
        "cost_usd": result.cost_usd,
    }


async def _result_bytes(result: ExecutionResult) -> bytes:
    # In a thread: patches are large, and the other runs go on.
    return await anyio.to_thread.run_sync(lambda: _bytes(dump_result(result)))


def _bytes(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
