"""What is not in a patch although it is in the tree: each file with its reason, and a sentence about all. Pure."""

from __future__ import annotations

from typing import Any

from .changes import text

_MOST_NAMED = 3
_MOST_TOLD = 1000
_UNIT = 1024


class Omissions:
    """Collects them. Only what is loud makes the patch one that is not whole."""

    def __init__(self) -> None:
        self._told: list[dict[str, Any]] = []
        self._loud: dict[str, list[str]] = {}
        self._left_out = 0

    def add(self, path: bytes | str, reason: str, *, size: int | None = None, loud: str = "") -> None:
        """One more.

        Args:
            path: The path in the repository, or a word in parentheses.
            reason: Why it is not in the patch.
            size: Its size in bytes, where that is known.
            loud: What the sentence about all says of it: how `3 files ...` goes on.
        """
        name = path if isinstance(path, str) else text(path)
        if len(self._told) < _MOST_TOLD:
            self._told.append({"path": name, "size": size, "reason": reason})
        else:
            self._left_out += 1
        if loud:
            self._loud.setdefault(loud, []).append(name if size is None else f"{name} ({size_text(size)})")

    def json(self) -> list[dict[str, Any]]:
        """As the result tells them."""
        if not self._left_out:
            return list(self._told)
        return [*self._told, {"path": "(more)", "size": None, "reason": f"{self._left_out} more are not listed"}]

    @property
    def sentence(self) -> str:
        """What is missing and why; empty when nothing is."""
        return "; ".join(
            f"{len(names)} {'file is' if len(names) == 1 else 'files are'} {loud}: {_some(names)}"
            for loud, names in self._loud.items()
        )


def _some(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def size_text(size: float) -> str:
    """A number of bytes for people, with one decimal at most."""
    if size < _UNIT:
        return f"{size:g} bytes"
    for unit in ("KB", "MB"):
        size = size / _UNIT
        if size < _UNIT:
            return f"{round(size, 1):g} {unit}"
    return f"{round(size / _UNIT, 1):g} GB"
