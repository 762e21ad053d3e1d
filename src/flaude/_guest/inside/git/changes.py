"""The changed paths, from what git prints for programs. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Change:
    """A changed path: git's letter, and added and removed lines, `None` for binary files.

    `old_path` is where it was before, if that was elsewhere.
    """

    status: str
    path: bytes
    old_path: bytes | None = None
    added: int | None = None
    removed: int | None = None

    @property
    def paths(self) -> list[bytes]:
        """The paths that it is about."""
        return [self.path] if self.old_path is None else [self.old_path, self.path]

    @property
    def sections(self) -> int:
        """How many sections it has in a patch: what turns from a file into a link is removed and then made."""
        return 2 if self.status == "T" else 1

    def json(self) -> dict[str, Any]:
        """As the result tells it."""
        told: dict[str, Any] = {"status": self.status, "path": text(self.path)}
        if self.old_path is not None:
            told["old_path"] = text(self.old_path)
        return {**told, "added": self.added, "removed": self.removed}


def changes(listing: bytes) -> list[Change]:
    """The changes, in git's order, that `git diff --raw --numstat -z` lists."""
    found: list[tuple[str, bytes, bytes | None]] = []
    counts: dict[bytes, tuple[int | None, int | None]] = {}
    fields = iter(listing.split(b"\0")[:-1])
    for field in fields:
        if field.startswith(b":"):
            status = field.rsplit(b" ", 1)[1][:1].decode()
            old_path = next(fields) if status in "RC" else None
            found.append((status, next(fields), old_path))
        else:
            added, removed, path = field.split(b"\t", 2)
            if not path:  # a rename: the old and the new path follow
                next(fields)
                path = next(fields)
            counts[path] = (None, None) if added == b"-" else (int(added), int(removed))
    return [Change(status, path, old_path, *counts.get(path, (None, None))) for status, path, old_path in found]


def names(listing: bytes) -> list[bytes]:
    """What git lists with `-z`."""
    return listing.split(b"\0")[:-1]


def links(stage: bytes) -> Iterator[bytes]:
    """The paths of repositories inside the repository, from `git ls-files --stage -z`."""
    for record in names(stage):
        told, _, path = record.partition(b"\t")
        if told.startswith(b"160000"):
            yield path


def text(data: bytes) -> str:
    """As text; what is not UTF-8 becomes `?`."""
    return data.decode("utf-8", "surrogateescape").encode("utf-8", "replace").decode()
