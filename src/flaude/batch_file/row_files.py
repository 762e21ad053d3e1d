"""Where rows come from: a list in the batch file, or a CSV or JSONL file beside it."""

from __future__ import annotations

from flaude.batch_file.csv_rows import Row, read_csv
from flaude.batch_file.files import UnreadableError
from flaude.batch_file.form import form
from flaude.batch_file.jsonl_nodes import read_jsonl
from flaude.batch_file.nodes import Node, Place
from flaude.batch_file.problems import BatchFileError, Problems, shown
from flaude.batch_file.resolving import Resolving
from flaude.batch_file.shapes import Section


def rows_of(batch: Section, resolving: Resolving) -> list[Row]:
    """The rows that the batch's `rows` names or lists; what is wrong with them goes to the problems."""
    value, node, problems = batch.values["rows"], batch.node.value["rows"], resolving.problems
    if not isinstance(value, str):
        return [_row(item) for item in node.value]
    path, file = batch.path_of("rows"), resolving.folder.shown(value)
    suffix = value.rpartition(".")[2].lower()
    if suffix not in {"csv", "jsonl", "ndjson"}:
        problems.add(node, path, f"{shown(value)} is neither a .csv nor a .jsonl file")
        return []
    try:
        text = resolving.folder.text(value)
        return read_csv(text, file, problems) if suffix == "csv" else _read_jsonl(text, file, problems)
    except UnreadableError as error:
        problems.add(node, path, f"{shown(file)}: {error}")
    except BatchFileError as error:
        problems.add_all(error)
    return []


def _read_jsonl(text: str, file: str, problems: Problems) -> list[Row]:
    before = len(problems)
    nodes = read_jsonl(text, file, problems)
    if len(problems) > before:
        return []
    form().fields["rows"].shape.read(Node(nodes, Place(file, 1, 1)), "rows", problems)
    return [] if len(problems) > before else [_row(node) for node in nodes]


def _row(node: Node) -> Row:
    # As it is written: 1.10 is a version to whoever wrote it.
    texts = {
        name: item.value if isinstance(item.value, str) else item.written or str(item.value)
        for name, item in node.value.items()
    }
    return Row(texts, node.place)
