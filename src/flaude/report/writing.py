"""A report as a file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from anyio import to_thread

from flaude._model.request import ExecutionRequest
from flaude._model.results import BatchResult
from flaude.events import Event
from flaude.report.page import render
from flaude.report.reading import report_of


async def write_report(
    batch: BatchResult,
    path: str | Path,
    *,
    requests: Iterable[ExecutionRequest] = (),
    events: Iterable[Event] = (),
    app: str = "",
) -> None:
    """Write the report of a batch that you have run: one HTML file that needs no other, and no network.

    `flaude report` writes the same of a batch that is in the journal.

    Args:
        batch: What `run_batch` returned, or the `batch` of an `Interrupted`.
        path: The file; one that is there is replaced.
        requests: The requests of the batch, in their order: the prompts, and which repositories and machines. No secret
            of theirs is in the report.
        events: All that `on_event` or `stream` gave of this batch: the transcripts.
        app: The Fly app.

    Raises:
        ConfigError: The events are of several batches.
        OSError: The file cannot be written.
    """
    data = report_of(batch, requests=requests, events=events, app=app, made=datetime.now(UTC))
    await to_thread.run_sync(lambda: write_page(render(data), Path(path)))


def write_page(pieces: Iterable[str], path: Path) -> None:
    """Write a page, whole or not at all.

    Raises:
        OSError: The file cannot be written.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():  # a pipe, a device: nothing to be replaced by a file
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(pieces)
        return
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    draft = Path(name)
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as file:  # noqa: PTH123  # a handle, not a path
            file.writelines(pieces)
        draft.chmod(0o666 & ~_umask())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
