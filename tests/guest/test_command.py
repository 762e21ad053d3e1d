"""Commands that the guest runs: git and npm."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from anyio.lowlevel import checkpoint

from flaude._guest.inside.agent import command


async def test_a_command_whose_caller_is_cancelled_is_killed(tmp_path: Path) -> None:
    """Nothing goes on behind our back."""
    pid = tmp_path / "pid"
    script = f"echo $$ > {pid}; exec sleep 60"
    task = asyncio.ensure_future(command.run(["sh", "-c", script], environment=dict(os.environ)))
    while not pid.exists() or not pid.read_text():
        await checkpoint()
    task.cancel()
    await asyncio.wait([task])
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


async def test_output_over_the_limit_ends_the_command() -> None:
    """One that prints without end is killed, also when what it left behind prints on; what is kept has a bound."""
    kept = bytearray()

    def take(piece: bytes) -> bool:
        kept.extend(piece)
        return len(kept) < 100_000

    done = await command.run(["sh", "-c", "setsid yes & yes"], environment=dict(os.environ), take=take)
    assert done.code == -9
    assert 100_000 <= len(kept) < 300_000


async def test_output_that_is_kept_in_memory_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command whose whole output is wanted is killed when that is too much, and has failed."""
    monkeypatch.setattr(command, "_MOST_STDOUT_BYTES", 100_000)
    done = await command.run(["yes"], environment=dict(os.environ))
    assert (done.code, done.stdout, done.stderr) == (-9, b"", b"it printed more than 100000 bytes")


async def test_a_command_that_is_not_there() -> None:
    """Is told as a shell would tell it."""
    done = await command.run(["no-such-program"], environment=dict(os.environ))
    assert done.code == 127 and b"no-such-program" in done.stderr
