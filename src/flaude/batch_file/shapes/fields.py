"""Shapes of mappings with known names, and what is read of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flaude.batch_file.nodes import Node, Place
from flaude.batch_file.problems import Problems, did_you_mean, nearest
from flaude.batch_file.shapes.shape import BROKEN, Partly, Schema, Shape, instead, is_broken

_FEW = 5


@dataclass(frozen=True)
class Field:
    """A field of a mapping.

    Attributes:
        shape: What its value may be.
        description: What it is for, one or two sentences.
        default: What is so without it, when that is a plain value.
    """

    shape: Shape
    description: str = ""
    default: Any = None


@dataclass
class Section:
    """A mapping that was read.

    Attributes:
        node: Where it stands: a mapping.
        path: What it is called in a problem, such as `tasks[3]`; empty for the whole file.
        values: The fields that are there and of use.
        broken: The fields that are there, or seem to be meant, and are of no use.
        partly: Of these, lists and mappings of which some items are of use.
        paths: What fields are called in a problem, where that is not by the section's own path.
    """

    node: Node
    path: str
    values: dict[str, Any] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    partly: dict[str, Any] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)

    def path_of(self, name: str) -> str:
        """What one of its fields is called in a problem."""
        return self.paths.get(name, f"{self.path}.{name}" if self.path else name)

    def place_of(self, name: str) -> Place:
        """Where the value of one of its fields stands; where it begins itself when it has none."""
        item = self.node.value.get(name)
        return item.place if item is not None else self.node.place


@dataclass(frozen=True)
class Fields:
    """A mapping with known names.

    Attributes:
        name: What it is called in the schema.
        fields: Its fields.
        wanted: What to give.
        description: What it is.
        required: Fields that must be there.
        some_of: Fields of which at least one must be there.
        not_both: Two fields of which one may be there.
        elsewhere: Names that people write here, and where they belong.
    """

    name: str
    fields: Mapping[str, Field]
    wanted: str = "a mapping"
    description: str = ""
    required: Sequence[str] = ()
    some_of: Sequence[str] = ()
    not_both: tuple[str, str] | None = None
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    def takes(self, node: Node) -> bool:
        return isinstance(node.value, dict)

    def read(self, node: Node, path: str, problems: Problems) -> Section:
        """The fields; what is wrong with one of them breaks that one alone."""
        section = Section(node, path)
        if not isinstance(node.value, dict):
            instead(node, path, self.wanted, problems)
            return Section(Node({}, node.place), path, broken=set(self.fields))
        for name, item in node.value.items():
            known = self.fields.get(name)
            if known is None:
                section.broken |= self._unknown(name, node.keys.get(name, node.place), section, problems)
                continue
            value = known.shape.read(item, section.path_of(name), problems)
            if is_broken(value):
                section.broken.add(name)
            if isinstance(value, Partly):
                section.partly[name] = value.items
            elif value is not BROKEN:
                section.values[name] = value
        there = node.value.keys() | section.broken
        for name in self.required:
            if name not in there:
                problems.add(node, section.path_of(name), f"is missing; give {self.fields[name].shape.wanted}")
                section.broken.add(name)
        if self.some_of and not there & set(self.some_of):
            problems.add(node, path, f"has none of {', '.join(self.some_of)}; give one of them")
        if self.not_both and set(self.not_both) <= node.value.keys():
            one, other = self.not_both
            problems.add(section.place_of(other), section.path_of(other), f"stands beside {one}; give one of them")
        return section

    def _unknown(self, name: str, place: Place, section: Section, problems: Problems) -> set[str]:
        """Note a name that there is not; what it may have been meant for."""
        bare = name.lstrip("- ")
        near = nearest(name, list(self.fields))
        if name in self.elsewhere:
            message, near = self.elsewhere[name], []
        elif name.startswith("-") and bare in self.fields:
            message, near = f"write a space after the dash: `- {bare}: …`", [bare]
        elif near or len(self.fields) > _FEW:
            message = f"no such field{did_you_mean(near) or '; `flaude schema` prints all that there are'}"
        else:
            message = f"no such field; there is {', '.join(self.fields)}"
        problems.add(place, section.path_of(name), message)
        return set(near)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        if self.name not in defs:
            defs[self.name] = {}  # it may be inside of itself
            defs[self.name] = self.whole_schema(defs)
        return {"$ref": f"#/$defs/{self.name}"}

    def whole_schema(self, defs: dict[str, Schema]) -> Schema:
        """The schema itself, where `schema` refers to it."""
        found: Schema = {"type": "object", "additionalProperties": False}
        if self.description:
            found["description"] = self.description
        found["properties"] = {name: _property(one, defs) for name, one in self.fields.items()}
        if self.required:
            found["required"] = list(self.required)
        if self.some_of:
            found["anyOf"] = [{"required": [name]} for name in self.some_of]
        if self.not_both:
            found["not"] = {"required": list(self.not_both)}
        return found


def _property(one: Field, defs: dict[str, Schema]) -> Schema:
    found = one.shape.schema(defs)
    if one.description:
        found = {"description": one.description, **found}
    return {**found, "default": one.default} if one.default is not None else found
