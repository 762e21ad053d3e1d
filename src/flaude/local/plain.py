"""A machine as a process group with a folder of its own, where there is no bubblewrap."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from typing import IO

import anyio
import anyio.to_thread
from anyio.abc import Process

from flaude.local import processes
from flaude.local.commands import converse
from flaude.local.isolation import COMMAND, BoxName, Executed, Spec
from flaude.local.on_disk import OnDisk
from flaude.local.rootfs import inside

MARK = "FLY_MACHINE_ID"
"""Variable by which all processes of a machine are found, those too that left its process group."""


class PlainBox(OnDisk):
    """Starts machines without a box."""

    name: BoxName = "plain"

    async def start(self, spec: Spec) -> PlainMachine:
        """See `Box.start`."""
        with await anyio.to_thread.run_sync(spec.log.open, "ab") as log:
            process = await _open(spec, spec.argv, stdin=subprocess.DEVNULL, output=log)
        return PlainMachine(spec, process)


class PlainMachine:
    """The processes of one machine; see `Running`."""

    def __init__(self, spec: Spec, process: Process) -> None:
        self._spec = spec
        self._process = process

    async def wait(self) -> int:
        """See `Running.wait`."""
        return await self._process.wait()

    def signal(self, number: int) -> None:
        """See `Running.signal`."""
        if self._process.returncode is None:
            processes.send(self._process.pid, number)

    async def kill(self) -> None:
        """See `Running.kill`."""
        # Also when the leader has just ended: what cleared its environment is still in the group.
        processes.send(self._process.pid, signal.SIGKILL, group=True)
        await processes.kill_all(MARK, self._spec.machine_id)
        await self._process.wait()

    async def execute(self, argv: Sequence[str], stdin: bytes, timeout_s: float) -> Executed:
        """See `Running.execute`."""
        process = await _open(self._spec, argv, stdin=subprocess.PIPE, output=subprocess.PIPE)
        return await converse(process, stdin, timeout_s, _end)


async def _end(entered: Process) -> None:
    processes.send(entered.pid, signal.SIGKILL, group=True)
    await entered.wait()


async def _open(spec: Spec, argv: Sequence[str], *, stdin: int, output: int | IO[bytes]) -> Process:
    return await anyio.open_process(
        [*COMMAND, *(_real(spec, word) for word in argv)],
        stdin=stdin,
        stdout=output,
        stderr=output,
        cwd=spec.folder,
        env=spec.env,
        start_new_session=True,
    )


def _real(spec: Spec, word: str) -> str:
    for path in spec.files:
        if word == path or word.startswith(path + "/"):
            return str(inside(spec.folder, word))
    return word
