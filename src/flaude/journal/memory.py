"""`MemoryJournal`: the journal's twin, which ends with its process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from anyio.lowlevel import checkpoint

from flaude._model.errors import JournalError
from flaude.journal.entries import (
    BatchEntry,
    CheckpointNote,
    ControlRequest,
    Counts,
    EndNote,
    EventEntry,
    EventNote,
    LeaseOwner,
    Note,
    OutcomeNote,
    RunEntry,
)
from flaude.journal.rules import (
    choose,
    from_text,
    is_held,
    is_lost,
    no_such_batch,
    no_such_run,
    not_open,
    parts_of,
    there_already,
    to_text,
    utc_now,
)


@dataclass
class _Batch:
    number: int
    entry: BatchEntry
    runs: dict[int, RunEntry]
    wishes: list[ControlRequest] = field(default_factory=list)


class MemoryJournal:
    """A journal for tests, and for whoever wants its behaviour without a file. See `Journal` for its methods.

    Args:
        clock: The wall clock, in UTC: leases go by it.
    """

    def __init__(self, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock
        self._entered = 0
        self._batches = dict[str, _Batch]()
        self._events = list[tuple[str, EventEntry]]()
        self._files = dict[tuple[str, ...], bytes]()

    async def __aenter__(self) -> Self:
        """See `Journal`."""
        await checkpoint()
        self._entered += 1
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """See `Journal`; what it holds stays as long as the object does."""
        self._entered -= 1

    async def add(self, batch: BatchEntry, runs: Sequence[RunEntry], holder: LeaseOwner, lease_s: float) -> None:
        """See `Journal`."""
        await self._begin()
        if batch.id in self._batches:
            raise there_already(batch.id)
        now = self._clock()
        entry = replace(
            batch,
            began=batch.began.astimezone(UTC),
            settings=_copy(batch.settings),
            holder=holder,
            held_until=now + timedelta(seconds=lease_s),
        )
        kept = {
            run.index: replace(
                run,
                request=_copy(run.request),
                checkpoint=_copy(run.checkpoint),
                outcome=_copy(run.outcome),
                updated=now,
            )
            for run in runs
        }
        if len(kept) < len(runs):
            raise JournalError(f"batch {batch.id!r}: two of its runs have the same index")
        self._batches[batch.id] = _Batch(len(self._batches), entry, kept)

    async def hold(
        self, batch: str, holder: LeaseOwner, lease_s: float, *, is_dead: Callable[[LeaseOwner], bool]
    ) -> None:
        """See `Journal`."""
        await self._begin()
        kept, now = self._kept(batch), self._clock()
        present, until = kept.entry.holder, kept.entry.held_until
        if present is not None and until is not None:
            free = until <= now or present.owner == holder.owner or is_dead(present)
            if not free:
                raise is_held(batch, present, until)
        until = now + timedelta(seconds=lease_s)
        kept.entry = replace(kept.entry, holder=holder, held_until=until, ended=None, stopped_by="")
        kept.wishes.clear()

    async def renew(self, batch: str, owner: str, lease_s: float) -> list[ControlRequest]:
        """See `Journal`."""
        await self._begin()
        kept = self._held(batch, owner)
        kept.entry = replace(kept.entry, held_until=self._clock() + timedelta(seconds=lease_s))
        wishes, kept.wishes = kept.wishes, []
        return wishes

    async def release(self, batch: str, owner: str) -> None:
        """See `Journal`."""
        await self._begin()
        kept = self._batches.get(batch)
        if kept is not None and kept.entry.holder is not None and kept.entry.holder.owner == owner:
            kept.entry = replace(kept.entry, holder=None, held_until=None)

    async def write(self, batch: str, owner: str, notes: Sequence[Note]) -> None:
        """See `Journal`."""
        await self._begin()
        kept, now = self._held(batch, owner), self._clock()
        entry, runs, events = kept.entry, dict(kept.runs), list[tuple[str, EventEntry]]()
        for note in notes:
            if isinstance(note, EndNote):
                entry = replace(entry, ended=note.at.astimezone(UTC), stopped_by=note.stopped_by)
                continue
            run = runs.get(note.index)
            if run is None:
                raise no_such_run(batch, note.index)
            match note:
                case EventNote(index=index, at=at, kind=kind, data=data):
                    number = len(self._events) + len(events) + 1
                    events.append((batch, EventEntry(number, index, at.astimezone(UTC), kind, _copy(data))))
                case CheckpointNote(phase=phase, checkpoint=where):
                    runs[note.index] = replace(run, phase=phase, checkpoint=_copy(where), updated=now)
                case OutcomeNote(outcome=outcome, success=success, cost_usd=cost):
                    runs[note.index] = replace(run, outcome=_copy(outcome), success=success, cost_usd=cost, updated=now)
        kept.entry, kept.runs = entry, runs
        self._events += events

    async def ask(self, batch: str, wish: ControlRequest) -> None:
        """See `Journal`."""
        await self._begin()
        self._kept(batch).wishes.append(wish)

    async def batches(self) -> list[BatchEntry]:
        """See `Journal`."""
        await self._begin()
        return [_counted(kept) for kept in self._newest_first()]

    async def batch(self, id_: str) -> BatchEntry:
        """See `Journal`."""
        await self._begin()
        return _counted(self._batches[choose([kept.entry.id for kept in self._newest_first()], id_)])

    async def runs(self, batch: str) -> list[RunEntry]:
        """See `Journal`."""
        await self._begin()
        return sorted(self._kept(batch).runs.values(), key=lambda run: run.index)

    async def events(
        self, batch: str, *, index: int | None = None, after: int = 0, limit: int | None = None
    ) -> list[EventEntry]:
        """See `Journal`."""
        await self._begin()
        self._kept(batch)
        found = [
            event for of, event in self._events if of == batch and index in (None, event.index) and event.number > after
        ]
        return found if limit is None else found[:limit]

    async def put(self, batch: str, name: str, content: bytes) -> None:
        """See `Journal`."""
        await self._begin()
        path = _path(batch, name)
        for other in self._files:
            shorter = min(len(other), len(path))
            if other != path and other[:shorter] == path[:shorter]:
                raise JournalError(f"journal: {name!r} is a folder, or lies in a file")
        self._files[path] = bytes(content)

    async def get(self, batch: str, name: str) -> bytes | None:
        """See `Journal`."""
        await self._begin()
        return self._files.get(_path(batch, name))

    async def drop(self, batch: str, name: str) -> None:
        """See `Journal`."""
        await self._begin()
        self._files.pop(_path(batch, name), None)

    def folder(self, batch: str) -> Path | None:  # noqa: ARG002  # as the protocol has it
        """See `Journal`."""
        return None

    async def _begin(self) -> None:
        await checkpoint()
        if not self._entered:
            raise not_open()

    def _kept(self, batch: str) -> _Batch:
        kept = self._batches.get(batch)
        if kept is None:
            raise no_such_batch(batch)
        return kept

    def _held(self, batch: str, owner: str) -> _Batch:
        kept = self._kept(batch)
        if kept.entry.holder is None or kept.entry.holder.owner != owner:
            raise is_lost(batch)
        return kept

    def _newest_first(self) -> list[_Batch]:
        return sorted(self._batches.values(), key=lambda kept: (kept.entry.began, kept.number), reverse=True)


def _copy(value: Any) -> Any:
    """What a file would give back."""
    return None if value is None else from_text(to_text(value))


def _path(batch: str, name: str) -> tuple[str, ...]:
    of, *more = parts_of(batch)
    if more:
        raise JournalError(f"journal: {batch!r} is no batch's id")
    return (of, *parts_of(name))


def _counted(kept: _Batch) -> BatchEntry:
    runs = kept.runs.values()
    outcomes = [run.success for run in runs]
    return replace(
        kept.entry,
        counts=Counts(len(outcomes), outcomes.count(True), outcomes.count(False)),
        cost_usd=sum(run.cost_usd or 0.0 for run in runs),
    )
