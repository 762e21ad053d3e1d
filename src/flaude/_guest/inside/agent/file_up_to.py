"""A file with a limit, for what a process prints."""

from __future__ import annotations

from pathlib import Path


class FileUpTo:
    """A file that takes no more than a limit, and counts what was to be written; the first error is kept."""

    def __init__(self, path: Path, limit: int | None) -> None:
        self._file = path.open("wb")
        self._limit = limit
        self.size = 0
        self.error: OSError | None = None

    def close(self) -> None:
        """Close it; that it fails is an error like others."""
        try:
            self._file.close()
        except OSError as error:
            self.error = self.error or error

    @property
    def full(self) -> bool:
        """Whether there was more than the limit."""
        return self._limit is not None and self.size > self._limit

    def write(self, data: bytes) -> bool:
        """Write it; whether more may come."""
        self.size += len(data)
        if self.error is None and not self.full:
            try:
                self._file.write(data)
            except OSError as error:
                self.error = error
        return self.error is None and not self.full
