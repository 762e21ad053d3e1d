"""`expand`: one template and many rows of data make many requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from pydantic import SecretStr

from flaude._model.config import MachineConfig
from flaude._model.errors import ConfigError
from flaude._model.request import ExecutionRequest
from flaude._model.tags import LONGEST, numbered, slug
from flaude.batch_file.placeholders import filled, variables_in

Row: TypeAlias = Mapping[str, str | int | float]

TAG = "tag"
"""The variable that is the row's tag, and the column that may give it."""

_FIELDS = MachineConfig.model_fields
_SECRETS = {name for name, field in _FIELDS.items() if field.annotation is SecretStr}
AS_IT_IS = _SECRETS | {"json_schema", "mcp_config"}
"""Fields that are not filled in: no row may change a secret, and JSON is full of braces."""


def expand(
    template: MachineConfig | Mapping[str, Any], rows: Iterable[Row], *, tag: str = ""
) -> list[ExecutionRequest]:
    """One request for each row: the template with the row's values in place of its `{column}`s.

    Every text of the template is filled in: the prompt, the parts of `repos`, the values of `env` and `metadata`, lists
    of strings; but never a secret (`github_token` and the like, `SecretStr` values), nor `json_schema` and
    `mcp_config`, which are JSON, nor a key. `{{column}}` is the literal text `{column}`, and braces around anything but
    an identifier are literal anyhow (see `flaude.batch_file.placeholders`). A value is put in once: braces in it mean
    nothing.

    `{tag}` is the row's tag. It comes from `tag`, else from the column `tag`, else it is made of the columns whose
    values differ between the rows: `api-src-auth-login.py`. Rows without a difference are `row-0`, `row-1` and so on.
    Tags are what tells results apart, so equal ones are numbered: `api`, `api-2`.

    All requests are made before the first is returned, so a bad row is found before anything runs. What a row puts into
    `env` and nowhere else may be a secret: it is neither in a made tag nor in an error.

    Args:
        template: A config; or a mapping of its fields, for values that are none before they are filled in
            (`repos=["{repo}"]`, `max_turns="{turns}"`).
        rows: Each row's columns, with text or numbers as values; `csv.DictReader` will do.
        tag: Template of the tags, `"{repo}-{path}"`; such a tag is used as it is. In it `{tag}` is the column `tag`.

    Returns:
        The requests, in the order of the rows.

    Raises:
        ConfigError: A row has no such column, or its config is wrong: the message begins with the row, `rows[3]
            (repo=api): `; or template, rows or tag are something else than they should be.
    """
    fields = _fields(template)
    _refuse_variables_in_secrets(fields)
    table = _table(rows)
    if not isinstance(tag, str):
        raise ConfigError(f"tag: give a text such as '{{repo}}', not {type(tag).__name__}")
    requests = []
    for row, (own, label) in zip(table, tagged_rows(fields, table, tag), strict=True):
        try:
            requests.append(ExecutionRequest(row_config(fields, row, own), tag=own))
        except ConfigError as error:
            raise ConfigError(f"{label}: {error}") from None
    return requests


def tagged_rows(fields: Mapping[str, Any], table: Sequence[Mapping[str, str]], tag: str = "") -> list[tuple[str, str]]:
    """Each row's tag, and what it is called in an error: `rows[3] (repo=api)`.

    Args:
        fields: The template's.
        table: The rows, with texts as values.
        tag: As in `expand`.

    Raises:
        ConfigError: A tag is empty, or has a column that the row has not.
    """
    shown = _shown_columns(fields, table)
    labels = [_label(index, row, shown) for index, row in enumerate(table)]
    return list(zip(numbered(_tags(tag, table, shown, labels)), labels, strict=True))


def row_config(fields: Mapping[str, Any], row: Mapping[str, str], tag: str) -> MachineConfig:
    """The template's fields with a row's values and its tag in place of their variables.

    Raises:
        ConfigError: The row has no such column, or the config is wrong.
    """
    variables = {**row, TAG: tag}
    return MachineConfig(
        **{
            name: value if name in AS_IT_IS else filled(value, _known(name, variables), where=name)
            for name, value in fields.items()
        }
    )


def _fields(template: object) -> dict[str, Any]:
    if isinstance(template, MachineConfig):
        return {name: getattr(template, name) for name in _FIELDS if name in template.model_fields_set}
    if isinstance(template, Mapping):
        return {str(name): _lasting(value) for name, value in template.items()}
    raise ConfigError(f"template: give a MachineConfig or a mapping of its fields, not {type(template).__name__}")


def _lasting(value: object) -> object:
    # A generator would be used up by the first row, and a set is nothing that `filled` looks into.
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping | list | tuple):
        return list(value)
    return value


def _refuse_variables_in_secrets(fields: Mapping[str, Any]) -> None:
    # Left as it is, `{token}` would be sent as the token; and the row's token would go into the row's tag.
    for name in sorted(_SECRETS & fields.keys()):
        value = fields[name]
        if variables_in(value.get_secret_value() if isinstance(value, SecretStr) else value):
            raise ConfigError(f"template: {name}: rows do not go into secrets; give the secret itself")


def _table(rows: object) -> list[dict[str, str]]:
    if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        raise ConfigError(f"rows: give a list of rows such as [{{'repo': 'api'}}], not {type(rows).__name__}")
    return [_texts(index, row) for index, row in enumerate(rows)]


def _texts(index: int, row: object) -> dict[str, str]:
    if not isinstance(row, Mapping):
        raise ConfigError(f"rows[{index}]: give a mapping of columns such as {{'repo': 'api'}}, not {_kind(row)}")
    texts: dict[str, str] = {}
    for column, value in row.items():
        if not isinstance(column, str):  # csv.DictReader puts what is beyond the header under None
            raise ConfigError(f"rows[{index}]: a column's name is a text, not {_kind(column)}; name every column")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ConfigError(
                f"rows[{index}]: column {column!r} is {_kind(value)}; give a text or a number ('' for none)"
            )
        # Not `str(value)`: that of a string enum is its name.
        texts[column] = str.__str__(value) if isinstance(value, str) else str(value)
    return texts


def _kind(value: object) -> str:
    return "None" if value is None else type(value).__name__


def _shown_columns(fields: Mapping[str, Any], table: Sequence[Mapping[str, str]]) -> list[str]:
    """The columns that may be in made tags and errors, in their order."""
    hidden, open_to_all = set[str](), set[str]()
    for name, value in fields.items():
        if name not in AS_IT_IS:
            secretive = name in _FIELDS and not _FIELDS[name].repr
            (hidden if secretive else open_to_all).update(variables_in(value))
    columns = dict.fromkeys(column for row in table for column in row)
    return [column for column in columns if column not in hidden - open_to_all]


def _label(index: int, row: Mapping[str, str], shown: Sequence[str]) -> str:
    # Slugs, because they are short, on one line, and have no password of an address in them.
    content = ", ".join(f"{column}={slug(row[column])}" for column in shown if column in row)
    if len(content) > LONGEST:
        content = content[: LONGEST - 1] + "…"
    return f"rows[{index}] ({content})" if content else f"rows[{index}]"


def _tags(tag: str, table: Sequence[Mapping[str, str]], shown: Sequence[str], labels: Sequence[str]) -> list[str]:
    if not tag and not any(TAG in row for row in table):
        return _made_tags(table, shown)
    tags = []
    for row, label in zip(table, labels, strict=True):
        try:
            own: str = filled(tag or f"{{{TAG}}}", row, where=TAG)
        except ConfigError as error:
            raise ConfigError(f"{label}: {error}") from None
        if not own.strip():
            raise ConfigError(f"{label}: tag: empty; give every row a tag, or none")
        tags.append(own)
    return tags


def _made_tags(table: Sequence[Mapping[str, str]], shown: Sequence[str]) -> list[str]:
    telling = [column for column in shown if len(table) == 1 or len({row.get(column) for row in table}) > 1]
    tags = []
    for index, row in enumerate(table):
        parts = [slug(row[column]) for column in telling if column in row]
        tags.append(slug("-".join(filter(None, parts))) or f"row-{index}")
    return tags


def _known(field: str, variables: Mapping[str, str]) -> Mapping[str, str]:
    # In a branch's name `{tag}` is put in when the run is launched, as something that git takes.
    return {**variables, TAG: f"{{{TAG}}}"} if field == "push_branch" else variables
