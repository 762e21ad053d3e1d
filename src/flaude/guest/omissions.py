"""The account of what does not come back: each file by name as long as there are not too many, and sentences on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import names

_MOST_LISTED = 1_000
_MOST_NAMED = 5


class Omissions:
    """Counts all, and keeps some.

    Args:
        clean: Takes secrets out of names.
    """

    def __init__(self, clean: Callable[[str], str]) -> None:
        self._clean = clean
        self._listed: list[dict[str, Any]] = []
        self._quiet: list[dict[str, Any]] = []
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}

    def add(self, path: str, size: int | None, reason: str, rule: str = "") -> None:
        """A file that is missed.

        Args:
            path: Its path, as `tree` has it.
            size: In bytes, where that is known.
            reason: Why, in a few words.
            rule: The same for a whole sentence on all such files, which begins "... are not among the artifacts".
        """
        self._counts[rule] = self._counts.get(rule, 0) + 1
        examples = self._examples.setdefault(rule, [])
        told = self._clean(names.readable(path))
        if len(examples) < _MOST_NAMED:
            examples.append(f"{told} ({reason if not rule or size is None else names.size(size)})")
        if len(self._listed) < _MOST_LISTED:
            self._listed.append({"path": told, "size": size, "reason": reason})

    def add_quietly(self, path: str, reason: str) -> None:
        """What has no content of its own to be missed: it is listed while there is room, and no error."""
        if len(self._quiet) < _MOST_LISTED:
            self._quiet.append({"path": self._clean(names.readable(path)), "size": None, "reason": reason})

    @property
    def listed(self) -> list[dict[str, Any]]:
        """The result's list."""
        return [*self._listed, *self._quiet][:_MOST_LISTED]

    @property
    def sentences(self) -> list[str]:
        """One for each rule: how many files, why, and which."""
        return [self._sentence(rule, count) for rule, count in self._counts.items()]

    def _sentence(self, rule: str, count: int) -> str:
        subject = "1 file is" if count == 1 else f"{count} files are"
        examples = self._examples[rule]
        more = f" and {count - len(examples)} more" if count > len(examples) else ""
        return f"{subject} not among the artifacts{rule}: {', '.join(examples)}{more}"
