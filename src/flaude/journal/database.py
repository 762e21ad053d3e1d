"""The SQLite file of a journal: opened, brought to the present version, mended. Blocking: for a worker thread."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from flaude._model.errors import JournalError
from flaude.journal.batch_files import sync_folder
from flaude.journal.folder_lock import FolderLock
from flaude.journal.migrating import known_steps, migrate, version_of
from flaude.journal.rules import not_open
from flaude.journal.salvage import salvage
from flaude.journal.sql_files import blocks

_PATIENCE_S = 10.0
_MAGIC = b"SQLite format 3\0"
_HEADER = 100
_VERSION_AT = slice(60, 64)
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_logger = logging.getLogger("flaude.journal")


class Database:
    """One connection to `journal.sqlite3` in a folder.

    A process that has it open holds a lock on the folder together with all others that do. Alone for a moment, it mends
    what was left in disorder: nobody must write to a file that is being replaced.

    Args:
        folder: The folder; it is made, for the user alone.
        steps: The scripts that lead from each version to the next; those of this flaude by default.
    """

    def __init__(self, folder: Path, steps: Sequence[str] | None = None) -> None:
        self.folder = folder
        self.file = folder / "journal.sqlite3"
        self.sql = dict[str, str]()
        self._steps = steps
        self._suspect = folder / "journal.damaged"
        self._lock = FolderLock(folder / "journal.lock", _PATIENCE_S)
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open it, unless it is open.

        Raises:
            JournalError: It cannot be.
        """
        if self._connection is not None:
            return
        self.sql = blocks("queries.sql", "name")
        try:
            self._make_folder()
            self._connection = self._opened(self._steps if self._steps is not None else known_steps())
        except OSError as error:
            self.close()
            where, why = error.filename or self.folder, error.strerror or error
            raise JournalError(f"journal {where}: {why}; set FLAUDE_HOME to a folder that can be written") from error
        except sqlite3.Error as error:
            self.close()
            raise self._told(error) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close it, if it is open."""
        connection, self._connection = self._connection, None
        try:
            if connection is not None:
                connection.close()
        finally:
            self._lock.release()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, for statements that only read.

        Raises:
            JournalError: What SQLite says, translated.
        """
        if self._connection is None:
            raise not_open()
        try:
            yield self._connection
        except (sqlite3.Error, UnicodeError, OverflowError) as error:
            raise self._told(error) from error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The connection in a transaction, which is on the disk in the end, or leaves nothing behind.

        Raises:
            JournalError: What SQLite says, translated.
        """
        with self.reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk has ended it already
                    connection.execute("ROLLBACK")
                raise

    def _make_folder(self) -> None:
        if not self.folder.is_dir():
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)

    def _opened(self, steps: Sequence[str]) -> sqlite3.Connection:
        alone = self._lock.acquire()
        # SQLite removes its log when the last one closes the file in order.
        left_open = self._log_of(self.file)[0].exists()
        os.close(os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self.check_version(self.version_on_disk(), len(steps))
        if alone and (left_open or self._suspect.exists()):
            self._mend_if_damaged(steps)
        try:
            connection, version = self._connected()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            if not self._lock.alone():
                raise self._told(error) from error
            self._mend(str(error), steps)
            connection, version = self._connected()
        try:
            self.check_version(version, len(steps))
            if version < len(steps):
                self._migrate(connection, steps)
            self._lock.share()
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection, steps: Sequence[str]) -> None:
        if not self._lock.alone():
            raise JournalError(f"journal {self.file}: an older flaude uses it; try again when that has ended")
        connection.execute("PRAGMA foreign_keys = OFF")  # a table that is made anew has others that refer to it
        migrate(connection, steps)
        connection.execute("PRAGMA foreign_keys = ON")

    def _connected(self) -> tuple[sqlite3.Connection, int]:
        connection = sqlite3.connect(self.file, isolation_level=None, check_same_thread=False)
        try:
            connection.row_factory = sqlite3.Row
            connection.execute(f"PRAGMA busy_timeout = {_PATIENCE_S * 1000:.0f}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            return connection, version_of(connection)
        except BaseException:
            connection.close()
            raise

    def version_on_disk(self) -> int:
        """The version in the file's header; 0 where that is none of a journal."""
        with self.file.open("rb") as file:
            header = file.read(_HEADER)
        return int.from_bytes(header[_VERSION_AT], "big") if header.startswith(_MAGIC) else 0

    def check_version(self, version: int, known: int) -> None:
        """See that this flaude knows a version.

        Raises:
            JournalError: It does not.
        """
        if version > known:
            raise JournalError(
                f"journal {self.file} was written by a newer flaude (journal version {version}, this one knows "
                f"{known}): upgrade flaude, or set FLAUDE_HOME to another folder"
            )

    def _mend_if_damaged(self, steps: Sequence[str]) -> None:
        check = "integrity_check" if self._suspect.exists() else "quick_check"
        connection = sqlite3.connect(self.file, isolation_level=None)
        try:
            (found,) = connection.execute(f"PRAGMA {check}(1)").fetchone()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            found = str(error)
        finally:
            connection.close()
        if found != "ok":
            self._mend(found, steps)
        self._suspect.unlink(missing_ok=True)

    def _mend(self, found: str, steps: Sequence[str]) -> None:
        """Put the damaged file aside, and what can be read of it into a new one; nobody else has it open."""
        aside = self._beside(f".damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
        fresh, copy = self._beside(".new"), self._beside(".copy")
        for leftover in (fresh, copy, *self._log_of(copy)):
            leftover.unlink(missing_ok=True)
        self._copy_to(aside)
        self._copy_to(copy)
        os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        carried = salvage(copy, fresh, steps)
        # A log that is left over would be taken for the new file's.
        for leftover in (*self._log_of(self.file), *self._log_of(copy), copy):
            leftover.unlink(missing_ok=True)
        fresh.replace(self.file)
        sync_folder(self.folder)
        rows = ", ".join(f"{count} {table}" for table, count in carried.items() if count)
        _logger.warning(
            "journal %s was damaged (%s). It is kept as %s; carried over into a new one: %s",
            self.file,
            found,
            aside.name,
            rows or "nothing, for nothing could be read",
        )

    def _copy_to(self, copy: Path) -> None:
        shutil.copy2(self.file, copy)
        log, _ = self._log_of(self.file)
        if log.exists():
            shutil.copy2(log, self._log_of(copy)[0])

    def _log_of(self, file: Path) -> tuple[Path, Path]:
        """Where SQLite writes first, and where it keeps what it knows of that."""
        return file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm")

    def _beside(self, suffix: str) -> Path:
        return self.file.with_name(self.file.name + suffix)

    def _told(self, error: Exception) -> JournalError:
        if _is_damage(error):
            with suppress(OSError):
                self._suspect.touch(mode=0o600)
            return JournalError(
                f"journal {self.file}: {error}; it is mended when it is next opened and no other process uses it"
            )
        return JournalError(f"journal {self.file}: {error}")


def _is_damage(error: Exception) -> bool:
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED
