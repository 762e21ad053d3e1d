"""`SqliteJournal`: the journal in a file of the user's."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, assert_never

import anyio
import anyio.to_thread

from flaude._model.data_folder import home_folder
from flaude.journal.batch_files import BatchFiles
from flaude.journal.database import Database
from flaude.journal.entries import (
    BatchEntry,
    CheckpointNote,
    ControlRequest,
    Counts,
    EndNote,
    EventEntry,
    EventNote,
    Json,
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
    there_already,
    to_text,
    utc_now,
)

_T = TypeVar("_T")


class SqliteJournal:
    """The journal in a folder of the user's: `journal.sqlite3`, and the files of each batch in `batches/ID`.

    All processes of a computer may use it at once. See `Journal` for its methods.

    Args:
        folder: The folder; else `FLAUDE_HOME`, else `flaude` in the user's state folder.
        clock: The wall clock, in UTC: leases go by it.

    Raises:
        JournalError: There is no folder to keep it in.
    """

    def __init__(self, folder: Path | str | None = None, *, clock: Callable[[], datetime] = utc_now) -> None:
        where = home_folder() if folder is None else Path(folder).absolute()
        self._database = Database(where)
        self._files = BatchFiles(where / "batches")
        self._clock = clock
        # One connection is one thread's at a time, and SQLite writes one transaction at a time anyway.
        self._one = anyio.CapacityLimiter(1)
        self._entered = 0

    async def __aenter__(self) -> Self:
        """See `Journal`."""
        self._entered += 1
        try:
            await self._run(self._database.open)
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """See `Journal`."""
        await self._leave()

    async def add(self, batch: BatchEntry, runs: Sequence[RunEntry], holder: LeaseOwner, lease_s: float) -> None:
        """See `Journal`."""
        await self._run(self._add, batch, runs, holder, lease_s)

    async def hold(
        self, batch: str, holder: LeaseOwner, lease_s: float, *, is_dead: Callable[[LeaseOwner], bool]
    ) -> None:
        """See `Journal`."""
        await self._run(self._hold, batch, holder, lease_s, is_dead)

    async def renew(self, batch: str, owner: str, lease_s: float) -> list[ControlRequest]:
        """See `Journal`."""
        return await self._run(self._renew, batch, owner, lease_s)

    async def release(self, batch: str, owner: str) -> None:
        """See `Journal`."""
        await self._run(self._release, batch, owner)

    async def write(self, batch: str, owner: str, notes: Sequence[Note]) -> None:
        """See `Journal`."""
        await self._run(self._write, batch, owner, notes)

    async def ask(self, batch: str, wish: ControlRequest) -> None:
        """See `Journal`."""
        await self._run(self._ask, batch, wish)

    async def batches(self) -> list[BatchEntry]:
        """See `Journal`."""
        return await self._run(self._batches)

    async def batch(self, id_: str) -> BatchEntry:
        """See `Journal`."""
        return await self._run(self._batch, id_)

    async def runs(self, batch: str) -> list[RunEntry]:
        """See `Journal`."""
        return await self._run(self._runs, batch)

    async def events(
        self, batch: str, *, index: int | None = None, after: int = 0, limit: int | None = None
    ) -> list[EventEntry]:
        """See `Journal`."""
        return await self._run(self._events, batch, index, after, limit)

    async def put(self, batch: str, name: str, content: bytes) -> None:
        """See `Journal`."""
        await self._on_disk(self._files.put, batch, name, content)

    async def get(self, batch: str, name: str) -> bytes | None:
        """See `Journal`."""
        return await self._on_disk(self._files.get, batch, name)

    async def drop(self, batch: str, name: str) -> None:
        """See `Journal`."""
        await self._on_disk(self._files.drop, batch, name)

    def folder(self, batch: str) -> Path | None:
        """See `Journal`."""
        return self._files.folder(batch)

    # --- from the event loop to a worker thread ---

    async def _run(self, call: Callable[..., _T], *arguments: Any) -> _T:
        return await anyio.to_thread.run_sync(call, *arguments, limiter=self._one)

    async def _on_disk(self, call: Callable[..., _T], *arguments: Any) -> _T:
        if not self._entered:
            raise not_open()
        return await anyio.to_thread.run_sync(call, *arguments)

    async def _leave(self) -> None:
        self._entered -= 1
        with anyio.CancelScope(shield=True):
            await self._run(self._close_if_unused)

    def _close_if_unused(self) -> None:
        # It may have been entered again while this one waited for its turn.
        if self._entered == 0:
            self._database.close()

    # --- in the worker thread ---

    def _add(self, batch: BatchEntry, runs: Sequence[RunEntry], holder: LeaseOwner, lease_s: float) -> None:
        now = self._clock()
        with self._database.writing() as database:
            values = {
                "batch": batch.id,
                "app": batch.app,
                "began": _stored(batch.began),
                "settings": to_text(batch.settings),
                "ended": _stored_or_none(batch.ended),
                "stopped_by": to_text(batch.stopped_by),
                **_held_by(holder, now, lease_s),
            }
            if not database.execute(self._database.sql["add_batch"], values).rowcount:
                raise there_already(batch.id)
            database.executemany(self._database.sql["add_run"], [_run_values(batch.id, run, now) for run in runs])

    def _hold(self, batch: str, holder: LeaseOwner, lease_s: float, is_dead: Callable[[LeaseOwner], bool]) -> None:
        now = self._clock()
        present = self._holder(batch)
        values = {
            "batch": batch,
            "nothing": to_text(""),
            "now": _stored(now),
            # The one who was looked at: whoever may have come after it is not known to be dead.
            "dead": present.owner if present is not None and is_dead(present) else None,
            **_held_by(holder, now, lease_s),
        }
        with self._database.writing() as database:
            if database.execute(self._database.sql["hold"], values).rowcount:
                database.execute(self._database.sql["forget_wishes"], {"batch": batch})
                return
            row = self._holder_row(database, batch)
            raise is_held(batch, _holder(row), _time(row["held_until"]))

    def _renew(self, batch: str, owner: str, lease_s: float) -> list[ControlRequest]:
        until = _stored(self._clock() + timedelta(seconds=lease_s))
        sql, named = self._database.sql, {"batch": batch, "owner": owner, "until": until}
        with self._database.writing() as database:
            if not database.execute(sql["renew"], named).rowcount:
                self._holder_row(database, batch)
                raise is_lost(batch)
            wishes = [ControlRequest(row["verb"], row["place"]) for row in database.execute(sql["wishes"], named)]
            if wishes:
                database.execute(sql["forget_wishes"], named)
        return wishes

    def _release(self, batch: str, owner: str) -> None:
        with self._database.writing() as database:
            database.execute(self._database.sql["release"], {"batch": batch, "owner": owner})

    def _write(self, batch: str, owner: str, notes: Sequence[Note]) -> None:
        now = self._clock()
        noted = [_note_values(batch, note, now) for note in notes]
        with self._database.writing() as database:
            if self._holder_row(database, batch)["owner"] != owner:
                raise is_lost(batch)
            for name, values in noted:
                try:
                    done = database.execute(self._database.sql[name], values).rowcount
                except sqlite3.IntegrityError:  # an event that refers to no run
                    done = 0
                if not done:
                    raise no_such_run(batch, values["place"])

    def _ask(self, batch: str, wish: ControlRequest) -> None:
        with self._database.writing() as database:
            self._holder_row(database, batch)
            values = {"batch": batch, "verb": wish.verb, "place": wish.index}
            database.execute(self._database.sql["wish"], values)

    def _batches(self) -> list[BatchEntry]:
        with self._database.reading() as database:
            return [_batch(row) for row in database.execute(self._database.sql["batches"], {"batch": None})]

    def _batch(self, id_: str) -> BatchEntry:
        with self._database.reading() as database:
            known = [row["id"] for row in database.execute(self._database.sql["ids"])]
            row = database.execute(self._database.sql["batches"], {"batch": choose(known, id_)}).fetchone()
            return _batch(row)

    def _runs(self, batch: str) -> list[RunEntry]:
        with self._database.reading() as database:
            self._holder_row(database, batch)
            return [_run(row) for row in database.execute(self._database.sql["runs"], {"batch": batch})]

    def _events(self, batch: str, index: int | None, after: int, limit: int | None) -> list[EventEntry]:
        name = "events" if index is None else "events_of_run"
        values = {"batch": batch, "place": index, "after": after, "limit": -1 if limit is None else limit}
        with self._database.reading() as database:
            self._holder_row(database, batch)
            return [_event(row) for row in database.execute(self._database.sql[name], values)]

    def _holder(self, batch: str) -> LeaseOwner | None:
        with self._database.reading() as database:
            row = self._holder_row(database, batch)
            return _holder(row) if row["owner"] is not None else None

    def _holder_row(self, database: sqlite3.Connection, batch: str) -> sqlite3.Row:
        row: sqlite3.Row | None = database.execute(self._database.sql["holder"], {"batch": batch}).fetchone()
        if row is None:
            raise no_such_batch(batch)
        return row


def _stored(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def _stored_or_none(time: datetime | None) -> str | None:
    return None if time is None else _stored(time)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _json_or_none(value: Json | None) -> str | None:
    return None if value is None else to_text(value)


def _held_by(holder: LeaseOwner, now: datetime, lease_s: float) -> dict[str, Any]:
    return {
        "owner": holder.owner,
        "host": holder.host,
        "pid": holder.pid,
        "process_began": holder.process_began,
        "until": _stored(now + timedelta(seconds=lease_s)),
    }


def _run_values(batch: str, run: RunEntry, now: datetime) -> dict[str, Any]:
    return {
        "batch": batch,
        "place": run.index,
        "tag": to_text(run.tag),
        "request": to_text(run.request),
        "phase": run.phase,
        "checkpoint": _json_or_none(run.checkpoint),
        "outcome": _json_or_none(run.outcome),
        "success": run.success,
        "cost_usd": run.cost_usd,
        "now": _stored(now),
    }


def _note_values(batch: str, note: Note, now: datetime) -> tuple[str, dict[str, Any]]:
    """The statement of a note, and its values."""
    match note:
        case EventNote():
            of_run = {"batch": batch, "place": note.index}
            return "note_event", {**of_run, "at": _stored(note.at), "kind": note.kind, "data": to_text(note.data)}
        case CheckpointNote():
            of_run = {"batch": batch, "place": note.index, "now": _stored(now)}
            return "note_checkpoint", {**of_run, "phase": note.phase, "checkpoint": to_text(note.checkpoint)}
        case OutcomeNote():
            of_run = {"batch": batch, "place": note.index, "now": _stored(now)}
            outcome = {"outcome": to_text(note.outcome), "success": note.success, "cost_usd": note.cost_usd}
            return "note_outcome", {**of_run, **outcome}
        case EndNote():
            return "note_end", {"batch": batch, "at": _stored(note.at), "stopped_by": to_text(note.stopped_by)}
    assert_never(note)


def _holder(row: sqlite3.Row) -> LeaseOwner:
    return LeaseOwner(row["owner"], row["host"], row["pid"], row["process_began"])


def _batch(row: sqlite3.Row) -> BatchEntry:
    return BatchEntry(
        id=row["id"],
        app=row["app"],
        began=_time(row["began"]),
        settings=from_text(row["settings"]),
        ended=None if row["ended"] is None else _time(row["ended"]),
        stopped_by=from_text(row["stopped_by"]),
        holder=None if row["owner"] is None else _holder(row),
        held_until=None if row["held_until"] is None else _time(row["held_until"]),
        counts=Counts(row["total"], row["succeeded"], row["failed"]),
        cost_usd=row["cost_usd"],
    )


def _run(row: sqlite3.Row) -> RunEntry:
    return RunEntry(
        index=row["place"],
        tag=from_text(row["tag"]),
        request=from_text(row["request"]),
        phase=row["phase"],
        checkpoint=None if row["checkpoint"] is None else from_text(row["checkpoint"]),
        outcome=None if row["outcome"] is None else from_text(row["outcome"]),
        success=None if row["success"] is None else bool(row["success"]),
        cost_usd=row["cost_usd"],
        updated=_time(row["updated"]),
    )


def _event(row: sqlite3.Row) -> EventEntry:
    return EventEntry(row["number"], row["place"], _time(row["at"]), row["kind"], from_text(row["data"]))
