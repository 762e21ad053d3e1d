"""From the version of a journal to the one that this flaude knows."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from flaude.journal.sql_files import blocks, statements


def known_steps() -> tuple[str, ...]:
    """The scripts that lead from each version to the next, from an empty file on."""
    return tuple(blocks("schema.sql", "version").values())


def version_of(connection: sqlite3.Connection) -> int:
    """The version of a journal; 0 for an empty file."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def migrate(connection: sqlite3.Connection, steps: Sequence[str]) -> None:
    """Bring a journal to version `len(steps)`, or leave it as it was: all steps are one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for script in steps[version_of(connection) :]:
            for statement in statements(script):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(steps)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
