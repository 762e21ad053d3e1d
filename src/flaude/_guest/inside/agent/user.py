"""The unprivileged user that the agent runs as."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..layout import Layout

NAME = "claude"


@dataclass(frozen=True)
class User:
    """Who the agent is, and what `subprocess` needs to become it."""

    name: str
    home: Path
    popen: dict[str, Any] = field(default_factory=dict)
    sandbox: bool = False
    """Whether the agent is root: Claude Code then wants to be told that it is in a sandbox."""

    @property
    def number(self) -> int:
        """Its user id."""
        return int(self.popen.get("user", os.geteuid()))

    def owns(self, path: Path) -> None:
        """Make a folder that is the user's."""
        path.mkdir(parents=True, exist_ok=True)
        if self.popen:
            os.chown(path, self.popen["user"], self.popen["group"])


def agent_user(layout: Layout) -> User:
    """The user `claude`, made when missing, where the machine is ours; else whoever we are."""
    if not layout.owns_machine:
        return User(pwd.getpwuid(os.geteuid()).pw_name, layout.home, sandbox=os.geteuid() == 0)
    try:
        entry = pwd.getpwnam(NAME)
    except KeyError:
        _add(NAME, layout.home)
        entry = pwd.getpwnam(NAME)
    return User(
        NAME,
        Path(entry.pw_dir),
        {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []},
    )


def _add(name: str, home: Path) -> None:
    """Write the entries ourselves: images differ in their tools for it (useradd, adduser, none)."""
    taken = {entry.pw_uid for entry in pwd.getpwall()} | {entry.pw_gid for entry in pwd.getpwall()}
    number = next(number for number in range(1000, 60000) if number not in taken)
    shell = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
    _append(Path("/etc/group"), f"{name}:x:{number}:")
    _append(Path("/etc/passwd"), f"{name}:x:{number}:{number}::{home}:{shell}")


def _append(path: Path, line: str) -> None:
    with path.open("a+", encoding="utf-8") as file:
        file.seek(0)
        text = file.read()
        file.write(("" if not text or text.endswith("\n") else "\n") + line + "\n")
