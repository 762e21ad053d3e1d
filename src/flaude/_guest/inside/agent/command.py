"""A command run to its end: git and npm."""

from __future__ import annotations

import asyncio
import errno
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..memory import unprotected
from .pipes import drain, ended, feed
from .processes import signal_group
from .user import User

_NOT_FOUND = 127  # the shell's word for it
_MOST_STDOUT_BYTES = 64 << 20
_MOST_STDERR_BYTES = 1 << 16
_DRAIN_S = 1.0
_KILLED_WITHIN_S = 5.0


@dataclass(frozen=True)
class Command:
    """How it ended, what it printed, and the end of what it said on stderr."""

    code: int
    stdout: bytes
    stderr: bytes


async def run(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    user: User | None = None,
    cwd: str | None = None,
    take: Callable[[bytes], bool] | None = None,
    stdin: bytes = b"",
) -> Command:
    """Run it in a process group of its own, which is killed when the caller is cancelled.

    Args:
        argv: The command.
        environment: Its whole environment.
        user: Whom to run it as; as ourselves without one.
        cwd: Where; the root without it.
        take: Gets what it prints, piece by piece, until its stdout is closed; `False` kills it. Without it all is kept
            in memory, what comes after its end is not waited for, and one that prints too much is killed: it has
            failed.
        stdin: What it reads.
    """
    try:
        with unprotected():
            process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(environment),
                cwd=cwd or "/",
                start_new_session=True,
                **(user.popen if user else {}),
            )
    except OSError as error:
        # Not there, not allowed, or no program at all, as a file of another processor's is.
        if not isinstance(error, (FileNotFoundError, PermissionError)) and error.errno != errno.ENOEXEC:
            raise
        return Command(_NOT_FOUND, b"", f"{argv[0]}: {error.strerror}".encode())
    stdout, stderr = bytearray(), bytearray()
    enough = False

    def take_stdout(piece: bytes) -> None:
        nonlocal enough
        if enough:
            return
        if take is None:
            stdout.extend(piece)
            enough = len(stdout) > _MOST_STDOUT_BYTES
        else:
            enough = not take(piece)
        if enough:
            signal_group(process.pid, signal.SIGKILL)

    def take_stderr(piece: bytes) -> None:
        stderr.extend(piece)
        del stderr[:-_MOST_STDERR_BYTES]

    assert process.stdout and process.stderr  # noqa: S101, PT018  # both are pipes
    pumps = [
        asyncio.ensure_future(drain(process.stdout, take_stdout)),
        asyncio.ensure_future(drain(process.stderr, take_stderr)),
        *([asyncio.ensure_future(feed(process.stdin, stdin))] if process.stdin else []),
    ]
    try:
        code = await ended(process)
        if take is not None and not enough:
            await asyncio.wait(pumps[:1])  # nothing of it may be missing
        # All that it has printed is in the pipes by now; what it left behind may hold them open for ever.
        await asyncio.wait(pumps, timeout=_DRAIN_S)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        if process.poll() is None:
            signal_group(process.pid, signal.SIGKILL)
            await asyncio.wait([asyncio.ensure_future(ended(process))], timeout=_KILLED_WITHIN_S)
    if take is None and enough:
        return Command(-signal.SIGKILL, b"", b"it printed more than %d bytes" % _MOST_STDOUT_BYTES)
    return Command(code, bytes(stdout), bytes(stderr))
