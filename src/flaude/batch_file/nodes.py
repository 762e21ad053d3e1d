"""`Node`: a value of a batch file, and where it stands."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

MOST_VALUES = 1_000_000
"""Values of one file, aliases followed: ten thousand tasks with a hundred values each."""

DEEPEST = 100
"""Lists and mappings inside one another."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A place in a file.

    Attributes:
        file: The file's name, as the user gave it.
        line: From 1; 0 when the file as a whole is meant.
        column: From 1, in characters; 0 likewise.
    """

    file: str
    line: int = 0
    column: int = 0


@dataclass(slots=True, eq=False)
class Node:
    """A value and its place.

    Attributes:
        value: None, a bool, int, float or str, a date or time of TOML, a list of nodes, or a mapping of names to nodes.
        place: Where it begins.
        keys: Of a mapping, where its keys begin.
        written: How the file writes a value that is no text, such as `1.10`; `[` or `{` for YAML's lists and mappings
            in brackets; may be empty.
    """

    value: Any
    place: Place
    keys: dict[str, Place] = field(default_factory=dict)
    written: str = ""

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        if isinstance(self.value, dict):
            return {name: item.plain() for name, item in self.value.items()}
        return self.value


class Lines:
    """Tells the place of a character.

    Args:
        text: The whole file; a line ends with a line feed, with or without a carriage return before it.
        file: Its name.
    """

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self._starts = [0]
        at = text.find("\n")
        while at >= 0:
            self._starts.append(at + 1)
            at = text.find("\n", at + 1)

    def place(self, offset: int) -> Place:
        """The place of the character at `offset`; of the last one when it lies beyond."""
        offset = max(0, min(offset, len(self.text)))
        line = bisect_right(self._starts, offset)
        return Place(self.file, line, offset - self._starts[line - 1] + 1)

    def line(self, number: int) -> str:
        """A line, counted from 1, without its end; empty when there is no such line."""
        if not 1 <= number <= len(self._starts):
            return ""
        start = self._starts[number - 1]
        end = self._starts[number] if number < len(self._starts) else len(self.text)
        return self.text[start:end].rstrip("\r\n")


MOST_DIGITS = 30
"""Digits of a number: Python takes quadratic time to read longer ones, and nothing here is that large."""


def number_trouble(number: float) -> str:
    """What keeps a number from being used; empty when nothing does."""
    if isinstance(number, float):
        trouble = "is too large" if math.isinf(number) else "is no number that anything here can be"
        return "" if math.isfinite(number) else trouble
    return "" if abs(number) < 1 << 63 else "is too large"


def text_trouble(text: str) -> str:
    """What keeps a text from being used; empty when nothing does."""
    half = any("\ud800" <= c <= "\udfff" for c in text)
    return "the text has half a character in it (\\ud800 to \\udfff)" if half else ""
