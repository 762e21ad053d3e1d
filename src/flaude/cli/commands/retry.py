"""`flaude retry`: the requests of a batch once more, as a new one."""

from __future__ import annotations

import os
import sys

from flaude._executor.executor import ConcurrentExecutor
from flaude._model.codec import load_request
from flaude._model.errors import ConfigError
from flaude._model.request import ExecutionRequest
from flaude._model.results import BatchResult
from flaude._recovery.records import BatchRecord, RunRecord, read_batch
from flaude.cli.carrying_out import OK, Shown, carry_out
from flaude.cli.commands.resume import changed, repos_of
from flaude.cli.options import Budget, Claude, Flag, Json, Local, MaxConcurrency, Plain
from flaude.journal import SqliteJournal


async def retry(
    batch: str,
    /,
    *tags: str,
    failed: Flag = False,
    budget: Budget = None,
    max_concurrency: MaxConcurrency = None,
    local: Local = False,
    claude: Claude = "scripted",
    json: Json = False,
    plain: Plain = False,
) -> int:
    """Run the requests of a batch once more, as a new batch; what they did before stays as it is.

        flaude retry 3f2a --failed
        flaude retry last auth-review billing-review

    Unlike `flaude resume`, this pays again. Exit codes: as `flaude run`.

    Parameters
    ----------
    batch
        The batch's id, how it alone begins, or `last`.
    tags
        Only these runs, by their tags or as #INDEX.
    failed
        Only those that did not succeed.
    budget
        Another budget than the batch's, in US dollars.
    max_concurrency
        How many machines may be alive at once.
    local
        Run on this computer, without Fly.
    claude
        With --local, which agent: `scripted` or `installed`.
    json
        One JSON object a line on stdout: first `launch`, then events, at last `done`.
    plain
        One line a change, also on a terminal.
    """
    async with SqliteJournal() as journal:
        recorded = await read_batch(journal, batch)
        runs = [recorded.run(tag) for tag in dict.fromkeys(tags)] or list(recorded.runs)
        chosen = [run for run in runs if not (failed and run.success)]
        if not chosen:
            print(f"flaude: all runs of batch {recorded.id} have succeeded", file=sys.stderr)
            return OK
        requests = [_request(recorded, run) for run in chosen]

        async def work(executor: ConcurrentExecutor) -> BatchResult:
            return await executor.run_batch(requests)

        return await carry_out(
            work,
            changed(recorded.settings, budget, max_concurrency),
            repos_of(recorded),
            len(requests),
            Shown(json=json, plain=plain, local=local, claude=claude),
            journal=journal,
            source=f"retry of {recorded.id}",
        )


def _request(recorded: BatchRecord, run: RunRecord) -> ExecutionRequest:
    try:
        return load_request(run.entry.request, os.environ)
    except ConfigError as error:
        raise ConfigError(f"batch {recorded.id}, {run.tag or f'#{run.index}'}: {error}") from None
