"""`flaude report`: a batch as one HTML file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from anyio import from_thread, to_thread
from cyclopts import Parameter

from flaude._model.errors import ConfigError, FlaudeError, JournalError
from flaude._model.results import ExecutionResult
from flaude._recovery.records import BatchRecord, read_batch
from flaude.events import Event, Finished
from flaude.events.codec import load_event
from flaude.journal import BatchEntry, EventEntry, Journal, SqliteJournal
from flaude.report import ReportData, ReportRun, render, run_of, write_page


async def report(
    batch: str = "last",
    /,
    *,
    # With hyphens: `-` is one.
    output: Annotated[str | None, Parameter(name=["--output", "-o"], allow_leading_hyphen=True)] = None,
) -> int:
    """Write one HTML file that shows a batch: its sums, its timeline, and all of each run. It needs no other file.

    Parameters
    ----------
    batch
        The batch's id, or as much of its beginning as tells it from others; the newest one when left out.
    output
        The file, which is replaced when it is there; `-` is stdout. flaude-BATCH.html when left out.
    """
    async with SqliteJournal() as journal:
        return await report_from(journal, batch, output)


async def report_from(journal: Journal, batch: str, output: str | None) -> int:
    """What the command does, from any journal.

    Raises:
        ConfigError: The file cannot be written.
        NoSuchBatchError: There is no such batch.
    """
    recorded = await read_batch(journal, batch)
    entry = recorded.entry
    data = _data(entry, _Runs(recorded))
    if output == "-":
        await to_thread.run_sync(_print, data)
        return 0
    path = Path(f"flaude-{entry.id}.html" if output is None else output)
    try:
        await to_thread.run_sync(lambda: write_page(render(data), path))
    except OSError as error:
        raise ConfigError(f"--output: {path} cannot be written: {error.strerror or error}") from error
    print(path)
    return 0


def _data(entry: BatchEntry, runs: _Runs) -> ReportData:
    return ReportData(
        runs=runs,
        id=entry.id,
        app=entry.app,
        began=entry.began,
        ended=entry.ended,
        settings=entry.settings,
        stopped_by=entry.stopped_by,
        in_journal=True,
        made=datetime.now(UTC),
    )


def _print(data: ReportData) -> None:
    for piece in render(data):
        sys.stdout.buffer.write(piece.encode())
    sys.stdout.buffer.flush()


class _Runs:
    """The runs of a batch, each read from the journal when it is its turn, by a thread other than the event loop's."""

    def __init__(self, recorded: BatchRecord) -> None:
        self._recorded = recorded

    def __len__(self) -> int:
        return len(self._recorded.runs)

    def __iter__(self) -> Iterator[ReportRun]:
        for run in self._recorded.runs:
            result = from_thread.run(self._result, run.index)
            events = from_thread.run(self._events, run.index)
            yield run_of(
                run.index,
                run.tag,
                run.entry.request,
                phase="result lost" if run.is_over and result is None else run.entry.phase,
                result=result,
                events=[event for one in events if (event := _event(one, result or ExecutionResult(run.tag)))],
            )

    async def _result(self, index: int) -> ExecutionResult | None:
        """A result; `None` when there is none that can be read: that is no reason not to show the others."""
        try:
            return await self._recorded.result(index)
        except JournalError:
            return None

    async def _events(self, index: int) -> list[EventEntry]:
        return await self._recorded.journal.events(self._recorded.id, index=index)


def _event(entry: EventEntry, result: ExecutionResult) -> Event | None:
    """An event; `None` for one of a kind that this flaude does not know. The last one is kept without its result."""
    if entry.kind == "finished":
        where = (str(entry.data.get(name, "")) for name in ("batch", "tag", "machine_id"))
        batch, tag, machine_id = where
        return Finished(batch, entry.index, tag, entry.at, machine_id, result=result)
    try:
        return load_event(entry.data)
    except (FlaudeError, KeyError, TypeError, ValueError):
        return None
