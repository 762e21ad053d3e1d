"""What agents wait for until a test lets them go on: an agent of so many seconds is over too soon, or too late."""

from __future__ import annotations

from pathlib import Path


class Gate:
    """Closed at first.

    Args:
        path: A file that is not there yet, in a folder that the machines can read: `conftest.gate` is in the shared
            one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def waits(self) -> str:
        """A line of a scripted prompt: the agent goes on when the gate is open."""
        return f"::shell until [ -e {self._path} ]; do sleep 0.05; done"

    def open(self) -> None:
        """Let all agents go on, those that wait and those that come."""
        self._path.touch()

    def close(self) -> None:
        """Those that come wait again."""
        self._path.unlink()
