"""Want of memory: whom the kernel is to kill, and whether it has."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

_ADJUSTMENT = Path("/proc/self/oom_score_adj")
_NEVER, _AS_ANY = "-1000", "0"


def protect() -> None:
    """Have the kernel kill anybody but ourselves; takes root, without it we are killed as anybody else."""
    with contextlib.suppress(OSError):
        _ADJUSTMENT.write_text(_NEVER)


@contextlib.contextmanager
def unprotected() -> Iterator[None]:
    """For the moment of starting a process: it inherits what we are, and could give it to whatever it starts.

    Set from here on the child it would be too late: what it has started by then has inherited it. The kernel also
    remembers what root has set last as the least that others may set.
    """
    try:
        before = _ADJUSTMENT.read_text().strip()
        if before == _NEVER:
            _ADJUSTMENT.write_text(_AS_ANY)
    except OSError:
        before = ""
    try:
        yield
    finally:
        if before == _NEVER:
            protect()


def oom_kills(root: Path) -> int:
    """How often since the boot (`oom_kill` in `/proc/vmstat`, see proc_vmstat in the kernel's docs); 0 when unknown."""
    try:
        lines = (root / "proc/vmstat").read_text().splitlines()
        return int(dict(line.split(maxsplit=1) for line in lines)["oom_kill"])
    except (OSError, KeyError, ValueError):
        return 0
