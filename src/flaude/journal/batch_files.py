"""Files of batches on disk, each there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flaude._model.errors import JournalError
from flaude.journal.rules import parts_of


class BatchFiles:
    """The files below a folder, by batch and name; nobody but the user may read them.

    Every method raises `JournalError` when the disk does not do what it should.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def folder(self, batch: str) -> Path:
        """Where a batch's files lie."""
        name, *more = parts_of(batch)
        if more:
            raise JournalError(f"journal: {batch!r} is no batch's id")
        return self._folder / name

    def put(self, batch: str, name: str, content: bytes) -> None:
        """Write a file."""
        file = self._file(batch, name)
        with _told(file):
            _make_folder(file.parent)
            fd, temporary = tempfile.mkstemp(prefix=".tmp-", dir=file.parent)
            try:
                with os.fdopen(fd, "wb") as out:
                    out.write(content)
                    out.flush()
                    os.fsync(out.fileno())
                Path(temporary).replace(file)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            sync_folder(file.parent)

    def get(self, batch: str, name: str) -> bytes | None:
        """Read a file; `None` when there is none."""
        file = self._file(batch, name)
        with _told(file):
            try:
                return file.read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

    def drop(self, batch: str, name: str) -> None:
        """Remove a file, if it is there."""
        file = self._file(batch, name)
        with _told(file):
            if file.is_file():
                file.unlink(missing_ok=True)
                sync_folder(file.parent)

    def _file(self, batch: str, name: str) -> Path:
        return self.folder(batch).joinpath(*parts_of(name))


def _make_folder(folder: Path) -> None:
    """With all above it; each is on the disk when this returns."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """See to it that the names in a folder are on the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _told(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise JournalError(f"journal: {file}: {error.strerror or error}") from error
    except UnicodeError as error:
        raise JournalError(f"journal: {str(file)!r} is no name of a file: {error}") from error
