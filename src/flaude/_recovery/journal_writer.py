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
from functools import partial
from typing import Any

import anyio

from flaude._model.codec import dump_result
from flaude._model.errors import JournalError, LeaseLostError
from flaude._model.results import ExecutionResult
from flaude._model.run_result import RunResult
from flaude._recovery.file_names import attempt_file, collected_file, run_folder
from flaude._run.checkpoint import CollectedWork, dump_collected
from flaude._run.recorder import RunRecorder, StoredCheckpoint
from flaude.events import Event
from flaude.events.codec import dump_event, kind_of
from flaude.journal.entries import CheckpointNote, ControlRequest, EndNote, EventNote, Note, OutcomeNote
from flaude.journal.protocol import Journal

_log = logging.getLogger("flaude.journal")

LEASE_S = 15.0
_RENEW_S = 2.0
_GATHER_S = 0.3
_AGAIN_S = 2.0
_LAST_S = 10.0
_MOST_WAITING = 20_000
_LONGEST_TEXT = 256 * 1024
_FILES_AT_ONCE = 4  # each is in memory several times while it is written


class JournalWriter:
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
        self._lost: Callable[[LeaseLostError], None] = _noop
        self._wished: Callable[[ControlRequest], None] = _noop
        self._notes: list[Note] = []
        self._moved: dict[int, _RunRecord] = {}
        self._told = self._written = 0
        self._something = anyio.Event()
        self._writing = anyio.Lock()
        self._files = anyio.CapacityLimiter(_FILES_AT_ONCE)
        self._said = ""

    def run(self, index: int) -> RunRecorder:
        """What takes the record of one run."""
        return _RunRecord(self, index)

    @asynccontextmanager
    async def going_on(
        self, lost: Callable[[LeaseLostError], None], wished: Callable[[ControlRequest], None]
    ) -> AsyncIterator[None]:
        """Write what is told, and keep hold of the batch, until the block is left; then write the rest.

        Args:
            lost: Called when somebody else has taken the batch.
            wished: Called with what others want.
        """
        self._lost, self._wished = lost, wished
        # Shielded from cancellation: cancelled runs report events until they end.
        scope = anyio.CancelScope(shield=True)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._go_on, scope)
            try:
                yield
            finally:
                scope.cancel()
                with anyio.CancelScope(shield=True), anyio.move_on_after(_LAST_S):
                    await self.quietly(self.durable)

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
        """Return when all that was told before is written, and the batch is still this process's.

        Raises:
            LeaseLostError: Another one has it.
            JournalError: It could not be written.
        """
        # Write even when the queue is empty: only the journal knows whether we still hold the lease.
        asked = float("-inf")
        while anyio.current_time() - asked > LEASE_S:  # suspended for longer than a lease meanwhile: ask again
            asked = anyio.current_time()
            self._told += 1
            mark = self._told
            async with self._writing:
                if self._written < mark:
                    await self._write()

    async def _write(self) -> None:
        """Write what there is; what could not be written stays."""
        notes, moved, told = self._notes, self._moved, self._told
        self._notes, self._moved = [], {}
        if self._something.is_set():
            self._something = anyio.Event()
        try:
            # Taken now, in one go: a checkpoint's offset must be that of the events before it, and of no other.
            points = [note for record in moved.values() if (note := record.note()) is not None]
            with anyio.CancelScope(shield=True):
                await self._journal.write(self._batch, self._owner, [*notes, *points])
        except LeaseLostError as error:
            self._lost(error)
            raise
        except BaseException as error:
            self._notes, self._moved = notes + self._notes, moved | self._moved
            self._something.set()
            if isinstance(error, JournalError) or not isinstance(error, Exception):
                raise
            raise JournalError(f"journal: {type(error).__name__}: {error}") from error
        self._written = told
        self._said = ""

    async def _write_on(self) -> None:
        while True:
            await self._something.wait()
            await anyio.sleep(_GATHER_S)
            if not await self.quietly(self.durable):
                await anyio.sleep(_AGAIN_S)

    async def _hold_on(self) -> None:
        while True:
            try:
                for wish in await self._journal.renew(self._batch, self._owner, LEASE_S):
                    self._wished(wish)
            except LeaseLostError as error:
                self._lost(error)
                return
            except Exception as error:  # noqa: BLE001  # whatever a journal does, the runs go on
                self._say(error)
            await anyio.sleep(_RENEW_S)

    async def put(self, name: str, content: Callable[[], bytes]) -> bool:
        """Keep a file; whether it is kept. One that cannot be is said.

        Args:
            name: Its name.
            content: Makes what is in it, in a worker thread: it may be large, and the other runs go on.
        """

        async def write() -> None:
            made = await anyio.to_thread.run_sync(content)
            # No file knows who holds the batch: one that another process has written since must not be replaced.
            await self.durable()
            await self._journal.put(self._batch, name, made)

        async with self._files:
            return await self.quietly(write)

    async def drop(self, name: str) -> None:
        """Remove a file."""
        await self.quietly(lambda: self._journal.drop(self._batch, name))

    async def quietly(self, write: Callable[[], Any]) -> bool:
        """Write something; whether it was done. What keeps it from being done is said, and raises nothing."""
        try:
            await write()
        except LeaseLostError:  # told already
            return False
        except Exception as error:  # noqa: BLE001  # whatever a journal does, the runs go on
            self._say(error)
            return False
        return True

    def _say(self, error: Exception) -> None:
        if self._said != (said := str(error)):  # once, not every two seconds for as long as a disk is full
            self._said = said
            _log.error("batch %s: %s", self._batch, said)  # a sentence for people


def _noop(_told: object) -> None:
    pass


class _RunRecord:
    """The record of one run in its batch's."""

    def __init__(self, writer: JournalWriter, index: int) -> None:
        self._writer = writer
        self.index = index
        self.checkpoint: Callable[[], StoredCheckpoint] | None = None
        self._last: Event | None = None

    def note(self) -> CheckpointNote | None:
        """How far the run is now."""
        if self.checkpoint is None:
            return None
        phase, point = self.checkpoint()
        return CheckpointNote(self.index, phase, point)

    def event(self, event: Event) -> None:
        if event is self._last:
            return
        # The result is a file, and may be large.
        data = _short(dump_event(event, without="result"))
        self._writer.note(EventNote(self.index, event.at, kind_of(event), data))

    def moved(self) -> None:
        self._writer.moved(self)

    async def durable(self) -> None:
        await self._writer.durable()

    async def collected(self, attempt: int, collected: CollectedWork) -> bool:
        return await self._writer.put(collected_file(self.index, attempt), lambda: _bytes(dump_collected(collected)))

    async def attempted(self, number: int, brought: RunResult) -> None:
        await self._writer.put(attempt_file(self.index, number), lambda: brought.model_dump_json().encode())

    async def over(self, result: ExecutionResult, last: Event | None = None) -> None:
        run, folder = result.run_result, run_folder(self.index)
        for number, patch in enumerate(run.patches if run else ()):
            if patch.diff:
                name = patch.path.rstrip("/").rpartition("/")[2] or "repo"
                await self._writer.put(f"{folder}/{number}-{name}.patch", partial(bytes, patch.diff))
        if not await self._writer.put(f"{folder}/result.json", lambda: _bytes(dump_result(result))):
            return  # it stays open: whoever takes it up makes its result once more of what its machine has given
        # Both in one write: `resume` writes no events of a run that has a result.
        self._writer.note(OutcomeNote(self.index, outcome(result), result.success, result.cost_usd))
        if last is not None:
            self.event(last)
            self._last = last
        if await self._writer.quietly(self.durable):
            for attempt in result.attempts:
                await self._writer.drop(collected_file(self.index, attempt.number))


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
        "app": run.app if run else "",
        "changed": sum(len(patch.changes) for patch in run.patches) if run else 0,
        "cost_usd": result.cost_usd,
    }


def _bytes(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _short(value: Any) -> Any:
    """The same with the beginnings of its longest texts."""
    if isinstance(value, str):
        return value if len(value) <= _LONGEST_TEXT else f"{value[:_LONGEST_TEXT]}…"
    if isinstance(value, list):
        return [_short(one) for one in value]
    if isinstance(value, dict):
        return {name: _short(one) for name, one in value.items()}
    return value
