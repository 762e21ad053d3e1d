"""Journals for tests: the entries that most of them need, and a wall clock in the hands of a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flaude.journal import BatchEntry, Holder, Journal, MemoryJournal, RunEntry, SqliteJournal

BEGAN = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
ME = Holder("me", "here", 1, "boot:1:1")
OTHER = Holder("other", "here", 2, "boot:1:2")


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


def nobody_is_dead(_: Holder) -> bool:
    """Nothing is known of any process."""
    return False


def make_journal(kind: str, folder: Path, clock: Callable[[], datetime]) -> Journal:
    """An empty journal: `sqlite` in a folder, or `memory`."""
    return SqliteJournal(folder, clock=clock) if kind == "sqlite" else MemoryJournal(clock=clock)
