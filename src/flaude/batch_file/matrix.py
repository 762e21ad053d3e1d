"""The matrix: every combination of a prompt, a repository and a model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from flaude._model.tags import slug
from flaude.batch_file.nodes import MOST_VALUES, Node
from flaude.batch_file.problems import refusal
from flaude.batch_file.resolving import Resolving
from flaude.batch_file.shapes import BROKEN, Section
from flaude.batch_file.tagging import prompt_slug, repo_slugs

_FIELDS = {"prompts": "prompt", "repos": "repos", "models": "model"}


def matrix_tasks(matrix: Section, resolving: Resolving) -> list[tuple[Section, str]]:
    """A section for each combination, the first list's items changing slowest; and its tag, not yet unique."""
    lists = {**matrix.values, **matrix.partly}
    dimensions = [_entries(matrix, name, lists[name], resolving) for name in _FIELDS if name in lists]
    if not dimensions:
        return []
    size = 1
    for entries in dimensions:
        size *= len(entries)
    if size > MOST_VALUES // 10:
        raise refusal(matrix.node.place, f"makes {size} tasks; nobody means that many", matrix.path)
    telling = [index for index, entries in enumerate(dimensions) if len(entries) > 1] or list(range(len(dimensions)))
    tasks = []
    for combination in product(*dimensions):
        section = Section(Node({}, matrix.node.place), matrix.path, paths={"prompt": matrix.path_of("prompts")})
        for entry in combination:
            entry.put_into(section)
        tag = "-".join(filter(None, (combination[index].slug for index in telling)))
        tasks.append((section, tag or "task"))
    return tasks


class _Entry:
    """One item of one list."""

    def __init__(self, field: str, value: Any, node: Node, path: str, slug_: str) -> None:
        self.field = field
        self.value = value
        self.node = node
        self.path = path
        self.slug = slug_

    def put_into(self, section: Section) -> None:
        section.node.value[self.field] = self.node
        section.paths[self.field] = self.path
        if self.value is BROKEN:
            section.broken.add(self.field)
        else:
            section.values[self.field] = self.value


def _entries(matrix: Section, name: str, values: Sequence[Any], resolving: Resolving) -> list[_Entry]:
    field, nodes = _FIELDS[name], matrix.node.value[name].value
    paths = [f"{matrix.path_of(name)}[{index}]" for index in range(len(nodes))]
    places = list(zip(nodes, paths, strict=True))
    if name == "prompts":
        return [_prompt(value, *place, resolving) for value, place in zip(values, places, strict=True)]
    if name == "repos":
        repos = [resolving.repo(value, *place) for value, place in zip(values, places, strict=True)]
        return [
            _Entry(field, repo if repo is BROKEN else [repo], *place, slug_)
            for repo, place, slug_ in zip(repos, places, repo_slugs(repos), strict=True)
        ]
    return [
        _Entry(field, value, *place, "" if value is BROKEN else slug(value))
        for value, place in zip(values, places, strict=True)
    ]


def _prompt(value: Any, node: Node, path: str, resolving: Resolving) -> _Entry:
    tag = ""
    if isinstance(value, Section):
        resolving.resolve(value)
        tag, value = value.values.get("tag", ""), value.values.get("prompt", BROKEN)
    return _Entry("prompt", value, node, path, tag or ("" if value is BROKEN else prompt_slug(value)))
