"""Shapes of lists and mappings whose items are all alike."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from flaude.batch_file.nodes import Node
from flaude.batch_file.problems import Problems
from flaude.batch_file.shapes.shape import BROKEN, Partly, Schema, Shape, instead, is_broken


@dataclass(frozen=True)
class ListOf:
    """A list.

    Attributes:
        item: What its items are.
        wanted: What to give.
        least: How many items it must have.
    """

    item: Shape
    wanted: str = "a list"
    least: int = 0

    def takes(self, node: Node) -> bool:
        return isinstance(node.value, list)

    def read(self, node: Node, path: str, problems: Problems) -> Any:
        if not isinstance(node.value, list):
            return instead(node, path, self.wanted, problems)
        if len(node.value) < self.least:
            problems.add(node, path, f"is empty; give {self.wanted}")
            return BROKEN
        items = [self.item.read(item, f"{path}[{index}]", problems) for index, item in enumerate(node.value)]
        return Partly(items) if any(map(is_broken, items)) else items

    def schema(self, defs: dict[str, Schema]) -> Schema:
        found: Schema = {"type": "array", "items": self.item.schema(defs)}
        return {**found, "minItems": self.least} if self.least else found


@dataclass(frozen=True)
class MapOf:
    """A mapping of any names to values of one shape."""

    item: Shape
    wanted: str = "a mapping of names to values"

    def takes(self, node: Node) -> bool:
        return isinstance(node.value, dict)

    def read(self, node: Node, path: str, problems: Problems) -> Any:
        if not isinstance(node.value, dict):
            return instead(node, path, self.wanted, problems)
        items = {name: self.item.read(item, f"{path}.{name}", problems) for name, item in node.value.items()}
        return Partly(items) if any(map(is_broken, items.values())) else items

    def schema(self, defs: dict[str, Schema]) -> Schema:
        return {"type": "object", "additionalProperties": self.item.schema(defs)}


@dataclass(frozen=True)
class JsonObject:
    """A mapping of anything that JSON has."""

    wanted: str = "a mapping"

    def takes(self, node: Node) -> bool:
        return isinstance(node.value, dict)

    def read(self, node: Node, path: str, problems: Problems) -> Any:
        if not isinstance(node.value, dict):
            return instead(node, path, self.wanted, problems)
        before = len(problems)
        _no_dates(node, path, problems)
        return node.plain() if len(problems) == before else BROKEN

    def schema(self, defs: dict[str, Schema]) -> Schema:
        del defs
        return {"type": "object"}


def _no_dates(node: Node, path: str, problems: Problems) -> None:
    if isinstance(node.value, dict):
        for name, item in node.value.items():
            _no_dates(item, f"{path}.{name}", problems)
    elif isinstance(node.value, list):
        for index, item in enumerate(node.value):
            _no_dates(item, f"{path}[{index}]", problems)
    elif isinstance(node.value, dt.date | dt.time):
        instead(node, path, "a text", problems, text=True)
