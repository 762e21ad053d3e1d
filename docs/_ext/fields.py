"""The fields of a batch file, made of its JSON Schema when the site is built.

A line `<!-- fields NAME -->` of a page stands for those of one part of the file: `batch`, `task`, `matrix` and so on.
"""

from __future__ import annotations

import json
import re
from typing import Any

from sphinx.application import Sphinx

from flaude.batch_file import json_schema

_WORDS = {
    "array": "list",
    "boolean": "true or false",
    "integer": "number",
    "number": "number",
    "object": "mapping",
    "string": "text",
}
_MARK = re.compile(r"^<!-- fields (\w+) -->$", re.MULTILINE)


def markdown(part: str) -> str:
    """A list of the part's fields: name, what it takes, what it means."""
    schema = json_schema()
    fields = schema if part == "batch" else schema["$defs"][part]
    return "\n".join(_entry(name, field, schema) for name, field in fields["properties"].items())


def parts() -> list[str]:
    """What has fields."""
    return ["batch", *(name for name, one in json_schema()["$defs"].items() if "properties" in one)]


def _entry(name: str, field: dict[str, Any], schema: dict[str, Any]) -> str:
    referred = schema["$defs"].get(field.get("$ref", "").removeprefix("#/$defs/"), {})
    told = field.get("description") or referred.get("description") or ""
    default = f" Default: `{_shown(field['default'])}`." if field.get("default") not in (None, [], {}) else ""
    return f"`{name}` ({_takes(field)})\n: {told}{default}\n"


def _shown(default: Any) -> str:
    return default if isinstance(default, str) else json.dumps(default).replace(".0", "")


def _takes(field: dict[str, Any]) -> str:
    """What a value may be, in a few words."""
    if "anyOf" in field:
        options = [_takes(one) for one in field["anyOf"] if one.get("type") != "null"]
        return "duration" if "duration" in options else " or ".join(dict.fromkeys(options))
    if "$ref" in field:
        return str(field["$ref"]).removeprefix("#/$defs/").replace("_", " ")
    if field.get("type") == "string" and "d)?(" in field.get("pattern", ""):
        return "duration"
    return _WORDS[field["type"]] if "enum" not in field else "one of a few"


def _put(app: Sphinx, docname: str, content: list[str]) -> None:  # noqa: ARG001
    content[0] = _MARK.sub(lambda match: markdown(match[1]), content[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register it."""
    app.connect("source-read", _put)
    return {"parallel_read_safe": True}
