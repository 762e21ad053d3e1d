"""Ending processes: the agent's group, and whatever it has left behind."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
_MOST_REAPED = 10_000


def become_subreaper() -> None:
    """Orphans among our descendants become our children, so that none can slip away; Linux only."""
    # Without it, a process that leaves the agent's group is ended with the machine.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def signal_group(pid: int, number: int) -> None:
    """Send a signal to the process group that `pid` leads; fine when it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def descendants(pid: int) -> list[int]:
    """All living processes below `pid`, from `/proc`; none where there is no `/proc`."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The command's name stands in parentheses and may hold anything, parentheses too.
            state, parent = entry.read_text(errors="replace").rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue
        if state != "Z":
            children.setdefault(int(parent), []).append(int(entry.parent.name))
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


async def end_all(own_pid: int) -> None:
    """Kill everything below `own_pid`, until nothing is left, and reap it."""
    for _ in range(200):
        found = descendants(own_pid)
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            break
        await asyncio.sleep(0.01)
    _reap()


def _reap() -> None:
    """Collect orphans that became our children; those that asyncio waits for are not left by then."""
    with contextlib.suppress(ChildProcessError):
        for _ in range(_MOST_REAPED):
            if not os.waitpid(-1, os.WNOHANG)[0]:
                return
