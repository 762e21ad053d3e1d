"""Shapes that are one of several."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from flaude.batch_file.nodes import Node
from flaude.batch_file.problems import Problems
from flaude.batch_file.shapes.scalars import Text
from flaude.batch_file.shapes.shape import Schema, Shape, any_of, instead


@dataclass(frozen=True)
class Nullable:
    """A value, or null for none."""

    shape: Shape

    @property
    def wanted(self) -> str:
        return self.shape.wanted

    def takes(self, node: Node) -> bool:
        return node.value is None or self.shape.takes(node)

    def read(self, node: Node, path: str, problems: Problems) -> Any:
        return None if node.value is None else self.shape.read(node, path, problems)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        return any_of(self.shape.schema(defs), {"type": "null"})


@dataclass(frozen=True)
class Either:
    """One of several shapes, told apart by their kinds."""

    shapes: tuple[Shape, ...]
    wanted: str

    def takes(self, node: Node) -> bool:
        return any(shape.takes(node) for shape in self.shapes)

    def read(self, node: Node, path: str, problems: Problems) -> Any:
        for shape in self.shapes:
            if shape.takes(node):
                return shape.read(node, path, problems)
        quotes = any(isinstance(shape, Text) and shape.quotes for shape in self.shapes)
        return instead(node, path, self.wanted, problems, text=quotes)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        return any_of(*(shape.schema(defs) for shape in self.shapes))


@dataclass(frozen=True)
class OrColumn:
    """A value, or a text with a `{column}` in it that becomes one for each row."""

    shape: Shape
    PATTERN = r"\{[A-Za-z_][A-Za-z0-9_]*\}"

    @property
    def wanted(self) -> str:
        return f"{self.shape.wanted}, or a {{column}}"

    def _filled(self, node: Node) -> bool:
        return isinstance(node.value, str) and re.search(self.PATTERN, node.value) is not None

    def takes(self, node: Node) -> bool:
        return self._filled(node) or self.shape.takes(node)

    def read(self, node: Node, path: str, problems: Problems) -> Any:
        if isinstance(node.value, list | dict):  # most likely a `{column}` that is not in quotes
            return instead(node, path, self.wanted, problems, text=True)
        return node.value if self._filled(node) else self.shape.read(node, path, problems)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        return any_of(self.shape.schema(defs), {"type": "string", "pattern": self.PATTERN})
