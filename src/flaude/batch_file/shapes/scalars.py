"""Shapes of single values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flaude._model.durations import PATTERN, seconds_of
from flaude.batch_file.nodes import Node
from flaude.batch_file.problems import Problems, did_you_mean, nearest, shown
from flaude.batch_file.shapes.shape import BROKEN, Schema, any_of, instead


@dataclass(frozen=True)
class Text:
    """A text.

    Attributes:
        wanted: What to give.
        pattern: What it must match, as a regular expression of JSON Schema.
        choices: All that it may be.
        least: How many characters it must have.
        quotes: Whether a number may be meant as a text, and lack its quotes alone.
        hint: What it is, to say when it does not match; what is wanted, when that is empty.
    """

    wanted: str = "a text"
    pattern: str = ""
    choices: tuple[str, ...] = ()
    least: int = 0
    hint: str = ""
    quotes: bool = True

    def takes(self, node: Node) -> bool:
        return isinstance(node.value, str)

    def read(self, node: Node, path: str, problems: Problems) -> Any:
        value = node.value
        if not isinstance(value, str):
            return instead(node, path, self.wanted, problems, text=self.quotes)
        if self.choices and value not in self.choices:
            near = did_you_mean(nearest(value, self.choices)) or f"; there is {', '.join(self.choices)}"
            problems.add(node, path, f"there is no {shown(value)}{near}")
        elif len(value) < self.least:
            problems.add(node, path, f"is empty; give {self.wanted}")
        elif self.pattern and not self._matches.search(value):
            fix = f": {self.hint.rstrip('.')}" if self.hint else f"; give {self.wanted}"
            problems.add(node, path, f"does not fit{fix}")
        else:
            return value
        return BROKEN

    @cached_property
    def _matches(self) -> re.Pattern[str]:
        # `$` of JSON Schema is the very end, that of Python also stands before a last line feed.
        return re.compile(re.sub(r"\$$", r"\\Z", self.pattern))

    def schema(self, defs: dict[str, Schema]) -> Schema:
        del defs
        found: Schema = {"type": "string"}
        if self.pattern:
            found["pattern"] = self.pattern
        if self.choices:
            found["enum"] = list(self.choices)
        if self.least:
            found["minLength"] = self.least
        return found


@dataclass(frozen=True)
class Number:
    """A number: whole or not, at least `least`, above `above`, at most `most`."""

    whole: bool = False
    least: float | None = None
    above: float | None = None
    most: float | None = None

    @property
    def wanted(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        bounds = [
            f"from {self.least:g}" if self.least is not None else "",
            f"above {self.above:g}" if self.above is not None else "",
            f"up to {self.most:g}" if self.most is not None else "",
        ]
        return " ".join(filter(None, (kind, *bounds)))

    def takes(self, node: Node) -> bool:
        return isinstance(node.value, int | float) and not isinstance(node.value, bool)

    def read(self, node: Node, path: str, problems: Problems) -> Any:
        if not self.takes(node):
            return instead(node, path, self.wanted, problems)
        value = node.value
        fits = (
            (not self.whole or value == int(value))
            and (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
        )
        if not fits:
            problems.add(node, path, f"is {node.written or value}; give {self.wanted}")
            return BROKEN
        return int(value) if self.whole else value

    def schema(self, defs: dict[str, Schema]) -> Schema:
        del defs
        bounds = {"minimum": self.least, "exclusiveMinimum": self.above, "maximum": self.most}
        return {
            "type": "integer" if self.whole else "number",
            **{name: bound for name, bound in bounds.items() if bound is not None},
        }


@dataclass(frozen=True)
class Flag:
    """True or false."""

    wanted: str = "true or false"

    def takes(self, node: Node) -> bool:
        return isinstance(node.value, bool)

    def read(self, node: Node, path: str, problems: Problems) -> Any:
        if isinstance(node.value, str) and node.value.lower() in {"yes", "no", "on", "off", "true", "false"}:
            right = "true" if node.value.lower() in {"yes", "on", "true"} else "false"
            problems.add(node, path, f"{shown(node.value)} is a text; write {right}, without quotes")
            return BROKEN
        return node.value if self.takes(node) else instead(node, path, self.wanted, problems)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        del defs
        return {"type": "boolean"}


@dataclass(frozen=True)
class Duration:
    """Seconds, or a text such as `1h30m`; read as seconds.

    Attributes:
        most: The longest, in seconds.
        zero: Whether it may be 0.
    """

    most: float
    zero: bool = False
    wanted: str = "seconds, or a text such as 90s, 10m or 1h30m"

    @property
    def _number(self) -> Number:
        return Number(least=0, most=self.most) if self.zero else Number(above=0, most=self.most)

    def takes(self, node: Node) -> bool:
        return isinstance(node.value, str) or self._number.takes(node)

    def read(self, node: Node, path: str, problems: Problems) -> Any:
        if not isinstance(node.value, str):
            return (
                self._number.read(node, path, problems) if self._number.takes(node) else self._no(node, path, problems)
            )
        seconds = seconds_of(node.value)
        if seconds is None:
            problems.add(node, path, f"{shown(node.value)} is no duration; give {self.wanted}")
            return BROKEN
        return self._number.read(Node(seconds, node.place, written=node.value), path, problems)

    def _no(self, node: Node, path: str, problems: Problems) -> Any:
        return instead(node, path, self.wanted, problems)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        return any_of(self._number.schema(defs), {"type": "string", "pattern": PATTERN})
