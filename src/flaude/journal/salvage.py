"""What can still be read of a damaged journal, in a new one."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from flaude._model.errors import JournalError
from flaude.journal.migrating import migrate, version_of
from flaude.journal.rules import from_text

_STRIDE = 1024
_GIVEN_UP = 32
"""A range as short as this whose ends and whole cannot be read is left out: whoever looks at every row of a file that
has lost its root looks for hours."""

_SMALLEST_ROW = 32  # bytes, on average
_JSON = frozenset({"settings", "stopped_by", "tag", "request", "checkpoint", "outcome", "data"})


def salvage(damaged: Path, new: Path, steps: Sequence[str]) -> dict[str, int]:
    """Make a journal at `new` of all rows of `damaged` that can be read.

    Args:
        damaged: A copy of the damaged database, which is changed; it may be no database at all.
        new: A file that is not there.
        steps: See `migrate`; the new journal has the version of the damaged one.

    Returns:
        For each table the number of rows that were carried over.
    """
    _lengthen(damaged)
    with closing(sqlite3.connect(damaged, isolation_level=None)) as old:
        try:
            version, there = version_of(old) or len(steps), set(_tables(old))
        except sqlite3.Error:
            version, there = len(steps), set()
        highest = damaged.stat().st_size // _SMALLEST_ROW
        with closing(sqlite3.connect(new, isolation_level=None)) as fresh:
            migrate(fresh, steps[:version])
            counts = {table: _carry(old, fresh, table, highest) for table in _tables(fresh) if table in there}
            # A row that belongs to a lost one is of no use to anybody.
            fresh.execute("BEGIN")
            for table, rowid, *_ in fresh.execute("PRAGMA foreign_key_check").fetchall():
                counts[table] -= fresh.execute(f"DELETE FROM {table} WHERE rowid = ?", (rowid,)).rowcount  # noqa: S608
            fresh.execute("COMMIT")
    return counts


def _lengthen(damaged: Path) -> None:
    """As long as its header says: SQLite reads nothing of a file whose end is missing."""
    with damaged.open("r+b") as file:
        header = file.read(32)
        page, pages = int.from_bytes(header[16:18], "big"), int.from_bytes(header[28:32], "big")
        with suppress(OSError):  # what says so may be what is damaged
            file.truncate(max(file.seek(0, os.SEEK_END), pages * (65536 if page == 1 else page)))


def _tables(connection: sqlite3.Connection) -> list[str]:
    found = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite@_%' ESCAPE '@'"
    return [name for (name,) in connection.execute(found)]


def _carry(old: sqlite3.Connection, fresh: sqlite3.Connection, table: str, highest: int) -> int:
    columns = [name for (name,) in fresh.execute("SELECT name FROM pragma_table_info(?)", (table,))]
    listed, marks = ", ".join(columns), ", ".join("?" * len(columns))
    # By row numbers and not by an index, which may be what is damaged.
    select = f"SELECT {listed} FROM {table} NOT INDEXED WHERE rowid BETWEEN ? AND ? ORDER BY rowid"  # noqa: S608
    insert = f"INSERT OR IGNORE INTO {table} ({listed}) VALUES ({marks})"  # noqa: S608
    try:
        (last,) = old.execute(f"SELECT max(rowid) FROM {table}").fetchone()  # noqa: S608
    except sqlite3.Error:
        last = highest
    carried = 0
    fresh.execute("BEGIN")
    for first in range(1, (last or 0) + 1, _STRIDE):
        for row in _readable(old, select, first, first + _STRIDE - 1):
            if _sound(columns, row):
                carried += _insert(fresh, insert, row)
    fresh.execute("COMMIT")
    return carried


def _readable(old: sqlite3.Connection, select: str, first: int, last: int) -> Iterator[tuple[Any, ...]]:
    """The rows between two numbers: where they cannot be read together, those of each half."""
    rows = _read(old, select, first, last)
    if rows is not None:
        yield from rows
    elif first < last:
        ends = _read(old, select, first, first), _read(old, select, last, last)
        if last - first < _GIVEN_UP and ends == (None, None):
            return
        middle = (first + last) // 2
        yield from _readable(old, select, first, middle)
        yield from _readable(old, select, middle + 1, last)


def _read(old: sqlite3.Connection, select: str, first: int, last: int) -> list[tuple[Any, ...]] | None:
    try:
        return old.execute(select, (first, last)).fetchall()
    except sqlite3.Error:
        return None


def _sound(columns: Sequence[str], row: Sequence[Any]) -> bool:
    try:
        for column, value in zip(columns, row, strict=True):
            if column in _JSON and value is not None:
                from_text(value)
    except (JournalError, TypeError):
        return False
    return True


def _insert(fresh: sqlite3.Connection, insert: str, row: Sequence[Any]) -> int:
    try:
        return fresh.execute(insert, row).rowcount
    except sqlite3.Error:  # a value of another type than the table has
        return 0
