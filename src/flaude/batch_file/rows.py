"""Rows of data: each makes a task of the template."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flaude._model.errors import ConfigError
from flaude._model.request import ExecutionRequest
from flaude._model.tags import numbered
from flaude.batch_file.config_fields import config_fields
from flaude.batch_file.csv_rows import Row
from flaude.batch_file.merging import Merged
from flaude.batch_file.placeholders import filled, variables_in
from flaude.batch_file.problems import Problems, did_you_mean, nearest, shown
from flaude.batch_file.shapes import Either, Flag, Nullable, Number, Text
from flaude.batch_file.templates import AS_IT_IS, TAG, row_config, tagged_rows

_REPO = "repo"


@dataclass(frozen=True)
class _Template:
    """What is the same for all rows.

    Attributes:
        merged: Where its fields stand.
        fields: Its fields, with `{column}`s.
        tag: That of the tag.
        columns: Of the fields that a column of their name fills in, the column.
    """

    merged: Merged
    fields: Mapping[str, Any]
    tag: str
    columns: Mapping[str, str]

    @property
    def variables(self) -> set[str]:
        """The columns that every row must have."""
        return {
            variable for name, value in self.fields.items() if name not in AS_IT_IS for variable in variables_in(value)
        } | variables_in(self.tag)

    def fields_of(self, row: Row) -> dict[str, Any]:
        """The fields for one row: an empty cell says nothing."""
        own = {field: column for field, column in self.columns.items() if row.values.get(column, "").strip()}
        variables = {field: f"{{{column}}}" for field, column in own.items()}
        return {**self.fields, **{field: [text] if field == "repos" else text for field, text in variables.items()}}


def row_requests(
    rows: Sequence[Row], template: Merged, tag: str, taken: Sequence[str], problems: Problems
) -> list[ExecutionRequest]:
    """A request for each row; none when something is wrong with the template or a row's columns.

    A column `repo` is the only repository where the template has none, and one that is named like a field with a single
    value is that field, unless the template has it or uses the column.

    Args:
        rows: The rows.
        template: What is the same for all.
        tag: Template of the tags; empty for a column `tag`, or for tags of what differs.
        taken: Tags that no row may have.
        problems: Takes what is wrong.
    """
    before = len(problems)
    columns = list(dict.fromkeys(column for row in rows for column in row.values))
    whole = _template(template, tag, columns)
    _check_template(whole, columns, problems)
    _check_rows(rows, whole, set(columns), problems)
    if len(problems) > before or template.broken:
        return []
    tagged = tagged_rows(whole.fields, [row.values for row in rows], tag)
    tags = numbered([*taken, *(own for own, _ in tagged)])[len(taken) :]
    made = [_request(index, row, own, whole, problems) for index, (row, own) in enumerate(zip(rows, tags, strict=True))]
    return [request for request in made if request is not None]


def _template(merged: Merged, tag: str, columns: Sequence[str]) -> _Template:
    bare = _Template(merged, merged.values, tag, {})
    by_name = {
        name: name
        for name, one in config_fields().items()
        if name in columns and name not in bare.fields and name not in bare.variables and _single(one.shape)
    }
    if _REPO in columns and "repos" not in bare.fields:
        by_name["repos"] = _REPO
    return _Template(merged, bare.fields, tag, by_name)


def _single(shape: object) -> bool:
    inner = shape.shape if isinstance(shape, Nullable) else shape
    return isinstance(inner.shapes[0] if isinstance(inner, Either) else inner, Text | Number | Flag)


def _check_template(template: _Template, columns: Sequence[str], problems: Problems) -> None:
    for name, value in [*template.fields.items(), (TAG, template.tag)]:
        if name in AS_IT_IS:
            continue
        for variable in sorted(variables_in(value) - {*columns, TAG}):
            near = did_you_mean(nearest(variable, columns)) or f"; there is {', '.join(map(shown, columns[:20]))}"
            message = (
                f"no row has a column {variable} for {{{variable}}}{near} ({{{{{variable}}}}} is the literal text)"
            )
            template.merged.note(name, message, problems)
        for column in columns:
            if not column.isidentifier() and f"{{{column}}}" in str(value):
                message = f"the column {shown(column)} cannot be put in by its name; call it {_identifier(column)}"
                template.merged.note(name, message, problems)
    if "prompt" not in {*template.fields, *template.columns, *template.merged.broken}:
        template.merged.note("prompt", "is missing; give prompt or prompt_file, or a column prompt", problems)


def _identifier(column: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in column)


def _check_rows(rows: Sequence[Row], template: _Template, columns: set[str], problems: Problems) -> None:
    needed = (template.variables & columns) - {TAG}
    for index, row in enumerate(rows):
        missing = needed - row.values.keys()
        for column in sorted(missing):
            problems.add(row.place, f"rows[{index}]", f"has no column {shown(column)}")
        text = template.tag or (f"{{{TAG}}}" if TAG in columns else "")
        if not text or missing or variables_in(text) - {*columns, TAG}:
            continue
        made = str(filled(text, {TAG: "", **row.values}, where=TAG))
        if not made.strip():
            problems.add(row.place, f"rows[{index}].tag", "is empty; give every row a tag, or none")
        elif re.search(r"[\x00-\x1f\x7f]", made):
            problems.add(row.place, f"rows[{index}].tag", f"{shown(made)} is not on one line")


def _request(index: int, row: Row, tag: str, template: _Template, problems: Problems) -> ExecutionRequest | None:
    fields = template.fields_of(row)
    try:
        return ExecutionRequest(row_config(fields, row.values, tag), tag=tag)
    except ConfigError as error:
        for field, message in error.wrong:
            name = field.partition("[")[0].partition(".")[0]
            column = template.columns.get(name)
            if column and name in fields and name not in template.fields:
                why = "; without repos the column repo is the repository" if column == _REPO else ""
                text = f"{shown(row.values[column])} does not fit: {message}{why}"
                problems.add(row.place, f"rows[{index}].{column}", text)
            elif variables_in(fields.get(name)):
                problems.add(row.place, f"rows[{index}].{field}", message)
            else:
                template.merged.note(field, message, problems)
    return None
