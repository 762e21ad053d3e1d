"""Where the guest keeps its things. All paths hang off one root, so that it also runs outside a machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_PYZ = "/opt/flaude/guest.pyz"
PAD_FILE = "/opt/flaude/pad"
"""Where Fly puts a machine's pad (`pad.py`), from its config; the supervisor removes it when it has read it."""


class Layout:
    """Paths below `root`, which is `/` in a machine of one's own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.opt = root / "opt/flaude"
        self.pad = root / PAD_FILE[1:]
        self.run = root / "run/flaude"
        self.state = root / "var/lib/flaude"
        self.out = self.state / "out"
        self.spool = self.state / "spool.ndjson"
        self.reserve = self.state / "reserve"
        self.workspace = root / "workspace"
        self.home = root / "home/claude"
        self.npm = self.opt / "npm"

    @property
    def owns_machine(self) -> bool:
        """Whether the whole machine is ours: users may be made and switched to."""
        return str(self.root) == "/" and os.geteuid() == 0

    @property
    def is_denied(self) -> bool:
        """Whether the machine is ours and we are not root in it: the image has a USER line.

        In a box on somebody's own computer nobody is root, process 1 neither.
        """
        return str(self.root) == "/" and os.geteuid() != 0 and Path("/proc/1").stat().st_uid == 0

    def make(self) -> None:
        """Make the folders that only the supervisor may see."""
        for folder in (self.run, self.state, self.out):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
        # What made it for our archive may have made it for root alone; the agent's user needs what is in it.
        self.opt.chmod(0o755)


def find_layout() -> Layout:
    """The layout that belongs to the archive we were started from."""
    here = str(Path(sys.argv[0]).resolve())
    if not here.endswith(_PYZ):
        raise SystemExit("guest: must be started as .../opt/flaude/guest.pyz, not " + here)
    return Layout(Path(here[: -len(_PYZ)] or "/"))
