"""`flaude resume`: bring the work of a batch home whose controller is gone."""

from __future__ import annotations

import sys
from dataclasses import replace

from flaude._executor.executor import ConcurrentExecutor
from flaude._model.results import BatchResult
from flaude._model.settings import ExecutorSettings
from flaude._recovery.records import BatchRecord, read_batch
from flaude.cli.carrying_out import FAILED, OK, Shown, carry_out
from flaude.cli.options import Budget, Claude, Json, Local, MaxConcurrency, OutputDir, Plain
from flaude.journal import SqliteJournal


async def resume(
    batch: str = "last",
    /,
    *,
    budget: Budget = None,
    max_concurrency: MaxConcurrency = None,
    output_dir: OutputDir = None,
    local: Local = False,
    claude: Claude = "scripted",
    json: Json = False,
    plain: Plain = False,
) -> int:
    """Go on with a batch whose command was killed or detached, or stopped before all was launched.

    Runs that are still going are followed from where they were left, those that have ended meanwhile are collected,
    those that never got a machine are launched, and those that were over stay as they are. Nothing is paid twice.
    Secrets come from the environment again, by the names that the batch file has. What Ctrl-C has ended stays ended:
    `flaude retry` runs it once more.

        flaude resume 3f2a        # the id, or how it alone begins
        flaude resume             # the newest batch

    Exit codes: as `flaude run`.

    Parameters
    ----------
    batch
        The batch's id, how it alone begins, or `last`.
    budget
        Another budget than the batch's, in US dollars; what it has spent counts.
    max_concurrency
        How many machines may be alive at once.
    output_dir
        Where collected files go from now on.
    local
        For a batch that was run with --local: what is open runs on this computer.
    claude
        With --local, which agent: `scripted` or `installed`.
    json
        One JSON object a line on stdout: first `launch`, then events, at last `done`.
    plain
        One line a change, also on a terminal.
    """
    async with SqliteJournal() as journal:
        recorded = await read_batch(journal, batch)
        if not json and all(run.is_over for run in recorded.runs):
            print(f"flaude: batch {recorded.id} is over: flaude results {recorded.id}", file=sys.stderr)
            return OK if all(run.success for run in recorded.runs) else FAILED
        settings = changed(recorded.settings, budget, max_concurrency)
        if output_dir is not None:
            settings = replace(settings, output_dir=output_dir)

        async def work(executor: ConcurrentExecutor) -> BatchResult:
            return await executor.resume(recorded.id)

        shown = Shown(json=json, plain=plain, local=local, claude=claude)
        return await carry_out(
            work, settings, repos_of(recorded), len(recorded.runs), shown, journal=journal, begins=False
        )


def changed(settings: ExecutorSettings, budget: float | None, max_concurrency: int | None) -> ExecutorSettings:
    """The settings with what the command line says."""
    return replace(
        settings,
        budget_usd=settings.budget_usd if budget is None else budget,
        max_concurrency=settings.max_concurrency if max_concurrency is None else max_concurrency,
    )


def repos_of(recorded: BatchRecord) -> list[str]:
    """The addresses of all repositories of a batch."""
    return [str(repo["url"]) for run in recorded.runs for repo in run.entry.request["config"].get("repos", ())]
