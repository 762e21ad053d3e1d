"""What a machine is on this computer: processes, kept apart by a box.

- `bubblewrap`: process numbers, `/tmp` and homes of its own, this computer's programs read-only, paths as on Fly.
- `plain`: a process group whose `/` is this computer's, with a folder of its own; paths of the machine's files that
  stand in a command are pointed into that folder.

Both keep accidents apart, not attackers: the network, the kernel and (as root) root's rights are this computer's.
Memory and CPUs of `guest` are checked and not enforced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from anyio.abc import Process

from flaude.local.image import LocalImage

BoxName = Literal["bubblewrap", "plain"]

# `exec` of a shell looks the program up where the box ends: in the machine, on its PATH. Missing is 127.
COMMAND = ("/bin/sh", "-c", 'exec "$@"', "sh")


@dataclass(frozen=True)
class Spec:
    """What is to run in a machine.

    Attributes:
        machine_id: The machine's id.
        folder: The machine's own folder, laid out as its `/`.
        log: File for what the command prints.
        argv: The command; its program is looked up in the machine.
        env: The whole environment.
        image: What programs there are.
        files: Paths in the machine of the files of its config.
    """

    machine_id: str
    folder: Path
    log: Path
    argv: Sequence[str]
    env: Mapping[str, str]
    image: LocalImage
    files: Sequence[str] = ()


class Running(Protocol):
    """The processes of a machine."""

    async def wait(self) -> int:
        """The exit code of the command, 127 when its program is missing; negative for the signal that ended it."""
        ...

    def signal(self, number: int) -> None:
        """Send a signal to the command; none is sent when it has ended."""
        ...

    async def kill(self) -> None:
        """Kill every process of the machine and return when none is left.

        Raises:
            RuntimeError: Some are left after 10 seconds; the message names them.
        """
        ...

    async def enter(self, argv: Sequence[str]) -> Process:
        """Start another command in the machine, with pipes; it is the leader of a process group.

        Raises:
            OSError: The machine is gone.
        """
        ...

    async def end(self, entered: Process) -> None:
        """Kill a command that was started by `enter`, and its process group; return when it has ended."""
        ...


class Box(Protocol):
    """Starts machines."""

    @property
    def name(self) -> BoxName:
        """What it is called."""
        ...

    async def start(self, spec: Spec) -> Running:
        """Start a machine's command.

        Raises:
            OSError: A program of the box could not be started.
            RuntimeError: The box could not be made; the message says why.
        """
        ...
