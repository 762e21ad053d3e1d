"""What a machine is on this computer: processes, kept apart by a box, or none at all.

- `bubblewrap`: process numbers, `/tmp` and homes of its own, this computer's programs read-only, paths as on Fly.
- `plain`: a process group whose `/` is this computer's, with a folder of its own; paths of the machine's files that
  stand in a command are pointed into that folder.
- `simulated`: no process, no folder and nothing on the disk: the stand-in itself answers as flaude's guest does, and
  the agent's work is timers. For a thousand machines at once.

The first two keep accidents apart, not attackers: the network, the kernel and (as root) root's rights are this
computer's. Memory and CPUs of `guest` are checked and not enforced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from flaude.local.image import LocalImage

BoxName = Literal["bubblewrap", "plain", "simulated"]

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


@dataclass(frozen=True)
class Executed:
    """What came of a command that was executed in a machine.

    Attributes:
        code: Its exit code; negative for the signal that ended it.
        stdout: What it printed.
        stderr: The same, of its errors.
    """

    code: int
    stdout: bytes = b""
    stderr: bytes = b""


class Running(Protocol):
    """What runs in a machine."""

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

    async def execute(self, argv: Sequence[str], stdin: bytes, timeout_s: float) -> Executed:
        """Run another command in the machine to its end; one that takes longer is killed, with its process group.

        Raises:
            OSError: The command cannot be started, or the machine is gone.
            ValueError: It can be no command.
            TimeoutError: It took longer.
        """
        ...


class Box(Protocol):
    """Starts machines."""

    @property
    def name(self) -> BoxName:
        """What it is called."""
        ...

    async def prepare(self, folder: Path, files: Mapping[str, tuple[bytes, int]]) -> None:
        """Make the folder of a machine that boots, with these files: content and mode by path."""
        ...

    async def remove(self, folder: Path) -> None:
        """Remove the folder of a machine, if there is one."""
        ...

    async def start(self, spec: Spec) -> Running:
        """Start a machine's command.

        Raises:
            OSError: A program of the box could not be started.
            RuntimeError: The box could not be made; the message says why.
        """
        ...
