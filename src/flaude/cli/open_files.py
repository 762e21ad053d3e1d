"""How many files, and so connections, the command may have open."""

from __future__ import annotations

import resource
from contextlib import suppress

_ENOUGH = 16_384


def allow_open_files() -> None:
    """Take as many as this computer lets a process take: a run that is followed holds a connection.

    What a shell gives a process (1,024 files on most Linux systems, 256 on macOS) is less than what it may ask for.
    Where flaude is a library, this is the program's business.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # macOS refuses what is over a limit of its own.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
