"""The agent's own repository, read as well as it can be: everything in it may be broken, hostile or gone.

What stands in it is a help, no more: which commits there are, and which files the agent tracks.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .changes import text
from .command import Command, run
from .scratch import QUIET, why
from .user import User

_MOST_S = 10.0


@dataclass(frozen=True)
class Entry:
    """A path of the agent's index: `mode` and `id` as git writes them.

    `sparse` says that the file need not be there.
    """

    mode: bytes
    id: bytes
    sparse: bool


@dataclass(frozen=True)
class Theirs:
    """What the agent's repository says.

    Attributes:
        problem: Why it cannot be read; empty when it can.
        same: Whether it still holds the commit that it was cloned at.
        tip: The commit that is checked out; empty when there is none.
        branches: Their tips, by name; the last stash is `refs/stash`.
        index: What the agent tracks; `None` when that cannot be read.
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


async def look(folder: Path, head: str, user: User, environment: Mapping[str, str], seconds: float | None) -> Theirs:
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
        return Theirs("git hangs in it")


async def _look(folder: Path, head: str, user: User, environment: Mapping[str, str]) -> Theirs:
    # Without a `.git` of its own the folder is in no repository, whatever may be above it.
    environment = {**environment, "GIT_CEILING_DIRECTORIES": str(folder.parent)}

    async def git(*arguments: str) -> Command:
        return await run(["git", *QUIET, "-C", str(folder), *arguments], user=user, environment=environment)

    where = await git("rev-parse", "--git-path", "objects")
    if where.code:
        return Theirs(why("git rev-parse", where))
    listed = await git("ls-files", "-z", "-t", "--stage")
    index = None if listed.code else _entries(listed.stdout)
    same = (await git("cat-file", "-e", f"{head}^{{commit}}")).code == 0
    named = await git("rev-parse", "--verify", "--quiet", "HEAD")
    tip = await git("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    refs = await git("for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/stash")
    cut = await git("rev-parse", "--git-path", "shallow")
    shallow = await run(["cat", str(folder / _line(cut))], user=user, environment=environment)
    problem = why("git rev-parse HEAD", tip) if tip.code and not named.code else ""
    if refs.code:
        problem = problem or why("git for-each-ref", refs)
    return Theirs(
        problem,
        same,
        "" if tip.code else _line(tip),
        {text(name): line.decode() for line, _, name in (row.partition(b" ") for row in refs.stdout.splitlines())},
        index,
        folder / _line(where),
        b"" if shallow.code else shallow.stdout,
    )


def _entries(listing: bytes) -> dict[bytes, Entry]:
    found = {}
    for record in listing.split(b"\0")[:-1]:
        told, _, path = record.partition(b"\t")
        tag, mode, identity, _ = told.split(b" ")
        found[path] = Entry(mode, identity, tag == b"S")
    return found


def _line(done: Command) -> str:
    return os.fsdecode(done.stdout).rstrip("\n")
