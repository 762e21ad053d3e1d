"""What a benchmark ran on."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

from flaude import __version__


def computer() -> dict[str, Any]:
    """The computer's size, and the versions."""
    return {
        "cpus": os.cpu_count(),
        "usable_cpus": len(usable_cpus()),
        "cpu": _cpu(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30), 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "flaude": __version__,
    }


def usable_cpus() -> list[int]:
    """The processors that we may use; none where that cannot be said."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def starved_s(pid: int | str = "self") -> float:
    """For how many seconds a process's main thread could have run, and other processes had the processor.

    0 where that cannot be said. Much of it means that a wall time says nothing of what was measured.
    """
    file = Path(f"/proc/{pid}/schedstat")
    return int(file.read_text().split()[1]) / 1e9 if file.exists() else 0.0


def _cpu() -> str:
    file = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", file.read_text(), re.MULTILINE) if file.exists() else None
    return found[1] if found else platform.processor() or platform.machine()
