"""The agent's own repository, read as well as it can be: everything in it may be broken, hostile or gone.

What stands in it is a help, no more: which commits there are, and which files the agent tracks.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..agent.command import Command, run
from ..agent.user import User
from .changes import text
from .permissions import owner_of
from .scratch_repo import OFFLINE, QUIET, why

_MOST_S = 10.0
_MOST_SHALLOW_BYTES = 4 << 20


@dataclass(frozen=True)
class Entry:
    """A path of the agent's index: `mode` and `id` as git writes them.

    `sparse` says that the file need not be there.
    """

    mode: bytes
    id: bytes
    sparse: bool


@dataclass(frozen=True)
class AgentRepo:
    """What the agent's repository says.

    Attributes:
        problem: Why it cannot be read; empty when it can.
        same: Whether it still holds the commit that it was cloned at.
        tip: The commit that is checked out; empty when there is none.
        branches: Their tips, by name; the last stash is `refs/stash`.
        index: What the agent tracks; `None` when that cannot be read, or is nothing at all: then git's file is gone, or
            is about to be made again, and says nothing about files that are there.
        objects: Its object directory.
        shallow: Where its history is cut off, in the lines of git's file `shallow`.
    """

    problem: str = ""
    same: bool = False
    tip: str = ""
    branches: dict[str, str] = field(default_factory=dict)
    index: dict[bytes, Entry] | None = None
    objects: Path | None = None
    shallow: bytes = b""


async def look(folder: Path, head: str, user: User, environment: Mapping[str, str], seconds: float | None) -> AgentRepo:
    """Read the repository in a folder, as the agent's user.

    Args:
        folder: The working tree.
        head: The commit that it was cloned at.
        user: The agent's user.
        environment: For git.
        seconds: How long that may take; it never takes longer than a few seconds.
    """
    try:
        return await asyncio.wait_for(_look(folder, head, user, environment), min(_MOST_S, seconds or _MOST_S))
    except asyncio.TimeoutError:
        return AgentRepo("git hangs in it")


async def _look(folder: Path, head: str, user: User, environment: Mapping[str, str]) -> AgentRepo:
    # Without a `.git` of its own the folder is in no repository, whatever may be above it.
    environment = {**environment, **OFFLINE, "GIT_CEILING_DIRECTORIES": str(folder.parent)}

    async def git(*arguments: str, quiet: tuple[str, ...] = QUIET) -> Command:
        return await run(["git", *quiet, "-C", str(folder), *arguments], user=user, environment=environment)

    where = await git("rev-parse", "--git-path", "objects")
    if where.code:
        return AgentRepo(why("git rev-parse", where))
    listed = await git("ls-files", "-z", "-t", "--stage")
    # Without that setting git itself takes a file that is not there for deleted, whatever the index says.
    sparse = await git("config", "--type=bool", "core.sparseCheckout", quiet=())
    index = None if listed.code else _entries(listed.stdout, is_sparse=sparse.stdout == b"true\n")
    same = (await git("cat-file", "-e", f"{head}^{{commit}}")).code == 0
    named = await git("rev-parse", "--verify", "--quiet", "HEAD")
    tip = await git("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    refs = await git("for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/stash")
    cut = await git("rev-parse", "--git-path", "shallow")
    problem = why("git rev-parse HEAD", tip) if tip.code and not named.code else ""
    if refs.code:
        problem = problem or why("git for-each-ref", refs)
    return AgentRepo(
        problem,
        same,
        "" if tip.code else _line(tip),
        {text(name): line.decode() for line, _, name in (row.partition(b" ") for row in refs.stdout.splitlines())},
        index or None,
        folder / _line(where),
        b"" if cut.code else read_shallow(folder / _line(cut), owner_of(user)),
    )


def read_shallow(path: Path, owner: int) -> bytes:
    """The ids in a file of the agent's own; it may be a link to anything, or have any size."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != owner or status.st_size > _MOST_SHALLOW_BYTES:
            return b""
        return b"".join(re.findall(rb"^[0-9a-f]{40,64}\n", file.read(_MOST_SHALLOW_BYTES), re.MULTILINE))


def _entries(listing: bytes, *, is_sparse: bool) -> dict[bytes, Entry]:
    found = {}
    for record in listing.split(b"\0")[:-1]:
        told, _, path = record.partition(b"\t")
        tag, mode, identity, _ = told.split(b" ")
        found[path] = Entry(mode, identity, is_sparse and tag == b"S")
    return found


def _line(done: Command) -> str:
    return os.fsdecode(done.stdout).rstrip("\n")
