"""JSON lines to nodes: one value a line."""

from __future__ import annotations

from flaude.batch_file.json_nodes import read_json
from flaude.batch_file.nodes import Lines, Node
from flaude.batch_file.problems import BatchFileError, Problems


def read_jsonl(text: str, file: str, problems: Problems) -> list[Node]:
    """The values of all lines; blank ones are nothing. What is no JSON goes to `problems`, line by line."""
    lines = Lines(text, file)
    nodes = []
    offset = 0
    for line in text.split("\n"):
        if line.strip():
            try:
                nodes.append(read_json(line, lines, problems, offset))
            except BatchFileError as error:
                problems.add_all(error)
        offset += len(line) + 1
    return nodes
