"""The user's journal, and a batch of it, for the commands that read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from flaude._recovery.records import BatchRecord, read_batch
from flaude.journal import SqliteJournal


@asynccontextmanager
async def recorded(batch: str) -> AsyncIterator[BatchRecord]:
    """A batch by its id, by how that begins, or `last`; its journal is open until the block is left.

    Raises:
        NoSuchBatchError: There is no such batch.
        JournalError: The journal cannot be read.
    """
    async with SqliteJournal() as journal:
        yield await read_batch(journal, batch)
