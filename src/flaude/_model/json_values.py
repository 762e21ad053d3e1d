"""JSON that a stranger has written: how deep it may be."""

from __future__ import annotations

import json
from typing import Any, TypeGuard

DEEPEST = 100
"""Levels of a JSON value that are kept: pydantic writes no more than 255, and Python reads fewer than a thousand."""


_MOST_LEVELS = 500
"""Those of a line that is read at all. Python 3.11 and 3.12 read somewhat more, 3.13 ten thousand."""


def as_object(line: str) -> dict[str, Any] | None:
    """The JSON object that a line is, with its nesting cut; `None` when it is none, or deeper than anybody reads."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not is_object(value):
        return None
    brackets = line.count("[") + line.count("{")
    if brackets > _MOST_LEVELS and is_deep(value, _MOST_LEVELS):
        return None
    return dict(cut_nesting(value)) if brackets > DEEPEST else value


def is_deep(value: Any, levels: int = DEEPEST) -> bool:
    """Whether a JSON value has lists and objects inside of each other over more than so many levels."""
    level = [value]
    for _ in range(levels):
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, list | dict)]
        level = [one for values in inner for one in values]
        if not level:
            return False
    return any(isinstance(one, list | dict) for one in level)


def cut_nesting(value: Any, levels: int = DEEPEST) -> Any:
    """A JSON value with a mark in place of what is nested deeper: an agent can print what nothing can write again."""
    if not isinstance(value, list | dict):
        return value
    if levels == 0:
        return "[nested too deep]"
    if isinstance(value, list):
        return [cut_nesting(one, levels - 1) for one in value]
    return {name: cut_nesting(one, levels - 1) for name, one in value.items()}


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)
