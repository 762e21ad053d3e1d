"""Whether the kernel has killed for want of memory."""

from __future__ import annotations

from pathlib import Path


def oom_kills(root: Path) -> int:
    """How often since the boot (`oom_kill` in `/proc/vmstat`, see proc_vmstat in the kernel's docs); 0 when unknown."""
    try:
        lines = (root / "proc/vmstat").read_text().splitlines()
        return int(dict(line.split(maxsplit=1) for line in lines)["oom_kill"])
    except (OSError, KeyError, ValueError):
        return 0
