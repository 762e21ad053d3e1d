"""The durable record of batches: the `Journal` protocol, SQLite, and a twin in memory.

async with SqliteJournal() as journal:
    for batch in await journal.batches():
        print(batch.id, batch.counts)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flaude.journal.entries import (
    BatchEntry,
    CheckpointNote,
    Counts,
    EndNote,
    EventEntry,
    EventNote,
    Holder,
    Json,
    Note,
    OutcomeNote,
    RunEntry,
    Wish,
)
from flaude.journal.protocol import Journal

if TYPE_CHECKING:
    from flaude.journal.memory import MemoryJournal
    from flaude.journal.sqlite import SqliteJournal

__all__ = [
    "BatchEntry",
    "CheckpointNote",
    "Counts",
    "EndNote",
    "EventEntry",
    "EventNote",
    "Holder",
    "Journal",
    "Json",
    "MemoryJournal",
    "Note",
    "OutcomeNote",
    "RunEntry",
    "SqliteJournal",
    "Wish",
]


def __getattr__(name: str) -> Any:
    # When they are asked for: whoever only knows what a journal keeps needs no database.
    if name == "MemoryJournal":
        from flaude.journal.memory import MemoryJournal  # noqa: PLC0415

        return MemoryJournal
    if name == "SqliteJournal":
        from flaude.journal.sqlite import SqliteJournal  # noqa: PLC0415

        return SqliteJournal
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
