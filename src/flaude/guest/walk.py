"""Looking through the agent's folders as root: no link is followed, and nothing but plain files is opened.

Every folder is opened from the one above it, so that no part of a path can be another one than it was.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from . import globs

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DEEPEST = 100


@dataclass(frozen=True)
class Found:
    """What is no folder, or a folder that could not be looked into.

    Attributes:
        path: Relative to the top, with `/`; bytes that are not UTF-8 as `surrogateescape` has them.
        status: What `lstat` says of it; None for a folder.
        problem: Why the folder could not be looked into.
    """

    path: str
    status: os.stat_result | None = None
    problem: str = ""


def open_folder(base: Path, parts: Sequence[str] = ()) -> int:
    """A descriptor of a folder; `base` itself is taken as it is.

    Raises:
        OSError: There is none, or a part of the way is a link.
    """
    folder = os.open(base, _FOLDER & ~os.O_NOFOLLOW)
    for part in parts:
        try:
            below = os.open(part, _FOLDER, dir_fd=folder)
        finally:
            os.close(folder)
        folder = below
    return folder


def open_file(top: int, parts: Sequence[str]) -> BinaryIO:
    """A plain file below a folder.

    Raises:
        OSError: There is none, or a part of the way is a link.
    """
    folder = os.dup(top)
    try:
        for part in parts[:-1]:
            below = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = below
        file = os.open(parts[-1], _FILE, dir_fd=folder)
    finally:
        os.close(folder)
    opened = os.fdopen(file, "rb")
    if not is_plain(os.fstat(file)):
        opened.close()
        raise OSError(errno.EINVAL, "not a file")
    return opened


def walk(top: int, state: globs.State) -> Generator[Found | None, None, None]:
    """What matches, in order of the paths, part by part; None again and again, so that the caller can do other things.

    Args:
        top: The folder; it is left open.
        state: What is wanted in it.
    """
    ways = [_Way(os.dup(top), "", state)]
    try:
        while ways:
            way = ways[-1]
            if way.entries is None:
                try:
                    yield from way.read()
                except OSError as error:
                    yield Found(way.prefix[:-1], problem=error.strerror or str(error))
            if not way.entries:
                os.close(ways.pop().folder)
                continue
            name, is_folder = way.entries.pop()
            path = way.prefix + name
            matches, inside = globs.step(way.state, name)
            if not is_folder:
                yield _found(way.folder, name, path) if matches else None
            elif not inside:
                yield None
            elif len(ways) >= _DEEPEST:
                yield Found(path, problem=f"more than {_DEEPEST} folders deep")
            else:
                try:
                    ways.append(_Way(os.open(_raw(name), _FOLDER, dir_fd=way.folder), path + "/", inside))
                except FileNotFoundError:
                    pass
                except OSError as error:
                    yield Found(path, problem=error.strerror or str(error))
    finally:
        for way in ways:
            os.close(way.folder)


class _Way:
    """A folder on the way down: what is left in it, the last first; None before it is listed."""

    def __init__(self, folder: int, prefix: str, state: globs.State) -> None:
        self.folder = folder
        self.prefix = prefix
        self.state = state
        self.entries: list[tuple[str, bool]] | None = None

    def read(self) -> Iterator[None]:
        """List what is in it, with a moment for others after each."""
        entries = self.entries = []
        with os.scandir(self.folder) as found:
            for entry in found:
                entries.append((_text(entry.name), entry.is_dir(follow_symlinks=False)))
                yield None
        entries.sort(reverse=True)


def _found(folder: int, name: str, path: str) -> Found | None:
    try:
        return Found(path, os.stat(_raw(name), dir_fd=folder, follow_symlinks=False))
    except OSError:  # gone by now
        return None


def is_plain(status: os.stat_result) -> bool:
    """Whether it is a file that has content: no link, pipe, socket or device."""
    return stat.S_ISREG(status.st_mode)


def kind(status: os.stat_result) -> str:
    """What it is instead, in words."""
    return "a symbolic link, and none is followed" if stat.S_ISLNK(status.st_mode) else "not a plain file"


def is_foreign(status: os.stat_result, owner: int) -> bool:
    """Whether somebody else's file may have been linked in: we are root and could read it, the agent could not."""
    return os.geteuid() == 0 and status.st_nlink > 1 and status.st_uid != owner


def _text(name: str) -> str:
    """The name as UTF-8, whatever the machine's locale is."""
    return os.fsencode(name).decode("utf-8", "surrogateescape")


def _raw(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
