"""A command run to its end: git and npm."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .processes import signal_group
from .user import User

_NOT_FOUND = 127  # the shell's word for it


@dataclass(frozen=True)
class Command:
    """How it ended, and what it printed."""

    code: int
    stdout: bytes
    stderr: bytes


async def run(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    user: User | None = None,
    cwd: str | None = None,
    max_stdout: int = 0,
    stdin: bytes = b"",
) -> Command:
    """Run it in a process group of its own, which is killed when the caller is cancelled.

    Args:
        argv: The command.
        environment: Its whole environment.
        user: Whom to run it as; as ourselves without one.
        cwd: Where; the root without it.
        stdin: What it reads.
        max_stdout: Stop and kill it once it has printed more bytes than this; 0 for no limit.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(environment),
            cwd=cwd or "/",
            start_new_session=True,
            **(user.popen if user else {}),
        )
    except (FileNotFoundError, PermissionError) as error:
        return Command(_NOT_FOUND, b"", f"{argv[0]}: {error.strerror}".encode())
    assert process.stdout is not None  # noqa: S101  # both are pipes
    assert process.stderr is not None  # noqa: S101
    try:
        if process.stdin is not None:
            process.stdin.write(stdin)
            process.stdin.close()
        stdout, stderr = await asyncio.gather(
            _read(process.stdout, max_stdout, process.pid), _read(process.stderr, 0, process.pid)
        )
        return Command(await process.wait(), stdout, stderr)
    finally:
        if process.returncode is None:
            signal_group(process.pid, signal.SIGKILL)
            await process.wait()


async def _read(stream: asyncio.StreamReader, most: int, pid: int) -> bytes:
    found = bytearray()
    while piece := await stream.read(1 << 16):
        found += piece
        if most and len(found) > most:
            signal_group(pid, signal.SIGKILL)
            break
    return bytes(found)
