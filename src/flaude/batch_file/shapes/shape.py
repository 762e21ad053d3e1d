"""What a value may be: each shape reads nodes, and is the JSON Schema of what it reads.

So the check and the schema cannot disagree: they are made of the same objects.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Protocol

from flaude.batch_file.nodes import Node
from flaude.batch_file.problems import Problems

Schema = dict[str, Any]


class _Broken:
    """What a value is read as when it is of no use."""

    def __repr__(self) -> str:
        return "BROKEN"


BROKEN: Final = _Broken()


@dataclass(frozen=True)
class Partly:
    """A list or mapping with a `BROKEN` in it."""

    items: Any


def is_broken(value: Any) -> bool:
    """Whether something is wrong with what a shape has read."""
    return value is BROKEN or isinstance(value, Partly)


class Shape(Protocol):
    """What a value may be."""

    @property
    def wanted(self) -> str:
        """What to give, in words: `a text`."""

    def takes(self, node: Node) -> bool:
        """Whether a node is of the right kind: a text, a list."""

    def read(self, node: Node, path: str, problems: Problems) -> Any:
        """The value; `BROKEN`, or a `Partly`, when something is wrong with it, which is then in `problems`."""

    def schema(self, defs: dict[str, Schema]) -> Schema:
        """The JSON Schema of it; what has a name goes to `defs`."""


def any_of(*schemas: Schema) -> Schema:
    """The schema of what fits one of several, without one inside of another."""
    flat: list[Schema] = []
    for one in schemas:
        flat += one["anyOf"] if one.keys() == {"anyOf"} else [one]
    return {"anyOf": flat}


def instead(node: Node, path: str, wanted: str, problems: Problems, *, text: bool = False) -> Any:
    """Note that a node is of the wrong kind, with the fix; `BROKEN`.

    Args:
        node: What is there.
        path: What it is called.
        wanted: What to give.
        problems: Takes it.
        text: Whether any text would do, so that quotes may be all that is missing.
    """
    problems.add(node, path, _instead(node, wanted, text=text))
    return BROKEN


def _instead(node: Node, wanted: str, *, text: bool) -> str:
    value, written = node.value, node.written or str(node.value)
    if value is None:
        return f"is empty; give {wanted}, or leave it out"
    if isinstance(value, str):
        number = "number" in wanted and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value)
        return f"is a text; give {wanted}{', without quotes' if number else ''}"
    if isinstance(value, list | dict):
        kind = "a list" if isinstance(value, list) else "a mapping"
        quotes = f"; a text that begins with {written} goes in quotes" if text and node.written else ""
        return f"is {kind}; give {wanted}{quotes}"
    if not text:
        return f"is {written}; give {wanted}"
    kind = "true or false" if isinstance(value, bool) else "a number" if isinstance(value, int | float) else "a date"
    return f'{written} is {kind}; to make it a text, put it in quotes: "{written}"'
