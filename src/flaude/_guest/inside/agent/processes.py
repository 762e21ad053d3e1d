"""Ending processes: the agent's group, and whatever it has left behind."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
_MOST_REAPED = 10_000
_MOST_ROUNDS = 200
_DEAD = "ZXx"  # proc(5)
_NOBODY = 65531  # an id that nothing runs as


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
    for number, _, parent in _all():
        children.setdefault(parent, []).append(number)
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return [number for number in found if _lives(number)]


async def end_all(own_pid: int, user: int | None = None) -> None:
    """Kill everything below `own_pid`, until nothing is left, and reap it.

    Args:
        own_pid: Ourselves.
        user: The agent's user id: where it is not ours too, whatever else runs as that user is ended as well.
    """
    alone = user if user is not None and user != os.geteuid() == 0 else None
    for _ in range(_MOST_ROUNDS):
        if alone is not None:
            _kill_user(alone)
        found = {*descendants(own_pid), *(() if alone is None else _of_user(alone))}
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            break
        await asyncio.sleep(0.01)
    _reap()


def way_up(pid: int, top: int) -> list[int]:
    """The processes above `pid`, up to `top`; none when it is not below `top`, or lives no more."""
    way: list[int] = []
    while pid != top:
        found = _stat(Path(f"/proc/{pid}/stat"))
        if found is None or found[1] == "Z":
            return []
        pid = found[2]
        if pid <= 1 or pid in way:
            return []
        way.append(pid)
    return way


def _all() -> Iterator[tuple[int, str, int]]:
    """Number, state and parent of each process."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        found = _stat(entry)
        if found is not None:
            yield found


def _stat(path: Path) -> tuple[int, str, int] | None:
    try:
        text = path.read_text(errors="replace")
        # The command's name stands in parentheses and may hold anything, parentheses too.
        state, parent = text.rpartition(")")[2].split()[:2]
        return int(text.split(maxsplit=1)[0]), state, int(parent)
    except (OSError, ValueError, IndexError):
        return None


def _lives(pid: int) -> bool:
    """Whether a thread of it runs: its first one may have ended before the others, and is a zombie then."""
    threads = (_stat(entry) for entry in Path(f"/proc/{pid}/task").glob("*/stat"))
    return any(thread is not None and thread[1] not in _DEAD for thread in threads)


def _of_user(user: int) -> list[int]:
    """All living processes of a user: real, effective, saved, or for files."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError, ValueError):
            lines = entry.read_text(errors="replace").splitlines()
            ids = next((line.split()[1:] for line in lines if line.startswith("Uid:")), [])
            number = int(entry.parent.name)
            if str(user) in ids and _lives(number):
                found.append(number)
    return found


def _kill_user(user: int) -> None:
    """Kill whatever the user may kill, all at once: who forks faster than `/proc` can be read does not get away.

    A child does it that has become the user, but for its real id, so that none of the user's processes can kill it.
    """
    with contextlib.suppress(OSError):  # no process can be made: those that are found one by one make room
        child = os.fork()
        if child == 0:
            try:
                os.setgroups([])
                os.setresgid(_NOBODY, _NOBODY, _NOBODY)
                os.setresuid(_NOBODY, user, _NOBODY)
                os.kill(-1, signal.SIGKILL)
            finally:
                os._exit(0)
        os.waitpid(child, 0)


def _reap() -> None:
    """Collect orphans that became our children; those that asyncio waits for are not left by then."""
    with contextlib.suppress(ChildProcessError):
        for _ in range(_MOST_REAPED):
            if not os.waitpid(-1, os.WNOHANG)[0]:
                return
