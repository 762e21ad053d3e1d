"""One task's config from several sections: its own, then the defaults."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from flaude._model.config import MachineConfig
from flaude._model.errors import ConfigError
from flaude.batch_file.nodes import Node, Place
from flaude.batch_file.problems import Problems
from flaude.batch_file.shapes import Section

_PUT_TOGETHER = ("env", "metadata")
_TOGETHER = (
    ("vm_size", "vm_cpus", "vm_memory_mb"),
    ("push_branch", "repos", "github_token"),
)
"""Fields that are right or wrong together."""

_NAMES = MachineConfig.model_fields


class Merged:
    """The fields of one task.

    Args:
        sections: Where they are from; the first one that has a field says what it is.
    """

    def __init__(self, *sections: Section) -> None:
        self.sections = sections

    @property
    def values(self) -> dict[str, Any]:
        """The fields as `MachineConfig` takes them."""
        values: dict[str, Any] = {}
        for section in reversed(self.sections):
            for name, value in section.values.items():
                if name in _PUT_TOGETHER:
                    values[name] = {**values.get(name, {}), **value}
                elif name in _NAMES:
                    values[name] = value
        return values

    @property
    def broken(self) -> set[str]:
        """The fields that were given and are of no use."""
        broken: set[str] = set()
        for section in reversed(self.sections):
            broken = (broken - section.values.keys()) | section.broken
        return broken

    def config(self, problems: Problems) -> MachineConfig | None:
        """The config, or `None` when something is wrong with it, which is then in `problems`."""
        values, broken = self.values, self.broken
        if "prompt" not in values:
            if "prompt" not in broken:
                own = self.sections[0]
                problems.add(
                    own.node, own.path_of("prompt"), "is missing; give prompt or prompt_file, here or in `defaults`"
                )
            # The other fields are looked at all the same.
            broken.add("prompt")
            values["prompt"] = "?"
        try:
            config = MachineConfig(**values)
        except ConfigError as error:
            for field, message in error.wrong:
                if not broken.intersection(_group(_names(field)[0])):
                    self.note(field, message, problems)
            return None
        return None if broken else config

    def note(self, field: str, message: str, problems: Problems) -> None:
        """Note what `MachineConfig` says about a field, at the place in the file that it is about.

        Args:
            field: As in the error: `repos[1].target_dir`.
            message: What is wrong.
            problems: Takes it.
        """
        name, *rest = _names(field)
        own = self.sections[0]
        for section in self.sections:
            there = _there(section, name)
            if not there:
                continue
            others = [other for other in _group(name) if other != name and _there(own, other)]
            if section is not own and others:
                problems.add(own.place_of(others[0]), own.path_of(others[0]), f"with {name} of defaults: {message}")
            else:
                place, path = _inside(section.node.value[there], section.path_of(there), rest)
                problems.add(place, path, message)
            return
        problems.add(own.node, own.path_of(name), message)


def _names(field: str) -> list[str]:
    return re.findall(r"[^.\[\]]+", field) or [field]


def _group(name: str) -> Sequence[str]:
    return next((group for group in _TOGETHER if name in group), (name,))


def _there(section: Section, name: str) -> str:
    """The name under which a section has a field; empty when it has none."""
    names = ("prompt", "prompt_file") if name == "prompt" else (name,)
    return next((one for one in names if one in section.node.value), "")


def _inside(node: Node, path: str, names: Sequence[str]) -> tuple[Place, str]:
    """The place of what an error names, or of what holds it."""
    for name in names:
        if isinstance(node.value, dict) and name in node.value:
            node, path = node.value[name], f"{path}.{name}"
        elif isinstance(node.value, list) and name.isdigit() and int(name) < len(node.value):
            node, path = node.value[int(name)], f"{path}[{name}]"
        else:
            break
    return node.place, path
