"""A batch file's content, read and checked: settings and requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flaude._model.errors import ConfigError
from flaude._model.placement import check_shards
from flaude._model.request import ExecutionRequest
from flaude._model.retries import Retries
from flaude._model.settings import ExecutorSettings
from flaude._model.tags import numbered
from flaude._model.timeouts import Timeouts
from flaude.batch_file.matrix import matrix_tasks
from flaude.batch_file.merging import Merged
from flaude.batch_file.nodes import Node
from flaude.batch_file.problems import Problems, shown
from flaude.batch_file.resolving import Resolving
from flaude.batch_file.row_files import rows_of
from flaude.batch_file.rows import row_requests
from flaude.batch_file.shapes import Section
from flaude.batch_file.tagging import task_tag


def batch_settings(batch: Section, app: str, usual: Timeouts, problems: Problems) -> ExecutorSettings:
    """What the file says about the batch as a whole; what is of no use is left at its default, and in the problems.

    Args:
        batch: The whole file.
        app: The app, whatever the file says.
        usual: The timeouts that the file does not speak of.
        problems: Takes what is wrong.
    """
    values = batch.values
    found: dict[str, Any] = {
        name: values[name]
        for name in (
            *("shards", "keep_shards", "rate_limits", "max_concurrency"),
            *("wait_timeout", "max_auth_failures", "max_machine_seconds"),
        )
        if name in values
    }
    try:
        check_shards(app, found.get("shards", 1))
    except ConfigError as error:
        problems.add(batch.place_of("shards"), batch.path_of("shards"), error.wrong[0][1])
    if "budget" in values:
        found["budget_usd"] = values["budget"]
    if "output_dir" in values:
        found["output_dir"] = Path(values["output_dir"])
    found["timeouts"] = usual
    timeouts = values.get("timeouts")
    if isinstance(timeouts, Section) and not timeouts.broken:
        try:
            found["timeouts"] = replace(usual, **timeouts.values)
        except ConfigError as error:
            for field, message in error.wrong:
                name = field.removeprefix("timeouts.")
                problems.add(timeouts.place_of(name), timeouts.path_of(name), message)
    retries = values.get("retries")
    if isinstance(retries, Section):
        found["retries"] = Retries(**retries.values)
    elif retries is not None:
        found["retries"] = Retries(more=retries)
    return ExecutorSettings(app=app, **found)


@dataclass
class _Task:
    """A section of tasks or one of the matrix, and its tag: given, or made and not yet different from all others."""

    section: Section
    tag: str
    made: bool


def batch_requests(batch: Section, resolving: Resolving) -> list[ExecutionRequest]:
    """What the file asks to be run: its tasks, then its matrix, then its rows; what is wrong goes to the problems."""
    problems = resolving.problems
    defaults = batch.values.get("defaults") or Section(Node({}, batch.node.place), "defaults")
    resolving.resolve(defaults)
    tasks = _tasks(batch, resolving)
    if "matrix" in batch.values:
        tasks += [_Task(section, tag, made=True) for section, tag in matrix_tasks(batch.values["matrix"], resolving)]
    given = [task.tag for task in tasks if not task.made]
    rows = _rows(batch, defaults, given, resolving)
    taken = [*given, *(row.tag for row in rows)]
    names = iter(numbered([*taken, *(task.tag for task in tasks if task.made)])[len(taken) :])
    requests = []
    for task in tasks:
        tag = next(names) if task.made else task.tag
        config = Merged(task.section, defaults).config(problems)
        if config is not None:
            requests.append(ExecutionRequest(config, name=task.section.values.get("name"), tag=tag))
    return [*requests, *rows]


def _tasks(batch: Section, resolving: Resolving) -> list[_Task]:
    sections = [resolving.resolve(task) for task in batch.values.get("tasks", ())]
    _check_different(sections, "tag", "results are found by their tags", resolving.problems)
    _check_different(sections, "name", "machines are told apart by their names", resolving.problems)
    return [
        _Task(section, section.values.get("tag") or task_tag(section), made="tag" not in section.values)
        for section in sections
    ]


def _check_different(sections: Sequence[Section], name: str, why: str, problems: Problems) -> None:
    first: dict[str, Section] = {}
    for section in sections:
        value = section.values.get(name)
        if value is None:
            continue
        other = first.setdefault(value, section)
        if other is not section:
            line = other.place_of(name).line
            message = f"{shown(value)} is the {name} in line {line} too; {why}, so give another one"
            problems.add(section.place_of(name), section.path_of(name), message)


def _rows(batch: Section, defaults: Section, taken: Sequence[str], resolving: Resolving) -> list[ExecutionRequest]:
    if "rows" not in batch.values:
        if "template" in batch.values and "rows" not in batch.broken:
            message = "there are no rows to fill it in; give rows"
            resolving.problems.add(batch.place_of("template"), batch.path_of("template"), message)
        return []
    template = batch.values.get("template") or Section(Node({}, batch.place_of("rows")), "template")
    resolving.resolve(template)
    found = rows_of(batch, resolving)
    tag = template.values.get("tag", "")
    return row_requests(found, Merged(template, defaults), tag, taken, resolving.problems) if found else []
