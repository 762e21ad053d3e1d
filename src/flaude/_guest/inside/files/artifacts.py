"""Artifacts: the files of the working folder that were asked for by glob, the smallest first when not all may come."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

from .. import wording
from ..cooperative import OutOfTime, Pace
from ..git.omissions import Omissions
from ..outgoing_files import OutgoingFiles
from . import globs, walk

_MOST_FILES = 10_000
_LOUD = "not among the artifacts"


class _File(NamedTuple):
    """In the order in which they are taken."""

    size: int
    path: str
    status: os.stat_result


async def collect_artifacts(
    top: int,
    wanted: Sequence[str],
    *,
    owner: int,
    max_bytes: int,
    outbox: OutgoingFiles,
    clean: Callable[[str], str],
    seconds: float | None,
) -> dict[str, Any]:
    """The result's part on them; the files go into the outbox as they lie, so nothing may change them any more.

    Args:
        top: Descriptor of the working folder; the files are fetched by a copy of it, which stays open.
        wanted: The globs.
        owner: The agent's user id.
        max_bytes: How much they may be together; 0 for no limit.
        outbox: Takes them.
        clean: Takes secrets out of what is told, names too.
        seconds: How long it may take, half of it for the search; None for as long as it likes.
    """
    omissions, errors = Omissions(), []
    files: list[_File] = []
    try:
        await _search(top, wanted, owner, files, omissions, Pace(None if seconds is None else seconds / 2))
    except OutOfTime:
        errors.append(f"the folder was not searched to its end for artifacts: that took longer than {seconds or 0:g} s")
    _keep_smallest(files, omissions)
    taken = _within(files, max_bytes, omissions)
    told = await _announce(taken, os.dup(top), outbox, omissions, _Paths(clean), Pace(seconds))
    return {
        "artifacts": sorted(told, key=lambda artifact: artifact["path"]),
        "artifacts_omitted": [{**one, "path": clean(one["path"])} for one in omissions.json()],
        "artifacts_error": clean("; ".join([*filter(None, [omissions.sentence]), *errors])),
    }


async def _search(
    top: int, wanted: Sequence[str], owner: int, files: list[_File], omissions: Omissions, pace: Pace
) -> None:
    with closing(walk.walk(top, globs.parse(wanted))) as everything:
        for found in everything:
            await pace.step()
            if found is None:
                continue
            status = found.status
            if status is None:
                _miss(omissions, found.path + "/", found.problem)
            elif not walk.is_plain(status):
                # It has no content to be missed.
                omissions.add(wording.readable(found.path), walk.kind(status))
            elif walk.is_foreign(status, owner):
                _miss(omissions, found.path, "a file of another user", status.st_size)
            else:
                files.append(_File(status.st_size, found.path, status))
                if len(files) > 2 * _MOST_FILES:
                    _keep_smallest(files, omissions)


def _keep_smallest(files: list[_File], omissions: Omissions) -> None:
    """Leave as many as may come, sorted."""
    files.sort()
    for file in reversed(files[_MOST_FILES:]):
        rule = f"{_LOUD}, of which {_MOST_FILES} may come a run"
        omissions.add(wording.readable(file.path), f"more than {_MOST_FILES} files", size=file.size, loud=rule)
    del files[_MOST_FILES:]


def _within(files: list[_File], max_bytes: int, omissions: Omissions) -> list[_File]:
    """As many of the sorted files as are within the limit."""
    total = count = 0
    for file in files:
        total += file.size
        if max_bytes and total > max_bytes:
            break
        count += 1
    limit = wording.size(max_bytes)
    for file in reversed(files[count:]):
        rule = f"{_LOUD}, whose limit is {limit} a run"
        omissions.add(wording.readable(file.path), f"over the limit of {limit} a run", size=file.size, loud=rule)
    return files[:count]


async def _announce(
    files: list[_File], top: int, outbox: OutgoingFiles, omissions: Omissions, paths: _Paths, pace: Pace
) -> list[dict[str, str]]:
    told = []
    for number, file in enumerate(files):
        name = f"artifact/{number}"
        try:
            await pace.step()
            kept = await outbox.announce_large(name, partial(walk.open_same, top, file.path, file.status), pace.step)
        except OutOfTime:
            _miss(omissions, file.path, "there was no time for it", file.size)
        except OSError as error:
            _miss(omissions, file.path, error.strerror or str(error), file.size)
        else:
            if kept["size"] == file.size:
                told.append({"path": paths.tell(file.path), "file": name})
            else:
                outbox.withdraw(name)
                _miss(omissions, file.path, "it was written to while it was collected", file.size)
    return told


def _miss(omissions: Omissions, path: str, reason: str, size: int | None = None) -> None:
    omissions.add(wording.readable(path), reason, size=size, loud=f"{_LOUD} ({reason})")


class _Paths:
    """How paths are told: readable, without secrets, and no two the same."""

    def __init__(self, clean: Callable[[str], str]) -> None:
        self._clean = clean
        self._told: set[str] = set()

    def tell(self, path: str) -> str:
        told = candidate = self._clean(wording.readable(path))
        number = 1
        while candidate in self._told:
            number += 1
            candidate = f"{told}~{number}"
        self._told.add(candidate)
        return candidate
