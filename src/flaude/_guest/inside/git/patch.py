"""The patch: what `git diff` prints, streamed into a file, without the sections that are beyond the limit."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ..agent.file_up_to import FileUpTo
from .budget import Budget
from .changes import Change, changes
from .omissions import Omissions
from .scratch_repo import NotCollected, ScratchRepo, why

_DIFF = (
    "diff", "--cached", "--no-ext-diff", "--no-textconv", "--no-color", "--find-renames", "--no-relative",
    "--ignore-submodules=none",
)  # fmt: skip
_PATCH = ("--patch", "--binary", "--full-index", "--src-prefix=a/", "--dst-prefix=b/", "--unified=3")
_LIST = ("--raw", "--numstat", "-z", "--abbrev=40")


async def changed(scratch: ScratchRepo, head: str) -> list[Change]:
    """What differs between a commit and the index, in the order of the patch.

    Raises:
        NotCollected: git failed.
    """
    done = await scratch.git(*_DIFF, *_LIST, head)
    if done.code:
        raise NotCollected(why("git diff", done))
    return changes(done.stdout)


async def write_patch(
    scratch: ScratchRepo, head: str, found: list[Change], path: Path, budget: Budget, omissions: Omissions
) -> list[Change]:
    """Write the patch to a file; where it is over the limit, the smallest files come first.

    Args:
        scratch: The repository.
        head: The commit that the patch is against.
        found: The changes.
        path: The file.
        budget: What the patch may have, and takes.
        omissions: Takes what does not fit.

    Returns:
        The changes that are in it.

    Raises:
        NotCollected: git failed.
        OSError: There is no room for the patch.
    """
    sizes: list[int] = []

    def measure(number: int, size: int) -> bool:
        if number == len(sizes):
            sizes.append(0)
        sizes[number] += size
        return True

    left = budget.left
    size = await _stream(scratch, head, path, left, measure)
    if sum(change.sections for change in found) != len(sizes):
        raise NotCollected(f"git diff has {len(sizes)} parts for {len(found)} changes")
    if left is not None and size > left:
        starts = _starts(found)
        costs = [sum(sizes[start : start + change.sections]) for start, change in zip(starts, found)]
        kept = choose(found, costs, left)
        chosen = {
            start + part for start, change, keep in zip(starts, found, kept) if keep for part in range(change.sections)
        }
        for change, keep in zip(found, kept):
            if not keep:
                reason = f"the patch is limited to {budget}"
                loud = f"not in the patch, whose limit is {budget}"
                omissions.add(change.path, reason, size=_size(scratch.worktree, change.path), loud=loud)
        size = await _stream(scratch, head, path, None, lambda number, _: number in chosen)
        found = [change for change, keep in zip(found, kept) if keep]
    budget.use(size)
    return found


def choose(found: list[Change], costs: list[int], limit: int) -> list[bool]:
    """Which changes to keep so that their sections fit into a limit, the smallest first.

    Changes that only apply together are kept together: where one makes a folder of what another removes, or moves
    to a path that another leaves.

    Args:
        found: The changes.
        costs: The size of each one's part of the patch.
        limit: What is to be kept at most.
    """
    group = list(range(len(found)))

    def root(number: int) -> int:
        while group[number] != number:
            group[number] = number = group[group[number]]
        return number

    owners: dict[bytes, int] = {}
    for number, change in enumerate(found):
        for path in change.paths:
            group[root(number)] = root(owners.setdefault(path, number))
    for number, change in enumerate(found):
        for path in change.paths:
            for parent in _parents(path):
                if parent in owners:
                    group[root(number)] = root(owners[parent])
    total: dict[int, int] = {}
    for number, cost in enumerate(costs):
        total[root(number)] = total.get(root(number), 0) + cost
    kept, used = set(), 0
    for number, cost in sorted(total.items(), key=lambda item: item[1]):
        used += cost
        if used > limit:
            break
        kept.add(number)
    return [root(number) in kept for number in range(len(found))]


def _parents(path: bytes) -> Iterator[bytes]:
    while b"/" in path:
        path = path.rpartition(b"/")[0]
        yield path


def _starts(found: list[Change]) -> list[int]:
    starts, at = [], 0
    for change in found:
        starts.append(at)
        at += change.sections
    return starts


def _size(worktree: Path, path: bytes) -> int | None:
    try:
        status = os.lstat(os.fsencode(worktree) + b"/" + path)
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


async def _stream(
    scratch: ScratchRepo, head: str, path: Path, limit: int | None, wants: Callable[[int, int], bool]
) -> int:
    """Write the sections that are wanted, up to a limit; the bytes of all that are wanted, beyond the limit too."""
    with contextlib.closing(FileUpTo(path, limit)) as file:
        sections = Sections()

        def put(parts: Iterable[tuple[int, bytes]]) -> bool:
            for number, part in parts:
                if wants(number, len(part)):
                    file.write(part)
            return file.error is None

        done = await scratch.git(*_DIFF, *_PATCH, head, take=lambda piece: put(sections.feed(piece)))
        put(sections.finish())
    if file.error is not None:
        raise file.error
    if done.code:
        raise NotCollected(why("git diff", done))
    return file.size


class Sections:
    """Takes a diff apart, in pieces cut anywhere: a section begins at each line that only its head can have."""

    _MARK = b"\ndiff --git "

    def __init__(self) -> None:
        self._rest = b"\n"
        self._number = -1

    def feed(self, piece: bytes) -> Iterator[tuple[int, bytes]]:
        """The sections' numbers, each with its next bytes."""
        data, begin = self._rest + piece, 0
        while (at := data.find(self._MARK, begin)) >= 0:
            yield from self._part(data[begin : at + 1])
            self._number += 1
            begin = at + 1
        # What may be the first half of a mark waits for the other.
        last = data.rfind(b"\n", max(begin, len(data) - len(self._MARK)))
        end = last if last >= 0 and self._MARK.startswith(data[last:]) else len(data)
        self._rest = data[end:]
        yield from self._part(data[begin:end])

    def finish(self) -> Iterator[tuple[int, bytes]]:
        """What was kept back."""
        yield from self._part(self._rest)

    def _part(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        if data and self._number >= 0:
            yield self._number, data
