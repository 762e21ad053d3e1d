"""The agent's tree without its rules: where git fails or hangs with them, files are taken byte for byte.

Neither ignore rules nor attributes are read, by git's own plumbing: what has changed is found by looking at the files.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from . import git_errors
from .agent_repo import AgentRepo
from .budget import Budget
from .changes import text
from .omissions import Omissions
from .permissions import everything, owner_of
from .scratch_repo import NotCollected, ScratchRepo, escaped, why

# Folders that are hardly ever meant to be kept. Small ones come all the same: nobody can tell.
_USUALLY_IGNORED = {
    b"node_modules", b".venv", b"venv", b"__pycache__", b"target", b"build", b"dist", b".tox", b".nox", b".cache",
    b".mypy_cache", b".pytest_cache", b".ruff_cache", b".next", b".gradle", b"vendor",
}  # fmt: skip
_MOST_IGNORED_BYTES = 1 << 20
_MOST_FAILING = 1000
_PIECE = 1000
_LISTED = re.compile(
    rb"(\d+) ([0-9a-f]+) \d\t([^\0]+)\0  ctime: \d+:\d+\n  mtime: (\d+):(\d+)\n"
    rb"  dev: \d+\tino: \d+\n  uid: \d+\tgid: \d+\n  size: (\d+)\tflags: [0-9a-f]+\n"
)


@dataclass(frozen=True)
class _Tracked:
    mode: bytes
    id: bytes
    mtime_ns: int
    size: int


async def collect_plain(
    scratch: ScratchRepo, theirs: AgentRepo, head: str, budget: Budget, omissions: Omissions
) -> None:
    """Bring what has changed, and all that is new, into the scratch repository's index.

    Args:
        scratch: The repository, which reads no rules.
        theirs: The agent's, which says what need not be there.
        head: The commit to begin with.
        budget: What the patch may have.
        omissions: Takes what is not in the index.

    Raises:
        NotCollected: git could do nothing.
    """
    done = await scratch.git("read-tree", "-i", "--reset", head)
    if done.code:
        (scratch.folder / "index").unlink()
        done = await scratch.git("read-tree", "-i", "--reset", head)
    if done.code:
        raise NotCollected(why("git read-tree", done))
    await _Plain(scratch, theirs, omissions).collect(budget)


class _Plain:
    def __init__(self, scratch: ScratchRepo, theirs: AgentRepo, omissions: Omissions) -> None:
        self._scratch = scratch
        self._sparse = {path for path, entry in (theirs.index or {}).items() if entry.sparse}
        self._omissions = omissions
        self._folder = os.fsencode(scratch.worktree)

    async def collect(self, budget: Budget) -> None:
        listed = await self._scratch.git("ls-files", "-z", "--stage", "--debug")
        if listed.code:
            raise NotCollected(why("git ls-files", listed))
        tracked = {
            path: _Tracked(mode, identity, int(seconds) * 10**9 + int(part), int(size))
            for mode, identity, path, seconds, part, size in _LISTED.findall(listed.stdout)
        }
        found = await self._found(tracked)
        links = {path for path, entry in tracked.items() if entry.mode == b"160000"}
        gone = tracked.keys() - found.keys() - links - self._sparse
        wanted = {path: status for path, status in found.items() if _differs(tracked.get(path), status)}
        # Those that are not there any more first: a folder may be where a file was.
        wanted = self._fitting(wanted, tracked, budget)
        made = await self._hash(wanted)
        lines = {path: b"0 %s\t%s\0" % (b"0" * 40, path) for path in sorted(gone)}
        lines |= {path: b"%s %s\t%s\0" % (_mode(wanted[path]), made[path], path) for path in sorted(made)}
        for _ in range(_MOST_FAILING):
            done = await self._scratch.git("update-index", "-z", "--index-info", stdin=b"".join(lines.values()))
            if done.code == 0:
                return
            path = git_errors.path(done.stderr, lines.__contains__)
            if path is None:
                raise NotCollected(why("git update-index", done))
            del lines[path]
            self._omit(path, "git does not take a file of that name")
        raise NotCollected("there are too many files whose names git does not take")

    async def _found(self, tracked: dict[bytes, _Tracked]) -> dict[bytes, os.stat_result]:
        """All files and links that are there."""
        above = {parent for path in tracked for parent in _parents(path)}

        def enter(path: bytes) -> bool:
            if path.rpartition(b"/")[2].lower() == b".git" or tracked.get(path, _NOTHING).mode == b"160000":
                return False
            if path not in above and os.path.lexists(self._folder + b"/" + path + b"/.git"):
                self._omit(path + b"/", "a repository of its own")
                return False
            return True

        found: dict[bytes, os.stat_result] = {}
        top = os.open(self._scratch.worktree, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for number, (folder, path, problem) in enumerate(everything(top, owner_of(self._scratch.user), enter)):
                if number % _PIECE == 0:
                    await asyncio.sleep(0)
                name = path.rpartition(b"/")[2]
                if name.lower() == b".git":
                    continue
                if problem:
                    self._omit(path, problem)
                    continue
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                    found[path] = status
        finally:
            os.close(top)
        return found

    def _fitting(
        self, wanted: dict[bytes, os.stat_result], tracked: dict[bytes, _Tracked], budget: Budget
    ) -> dict[bytes, os.stat_result]:
        """What is not in large folders that are usually ignored, and has room, the smallest first."""
        folders: dict[bytes, int] = {}
        places = {path: _usually_ignored(path) for path in wanted if path not in tracked}
        for path, place in places.items():
            if place:
                folders[place] = folders.get(place, 0) + wanted[path].st_size
        heavy = {place for place, size in folders.items() if size > _MOST_IGNORED_BYTES}
        for place in sorted(heavy):
            self._omissions.add(
                place + b"/", "a large folder of that name is usually ignored", size=folders[place],
                loud="not in the patch, as such folders are usually ignored",
            )  # fmt: skip
        left, total = budget.left, 0
        kept = {}
        for path, status in sorted(wanted.items(), key=lambda item: item[1].st_size):
            if places.get(path) in heavy:
                continue
            total += status.st_size
            if left is not None and total > left:
                self._omissions.add(
                    path, f"the patch is limited to {budget}", size=status.st_size,
                    loud=f"not in the patch, whose limit is {budget}",
                )  # fmt: skip
            else:
                kept[path] = status
        return kept

    async def _hash(self, wanted: dict[bytes, os.stat_result]) -> dict[bytes, bytes]:
        """The ids of files, which are objects now."""
        links = self._scratch.folder / "links"
        links.mkdir(exist_ok=True)
        names = {}
        for number, (path, status) in enumerate(wanted.items()):
            names[path] = path
            if stat.S_ISLNK(status.st_mode):
                names[path] = os.fsencode(links / str(number))
                (links / str(number)).write_bytes(self._target(path))
        made: dict[bytes, bytes] = {}
        left = list(wanted)
        for _ in range(_MOST_FAILING):
            lines = b"".join(escaped(names[path]) + b"\n" for path in left)
            done = await self._scratch.git("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=lines)
            ids = done.stdout.split()
            made.update(zip(left, ids))
            left = left[len(ids) :]
            if not left:
                return made
            # It ends at the first that it cannot read.
            told = text(done.stderr).strip().splitlines()
            self._omit(left.pop(0), told[-1][-4000:] if told else "git could not read it")
        raise NotCollected("there are too many files that git cannot read")

    def _target(self, path: bytes) -> bytes:
        return os.readlink(self._folder + b"/" + path)  # noqa: PTH115  # no `Path` is made of bytes

    def _omit(self, path: bytes, reason: str) -> None:
        self._omissions.add(path, reason, loud="unreadable for git and not in the patch")


_NOTHING = _Tracked(b"", b"", 0, 0)


def _differs(entry: _Tracked | None, status: os.stat_result) -> bool:
    return (
        entry is None
        or entry.mode != _mode(status)
        or entry.size != status.st_size
        or entry.mtime_ns != status.st_mtime_ns
    )


def _mode(status: os.stat_result) -> bytes:
    if stat.S_ISLNK(status.st_mode):
        return b"120000"
    return b"100755" if status.st_mode & stat.S_IXUSR else b"100644"


def _parents(path: bytes) -> Iterator[bytes]:
    while b"/" in path:
        path = path.rpartition(b"/")[0]
        yield path


def _usually_ignored(path: bytes) -> bytes:
    """The outermost folder above it that is usually ignored."""
    parts = path.split(b"/")
    for number, part in enumerate(parts[:-1]):
        if part in _USUALLY_IGNORED:
            return b"/".join(parts[: number + 1])
    return b""
