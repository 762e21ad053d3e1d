"""The JSON Schema of a batch file, made of the same shapes that check one."""

from __future__ import annotations

from flaude.batch_file.form import form
from flaude.batch_file.shapes import Schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> Schema:
    """The schema, draft 2020-12, as JSON; YAML and TOML editors take it too.

    It has the structure: names, kinds, limits of single values. What it takes for the whole to be right (a prompt in
    every task, tags that differ, variables that are set) is for `load`.
    """
    defs: dict[str, Schema] = {}
    whole = form().whole_schema(defs)
    return {"$schema": DIALECT, "title": "flaude batch file", **whole, "$defs": dict(sorted(defs.items()))}
