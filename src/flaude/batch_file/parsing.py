"""The content of a batch file, checked as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath

from flaude._model.request import ExecutionRequest
from flaude._model.settings import ExecutorSettings
from flaude.batch_file.app import app_of
from flaude.batch_file.batch import batch_requests, batch_settings
from flaude.batch_file.csv_batch import csv_batch
from flaude.batch_file.files import Folder, UnreadableError, checked_size, decode
from flaude.batch_file.form import form
from flaude.batch_file.formats import STDIN, Format, format_of, read_node
from flaude.batch_file.nodes import Place
from flaude.batch_file.problems import Problems, refusal
from flaude.batch_file.resolving import Resolving
from flaude.batch_file.shapes import Section
from flaude.batch_file.spec import BatchSpec, Given

_NAMED = 3


def parse(data: bytes, name: str, format_: Format | None, given: Given, folder: Path) -> BatchSpec:
    """A batch file's content; reads the prompts and rows that it names.

    Args:
        data: What is in the file.
        name: What it is called in problems; its suffix tells the format.
        format_: What it is written in, when the name does not tell.
        given: What is given beside it.
        folder: What the files that it names are relative to.

    Raises:
        BatchFileError: Something in it is of no use: all of it at once.
    """
    try:
        checked_size(data)
    except UnreadableError as error:
        raise refusal(Place(name), str(error)) from None
    text = decode(data, name)
    format_ = format_ or format_of(name, text)
    problems = Problems(format_)
    resolving = Resolving(given.environ, Folder(folder, "" if name == STDIN else str(PurePath(name).parent)), problems)
    if format_ == "csv":
        return csv_batch(text, name, given, resolving)
    for option, value in (("--prompt", given.prompt), ("--repo", given.repos)):
        if value:
            problems.add(Place(option), "", "goes with a CSV file alone; write it into the file")
    node = read_node(text, name, format_, problems)
    if node is None:
        message = "is empty; the smallest batch has `app` and `tasks`, with a `prompt` in each"
        raise refusal(Place(name, 1, 1), message)
    batch = form().read(node, "", problems)
    settings = batch_settings(batch, app_of(batch, given, problems), given.timeouts, problems)
    requests = batch_requests(batch, resolving)
    _check_budget(batch, settings, requests, problems)
    problems.check()
    return BatchSpec(settings, tuple(requests), name)


def _check_budget(
    batch: Section, settings: ExecutorSettings, requests: Sequence[ExecutionRequest], problems: Problems
) -> None:
    without = [request.tag for request in requests if request.config.max_budget_usd is None]
    if settings.budget_usd is not None and without:
        which = ", ".join(without[:_NAMED]) + (f" and {len(without) - _NAMED} more" if len(without) > _NAMED else "")
        message = (
            f"needs max_budget_usd in every task, because each launch reserves what its agent may cost; {which} "
            f"{'have' if len(without) > 1 else 'has'} none; give it in `defaults`"
        )
        problems.add(batch.place_of("budget"), batch.path_of("budget"), message)
