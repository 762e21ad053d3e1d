"""Who holds a batch: this process, and whether another one is dead."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path

from flaude.journal.entries import LeaseOwner

_PROC = Path("/proc")
_GONE = frozenset({"Z", "X"})  # it has ended; only its parent has not heard of it


def this_process() -> LeaseOwner:
    """This process, as a holder that no other one equals."""
    pid = os.getpid()
    return LeaseOwner(secrets.token_hex(8), socket.gethostname(), pid, _began(pid))


def is_dead(holder: LeaseOwner) -> bool:
    """Whether the holder's process has surely ended; false where that cannot be known from here."""
    if holder.host != socket.gethostname():
        return False
    if not holder.process_began:
        return not _answers(holder.pid)
    boot, pids, _ = holder.process_began.split(":", 2)
    if boot != _boot():
        return True
    # In another container the same number is another process.
    return pids == _pids() and _began(holder.pid) != holder.process_began


def _began(pid: int) -> str:
    """What tells a living process from all others: boot, namespace of numbers, start in clock ticks; else empty."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text("utf-8", "replace")
    except OSError:
        return ""
    # The name, in brackets, may hold anything; after it come the state and, 20th in all, the start.
    state, *numbers = stat.rpartition(")")[2].split()
    return "" if state in _GONE else f"{_boot()}:{_pids()}:{numbers[18]}"


def _boot() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def _pids() -> str:
    try:
        return (_PROC / "self/ns/pid").readlink().name.removeprefix("pid:").strip("[]")
    except OSError:
        return ""


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it is there, and somebody else's
    return True
