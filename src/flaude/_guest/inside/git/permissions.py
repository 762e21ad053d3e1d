"""Makes the agent's folders ready for git, which runs as the agent's user: it can look into them, and waits for none.

As root, with everything opened from the folder above it and no link followed. The agent's processes are gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..agent.user import User
from .omissions import Omissions

# git opens these wherever they are, and would wait for the other end of a pipe.
_OPENED = {b".gitignore", b".gitattributes", b".gitmodules", b".mailmap"}
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_CLOEXEC
_DEEPEST = 400  # each has a descriptor open
_MOST_S = 20.0
_PIECE = 1000


async def make_ready(folder: Path, workspace: Path, user: User, omissions: Omissions, seconds: float | None) -> None:
    """Let the agent's user into its own folders again, and remove what is no file where git expects one.

    Args:
        folder: The working tree.
        workspace: A folder above it.
        user: The agent's user.
        omissions: Takes what was removed.
        seconds: How long that may take; what was not looked at by then is left as it is.
    """
    end = time.monotonic() + min(_MOST_S, seconds or _MOST_S)
    owner = owner_of(user)
    for parent in reversed([path for path in folder.parents if workspace in (path, *path.parents)]):
        with contextlib.suppress(OSError):  # one that stays closed is told by git, with its reason
            os.close(_open(os.fsencode(parent), owner))
    try:
        top = _open(os.fsencode(folder), owner)
    except OSError:
        return  # git says why
    try:
        for number, (above_it, path, _) in enumerate(everything(top, owner, lambda _: True)):
            name = path.rpartition(b"/")[2]
            if name in _OPENED and _is_special(above_it, name, owner):
                with contextlib.suppress(OSError):  # git then waits for it, which has a limit and a second try
                    os.unlink(name, dir_fd=above_it)
                    omissions.add(path, "it was not a plain file: git would have waited for it")
            if number % _PIECE == 0:
                await asyncio.sleep(0)
                if time.monotonic() > end:
                    return
    finally:
        os.close(top)


def owner_of(user: User) -> int:
    """The user's number."""
    return int(user.popen.get("user", os.geteuid()))


def everything(top: int, owner: int, enter: Callable[[bytes], bool]) -> Iterator[tuple[int, bytes, str]]:
    """All that is no folder: the folder it is in, its path, and no problem; or a folder with why it cannot be read.

    Args:
        top: The folder to look into; it is left open.
        owner: Whose folders are made readable, writable and searchable for their owner.
        enter: Whether to look into the folder with that path.
    """
    ways: list[tuple[int, bytes, list[tuple[bytes, bool]]]] = []
    try:
        ways.append((os.dup(top), b"", _names(top)))
        while ways:
            folder, prefix, left = ways[-1]
            if not left:
                os.close(ways.pop()[0])
                continue
            name, is_folder = left.pop()
            path = prefix + name
            if not is_folder:
                yield folder, path, ""
            elif enter(path):
                problem = "" if len(ways) < _DEEPEST else f"more than {_DEEPEST} folders deep"
                if not problem:
                    try:
                        below = _open(name, owner, os.O_NOFOLLOW, dir_fd=folder)
                        ways.append((below, path + b"/", []))
                        ways[-1][2].extend(_names(below))
                    except OSError as error:
                        problem = error.strerror or str(error)
                if problem:
                    yield folder, path, problem
    finally:
        for way in ways:
            os.close(way[0])


def _open(path: bytes, owner: int, flags: int = 0, *, dir_fd: int | None = None) -> int:
    try:
        folder = os.open(path, _FOLDER | flags, dir_fd=dir_fd)
    except PermissionError:
        # Only somebody who is not root comes here: then the agent's user is ourselves.
        os.chmod(path, stat.S_IRWXU, dir_fd=dir_fd)
        folder = os.open(path, _FOLDER | flags, dir_fd=dir_fd)
    status = os.fstat(folder)
    if status.st_uid == owner and status.st_mode & stat.S_IRWXU != stat.S_IRWXU:
        with contextlib.suppress(OSError):  # a file system that is mounted to be read
            os.fchmod(folder, stat.S_IMODE(status.st_mode) | stat.S_IRWXU)
    return folder


def _names(folder: int) -> list[tuple[bytes, bool]]:
    with os.scandir(folder) as found:
        names = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in found]
    return sorted(names, reverse=True)


def _is_special(folder: int, name: bytes, owner: int) -> bool:
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    # git follows no link to them.
    return status.st_uid == owner and not stat.S_ISREG(status.st_mode) and not stat.S_ISLNK(status.st_mode)
