"""What does not come back although it is there: each file with its reason, and sentences about all. Pure."""

from __future__ import annotations

from typing import Any

from .. import wording
from .changes import text

_MOST_NAMED = 3
_MOST_TOLD = 1000
_MOST_LETTERS = 200


class Omissions:
    """Counts all of them and keeps some. Only what is loud makes the work one that is not whole."""

    def __init__(self) -> None:
        self._told: list[dict[str, Any]] = []
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}
        self._left_out = 0

    def add(self, path: bytes | str, reason: str, *, size: int | None = None, loud: str = "") -> None:
        """One more.

        Args:
            path: The path, or a word in parentheses.
            reason: Why it does not come back.
            size: Its size in bytes, where that is known.
            loud: What the sentence about all such files says of them: how `3 files are ...` goes on.
        """
        name = path if isinstance(path, str) else text(path)
        if len(self._told) < _MOST_TOLD:
            self._told.append({"path": name, "size": size, "reason": reason})
        else:
            self._left_out += 1
        if loud:
            self._counts[loud] = self._counts.get(loud, 0) + 1
            examples = self._examples.setdefault(loud, [])
            if len(examples) < _MOST_NAMED:
                short = name if len(name) <= _MOST_LETTERS else f"{name[:_MOST_LETTERS]}..."
                examples.append(short if size is None else f"{short} ({wording.size(size)})")

    def json(self) -> list[dict[str, Any]]:
        """As the result tells them."""
        if not self._left_out:
            return list(self._told)
        return [*self._told, {"path": "(more)", "size": None, "reason": f"{self._left_out} more are not listed"}]

    @property
    def sentence(self) -> str:
        """What is missing and why; empty when nothing is."""
        return "; ".join(
            f"{count} {'file is' if count == 1 else 'files are'} {loud}: {_some(self._examples[loud], count)}"
            for loud, count in self._counts.items()
        )


def _some(examples: list[str], count: int) -> str:
    more = count - len(examples)
    return ", ".join(examples) + (f" and {more} more" if more > 0 else "")
