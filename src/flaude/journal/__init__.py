"""The durable record of batches: the `Journal` protocol, SQLite, and a twin in memory.

async with SqliteJournal() as journal:
    for batch in await journal.batches():
        print(batch.id, batch.counts)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flaude._lazy import names_of
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
from flaude.journal.protocol import Journal

if TYPE_CHECKING:
    from flaude.journal.memory import MemoryJournal
    from flaude.journal.sqlite import SqliteJournal

__all__ = [
    "BatchEntry",
    "CheckpointNote",
    "ControlRequest",
    "Counts",
    "EndNote",
    "EventEntry",
    "EventNote",
    "Journal",
    "Json",
    "LeaseOwner",
    "MemoryJournal",
    "Note",
    "OutcomeNote",
    "RunEntry",
    "SqliteJournal",
]

# Whoever only knows what a journal keeps needs no database.
_MODULE_OF = {"MemoryJournal": "flaude.journal.memory", "SqliteJournal": "flaude.journal.sqlite"}

if not TYPE_CHECKING:
    __getattr__ = names_of(__name__, _MODULE_OF)
