"""`Journal`: the durable record of batches, so that no paid work is lost with the process that ordered it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from flaude.journal.entries import BatchEntry, ControlRequest, EventEntry, LeaseOwner, Note, RunEntry


class Journal(Protocol):
    """A durable record of batches, their runs and what happened to them.

    One process at a time *holds* a batch and writes to it. It holds it by a lease, which it renews from time to time; a
    lease that has run out, or whose holder is known to be dead, may be taken over, and the first holder's next write is
    refused with `LeaseLostError`. Reading needs no lease.

    Whatever a method has written is durable when it returns. Times are UTC. Use it as `async with`; it may be entered
    several times at once, by several batches of one process.

    Every method raises `JournalError` when the record cannot be read or written.
    """

    async def __aenter__(self) -> Self:
        """Open it.

        Raises:
            JournalError: It cannot be opened, or was written by a newer flaude.
        """

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it, when it was entered no other time."""

    async def add(self, batch: BatchEntry, runs: Sequence[RunEntry], holder: LeaseOwner, lease_s: float) -> None:
        """A new batch with all of its runs, held by `holder` from the start.

        Raises:
            JournalError: There is a batch of that id.
        """

    async def hold(
        self, batch: str, holder: LeaseOwner, lease_s: float, *, is_dead: Callable[[LeaseOwner], bool]
    ) -> None:
        """Take a batch, unless somebody else holds it whose lease goes on and who is not dead. It is not `ended` then.

        Args:
            batch: Its whole id.
            holder: Who takes it.
            lease_s: For how many seconds.
            is_dead: Whether the present holder is surely dead.

        Raises:
            BatchHeldError: Somebody else holds it.
            NoSuchBatchError: There is no such batch.
        """

    async def renew(self, batch: str, owner: str, lease_s: float) -> list[ControlRequest]:
        """Hold it for so many seconds from now on; returns what others want, once each.

        Raises:
            LeaseLostError: Somebody else has taken it.
        """

    async def release(self, batch: str, owner: str) -> None:
        """Hold it no longer; no error when somebody else has taken it."""

    async def write(self, batch: str, owner: str, notes: Sequence[Note]) -> None:
        """Keep all notes, in their order, or none.

        Raises:
            LeaseLostError: Somebody else has taken it.
        """

    async def ask(self, batch: str, wish: ControlRequest) -> None:
        """Let the holder of a batch know a wish; one that nobody has seen is dropped when the batch is next held."""

    async def batches(self) -> list[BatchEntry]:
        """All batches, the newest first."""

    async def batch(self, id_: str) -> BatchEntry:
        """The batch of that id, or whose id alone begins like that; `last` is the newest one.

        Raises:
            NoSuchBatchError: There is none, or several begin like that.
        """

    async def runs(self, batch: str) -> list[RunEntry]:
        """All runs of a batch, by their index."""

    async def events(
        self, batch: str, *, index: int | None = None, after: int = 0, limit: int | None = None
    ) -> list[EventEntry]:
        """Events of a batch, or of one of its runs, whose number is above `after`, in their order."""

    async def put(self, batch: str, name: str, content: bytes) -> None:
        """Keep a file of a batch, whole or not at all; `name` has `/` between folders. It replaces one of that name."""

    async def get(self, batch: str, name: str) -> bytes | None:
        """A file's content; `None` when there is none."""

    async def drop(self, batch: str, name: str) -> None:
        """Remove a file, if it is there."""

    def folder(self, batch: str) -> Path | None:
        """Where the files of a batch lie, for people; `None` when they lie nowhere."""
