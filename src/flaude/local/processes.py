"""Processes by what /proc says of them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import anyio
import anyio.to_thread

KILL_WITHIN_S = 10.0


def with_environment(name: str, value: str) -> set[int]:
    """Processes that were started with this variable, and that are no zombies."""
    wanted = f"{name}={value}".encode()
    found = set()
    for folder in Path("/proc").iterdir():
        # A zombie's environment is empty; one that ends meanwhile, or that is not ours, cannot be read.
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
    return found


def children(pid: int) -> list[int]:
    """The living children of a process, oldest first."""
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def exists(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    return False


def send(pid: int, number: int, *, group: bool = False) -> None:
    """Send a signal to a process or to a group; one that is gone needs none."""
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if group else os.kill)(pid, number)


async def kill_all(name: str, value: str) -> None:
    """Kill everything with this variable in its environment, again and again until none is left.

    Raises:
        RuntimeError: Some are left after `KILL_WITHIN_S`.
    """
    deadline = time.monotonic() + KILL_WITHIN_S
    while left := await anyio.to_thread.run_sync(with_environment, name, value):
        if time.monotonic() > deadline:
            raise RuntimeError(f"processes of {value} cannot be killed: {sorted(left)}")
        for pid in left:
            send(pid, signal.SIGKILL)
        # They are not our children: nothing tells when they are gone.
        await anyio.sleep(0.002)
