"""A CSV file as a batch: its rows, and a template from the command line."""

from __future__ import annotations

from flaude._model.settings import ExecutorSettings
from flaude.batch_file.app import app_of
from flaude.batch_file.csv_rows import Row, read_csv
from flaude.batch_file.merging import Merged
from flaude.batch_file.nodes import Node, Place
from flaude.batch_file.problems import BatchFileError
from flaude.batch_file.resolving import Resolving
from flaude.batch_file.rows import row_requests
from flaude.batch_file.shapes import Section
from flaude.batch_file.spec import BatchSpec, Given


def csv_batch(text: str, name: str, given: Given, resolving: Resolving) -> BatchSpec:
    """The batch; all settings but the app are the defaults.

    Raises:
        BatchFileError: Something is of no use: all of it at once.
    """
    problems = resolving.problems
    rows: list[Row] = []
    try:
        rows = read_csv(text, name, problems)
    except BatchFileError as error:
        problems.add_all(error)
    template = Section(Node({}, Place(name, 1, 1)), "", paths={"prompt": "", "repos": ""})
    if given.prompt is None and rows and "prompt" not in rows[0].values:
        message = 'no prompt; give --prompt "Replace {old} by {new}" with columns of the file, or a column prompt'
        problems.add(Place(name, 1, 1), "", message)
        template.broken.add("prompt")
    if given.prompt is not None:
        template.node.value["prompt"] = Node(given.prompt, Place("--prompt"))
        template.values["prompt"] = given.prompt
    if given.repos:
        nodes = [Node(repo, Place("--repo")) for repo in given.repos]
        template.node.value["repos"] = Node(nodes, Place("--repo"))
        template.values["repos"] = list(given.repos)
    resolving.resolve(template)
    app = app_of(Section(Node({}, Place(name, 1, 1)), ""), given, problems)
    settings = ExecutorSettings(app=app, timeouts=given.timeouts)
    requests = row_requests(rows, Merged(template), "", (), problems) if rows else []
    problems.check()
    return BatchSpec(settings, tuple(requests), name)
