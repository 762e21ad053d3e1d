"""What the command sets for its process, and a library leaves to the program: open files, garbage collection."""

from __future__ import annotations

import gc
import resource
from contextlib import suppress

_ENOUGH_FILES = 16_384
_YOUNG_OBJECTS = 50_000


def prepare_process() -> None:
    """Make this process one for a thousand runs at once."""
    allow_open_files()
    # What a batch allocates lives as long as its runs: looking through it is in vain nearly every time, and as often as
    # Python does it by default it takes a fifth of the processor time of a thousand runs.
    gc.set_threshold(_YOUNG_OBJECTS, 20, 20)


def allow_open_files() -> None:
    """Take as many as this computer lets a process take: a run that is followed holds a connection.

    What a shell gives a process (1,024 files on most Linux systems, 256 on macOS) is less than what it may ask for.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH_FILES if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # macOS refuses what is over a limit of its own.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
