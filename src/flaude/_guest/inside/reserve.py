"""Room on the disk that the agent cannot fill, for what comes after it: git's objects, patches, the last records."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_MOST_OF_FREE = 0.1


def hold(path: Path, size: int) -> None:
    """Take `size` bytes for a file that holds the room; nothing when that were much of a disk that is nearly full."""
    if not size:
        return
    with contextlib.suppress(OSError, AttributeError):  # a disk or a system that cannot do it: there is no reserve
        disk = os.statvfs(path.parent)
        if size > _MOST_OF_FREE * disk.f_bavail * disk.f_frsize:
            return
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(file, 0, size)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(file)


def release(path: Path) -> None:
    """Give the room back."""
    with contextlib.suppress(OSError):
        path.unlink()
