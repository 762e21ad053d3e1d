"""What a batch file is written in, and its nodes."""

from __future__ import annotations

from pathlib import PurePath
from typing import Literal, TypeAlias, get_args

from flaude.batch_file.form import PROMPT, form
from flaude.batch_file.json_nodes import read_json
from flaude.batch_file.jsonl_nodes import read_jsonl
from flaude.batch_file.nodes import Lines, Node, Place
from flaude.batch_file.problems import Problems, refusal
from flaude.batch_file.toml_nodes import read_toml

Format: TypeAlias = Literal["yaml", "toml", "json", "jsonl", "csv"]
"""What a batch file can be written in."""

STDIN = "<stdin>"
"""What standard input is called in problems."""

_SUFFIXES: dict[str, Format] = {
    ".yaml": "yaml",
    ".yml": "yaml",
    ".toml": "toml",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
}
_NOT_IN_LINES = ("tasks", "matrix", "rows", "template")


def format_of(name: str, text: str) -> Format:
    """The format, by the name's suffix; of standard input, which has none, by its first character.

    Raises:
        BatchFileError: The suffix says nothing.
    """
    if name == STDIN:
        return "json" if text.lstrip().startswith("{") else "yaml"
    suffix = PurePath(name).suffix.lower()
    if suffix not in _SUFFIXES:
        known = ", ".join(_SUFFIXES)
        formats = "|".join(get_args(Format))
        raise refusal(
            Place(name), f"its suffix {suffix or '(none)'} says no format; use {known}, or --format {formats}"
        )
    return _SUFFIXES[suffix]


def read_node(text: str, name: str, format_: Format, problems: Problems) -> Node | None:
    """The value that a text in any format but CSV is; `None` when it is empty.

    Raises:
        BatchFileError: It is not in this format. What is wrong besides goes to `problems`.
    """
    if not text.strip():
        return None
    match format_:
        case "toml":
            return read_toml(text, name, problems)
        case "json":
            return read_json(text, Lines(text, name), problems)
        case "jsonl":
            return _lines_node(read_jsonl(text, name, problems), name, problems)
        case _:
            from flaude.batch_file.yaml_nodes import read_yaml  # noqa: PLC0415  # its parser is large

            return read_yaml(text, name, problems)


def _lines_node(nodes: list[Node], name: str, problems: Problems) -> Node:
    """One task a line; the first line is a header when it has a field of the whole file, and no prompt."""
    whole = Node({}, Place(name, 1, 1))
    first = nodes[0].value if nodes else None
    if (
        isinstance(first, dict)
        and first.keys() & (form().fields.keys() - {"$schema"})
        and not first.keys() & set(PROMPT)
    ):
        whole = nodes.pop(0)
        for field in _NOT_IN_LINES:
            if whole.value.pop(field, None) is not None:
                problems.add(whole.keys[field], field, "a JSONL file has one task a line; write JSON or YAML for this")
    whole.value["tasks"] = Node(nodes, whole.place)
    return whole
