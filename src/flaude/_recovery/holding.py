"""Holding a batch in its journal, from its first word to its last."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import anyio
import anyio.to_thread

from flaude._model.codec import kept_request
from flaude._model.request import ExecutionRequest
from flaude._recovery.journal_writer import LEASE_S, JournalWriter
from flaude.journal.entries import BatchEntry, RunEntry
from flaude.journal.holder import is_dead, this_process
from flaude.journal.protocol import Journal

_LAST_S = 10.0


@asynccontextmanager
async def start_batch(
    journal: Journal, entry: BatchEntry, requests: Mapping[int, ExecutionRequest]
) -> AsyncIterator[JournalWriter]:
    """A new batch in the journal, held by this process until the block is left.

    Raises:
        JournalError: It cannot be written.
    """
    holder = this_process()
    async with journal:
        runs = await anyio.to_thread.run_sync(_entries, requests)  # of a thousand long prompts, some 50 ms
        await journal.add(entry, runs, holder, LEASE_S)
        async with _released(journal, entry.id, holder.owner):
            yield JournalWriter(journal, entry.id, holder.owner)


def _entries(requests: Mapping[int, ExecutionRequest]) -> list[RunEntry]:
    return [RunEntry(index, one.tag, kept_request(one)) for index, one in requests.items()]


@asynccontextmanager
async def take_over(journal: Journal, batch: str) -> AsyncIterator[JournalWriter]:
    """A batch of the journal, held by this process until the block is left.

    Raises:
        NoSuchBatchError: There is no such batch.
        BatchHeldError: Another process carries it out.
        JournalError: The journal cannot be written.
    """
    holder = this_process()
    async with journal:
        await journal.hold(batch, holder, LEASE_S, is_dead=is_dead)
        async with _released(journal, batch, holder.owner):
            yield JournalWriter(journal, batch, holder.owner)


@asynccontextmanager
async def _released(journal: Journal, batch: str, owner: str) -> AsyncIterator[None]:
    try:
        yield
    finally:
        with anyio.move_on_after(_LAST_S, shield=True):
            with suppress(Exception):  # the lease runs out by itself, and the results are here
                await journal.release(batch, owner)
