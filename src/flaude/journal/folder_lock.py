"""A lock on the journal's folder: shared by all who have it open, alone for who mends it."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from flaude._model.errors import JournalError

_PAUSE_S = 0.02


class FolderLock:
    """Held as long as the journal is open; the kernel lets it go when the process ends, however it does.

    Args:
        file: The file that is locked; it is made, and stays.
        patience_s: How long to wait for somebody who has it alone.
    """

    def __init__(self, file: Path, patience_s: float) -> None:
        self._file = file
        self._patience_s = patience_s
        self._fd: int | None = None

    def acquire(self) -> bool:
        """Take it alone when nobody else has it (true), else together with the others (false).

        Raises:
            JournalError: Somebody has had it alone for too long.
            OSError: The file cannot be made.
        """
        self._fd = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if self.alone():
            return True
        deadline = time.monotonic() + self._patience_s
        while not self._flock(fcntl.LOCK_SH):
            if time.monotonic() > deadline:
                raise JournalError(f"journal {self._file.parent}: another process is mending it; try again later")
            time.sleep(_PAUSE_S)
        return False

    def alone(self) -> bool:
        """Whether it is now held alone. When not, it may not be held at all: let go of it."""
        return self._flock(fcntl.LOCK_EX)

    def share(self) -> None:
        """Let others in."""
        self._flock(fcntl.LOCK_SH)

    def release(self) -> None:
        """Let go of it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _flock(self, how: int) -> bool:
        assert self._fd is not None  # noqa: S101  # acquired
        try:
            fcntl.flock(self._fd, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
