"""A look at the journal's folder from outside, which changes nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from flaude._model.errors import JournalError
from flaude.journal.database import Database
from flaude.journal.migrating import known_steps


@dataclass(frozen=True)
class JournalLook:
    """What was seen.

    Attributes:
        folder: Where the journal is, or is to be.
        version: Its version; `None` when there is none yet.
        known: The version that this flaude knows.
        problem: Why it cannot be used, in a sentence; empty when it can.
    """

    folder: Path
    version: int | None
    known: int
    problem: str = ""


def look(folder: Path) -> JournalLook:
    """Look at the journal in a folder; blocking, for a worker thread."""
    known, database, version = len(known_steps()), Database(folder), None
    try:
        if database.file.exists():
            version = database.version_on_disk()
            database.check_version(version, known)
    except JournalError as error:
        return JournalLook(folder, version, known, str(error))
    except OSError as error:
        return JournalLook(folder, None, known, f"{database.file}: {error.strerror or error}")
    return JournalLook(folder, version, known, _unwritable(folder))


def _unwritable(folder: Path) -> str:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        return f"{there} is no folder"
    return "" if os.access(there, os.W_OK | os.X_OK) else f"{there} cannot be written"
