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
    """A descriptor of a folder; `base` itself is taken as it is: nobody but root may be able to put a link there.

    Raises:
        OSError: There is none, or a part of the way is a link.
    """
    return _down(os.open(base, _FOLDER & ~os.O_NOFOLLOW), parts)


def open_file(top: int, parts: Sequence[str]) -> BinaryIO:
    """A plain file below a folder.

    Raises:
        OSError: There is none, or a part of the way is a link.
    """
    folder = _down(os.dup(top), parts[:-1])
    try:
        file = os.open(_raw(parts[-1]), _FILE, dir_fd=folder)
    finally:
        os.close(folder)
    opened = os.fdopen(file, "rb")
    if not is_plain(os.fstat(file)):
        opened.close()
        raise OSError(errno.EINVAL, "not a file")
    return opened


def open_same(top: int, path: str, status: os.stat_result) -> BinaryIO:
    """A file that was found before; `path` as it was found.

    Raises:
        OSError: There is none, a part of the way is a link, or it is another file now.
    """
    opened = open_file(top, path.split("/"))
    now = os.fstat(opened.fileno())
    if any(getattr(now, name) != getattr(status, name) for name in ("st_dev", "st_ino", "st_uid")):
        opened.close()
        raise OSError(errno.ESTALE, "it is another file than it was")
    return opened


def _down(folder: int, parts: Sequence[str]) -> int:
    """From one open folder to one below, which takes its place."""
    for part in parts:
        try:
            below = os.open(_raw(part), _FOLDER, dir_fd=folder)
        finally:
            os.close(folder)
        folder = below
    return folder


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
    """Whether it is somebody else's file: we are root and could read it, the agent maybe could not.

    It may have been linked in, or mounted. An agent that is root itself can read all there is.
    """
    return os.geteuid() == 0 != owner != status.st_uid


def _text(name: str) -> str:
    """The name as UTF-8, whatever the machine's locale is."""
    return os.fsencode(name).decode("utf-8", "surrogateescape")


def _raw(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
