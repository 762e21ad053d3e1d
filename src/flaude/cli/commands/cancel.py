"""`flaude cancel`: stop a batch, or one of its runs, and bring home what was done."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import anyio

from flaude._executor.executor import ConcurrentExecutor
from flaude._model.errors import BatchHeldError
from flaude._model.results import BatchResult
from flaude._recovery.records import BatchRecord, BatchState, RunRecord, read_batch, state_of
from flaude.cli.carrying_out import FAILED, OK, Shown, carry_out
from flaude.cli.commands.resume import repos_of
from flaude.cli.options import Claude, Json, Local, Plain
from flaude.journal import Journal, SqliteJournal
from flaude.journal.entries import CANCEL, ControlRequest

_LOOK_S = 0.5


async def cancel(
    batch: str,
    tag: str | None = None,
    /,
    *,
    local: Local = False,
    claude: Claude = "scripted",
    json: Json = False,
    plain: Plain = False,
) -> int:
    """Stop the agents of a batch, or of one run, collect what they have done, and destroy their machines.

    Where a command carries the batch out, it is asked to; else this one does it. What was not launched never will be.

        flaude cancel 3f2a
        flaude cancel 3f2a auth-review

    Exit code: 0 when it is done, 3 when a machine could not be confirmed as gone.

    Parameters
    ----------
    batch
        The batch's id, how it alone begins, or `last`.
    tag
        The run's tag, or #INDEX; all runs when left out.
    local
        For a batch that was run with --local.
    claude
        With --local, which agent: `scripted` or `installed`.
    json
        One JSON object a line on stdout: first `launch`, then events, at last `done`.
    plain
        One line a change, also on a terminal.
    """
    async with SqliteJournal() as journal:
        recorded = await read_batch(journal, batch)
        run = None if tag is None else recorded.run(tag)
        open_ = [one for one in ([run] if run else recorded.runs) if not one.is_over]
        if not open_:
            print(f"flaude: {_named(recorded, run)} is over already", file=sys.stderr)
            return OK

        async def work(executor: ConcurrentExecutor) -> BatchResult:
            return await executor.cancel(recorded.id, only=None if run is None else [run.index])

        shown = Shown(json=json, plain=plain, local=local, claude=claude)
        while True:
            try:
                repos, total = repos_of(recorded), len(recorded.runs)
                code = await carry_out(work, recorded.settings, repos, total, shown, journal=journal, begins=False)
            except BatchHeldError:
                if await ask(journal, recorded, run):
                    return OK
            else:
                return OK if code == FAILED else code


async def ask(journal: Journal, recorded: BatchRecord, run: RunRecord | None) -> bool:
    """Have the process stop it that carries it out; whether it has, and has not died before."""
    asked, name = None, _named(recorded, run)
    print(f"flaude: asked the process that carries it out to stop {name}; waiting for it", file=sys.stderr)
    while True:
        now = await read_batch(journal, recorded.id)
        if all(one.is_over for one in now.runs if run is None or one.index == run.index):
            print(f"flaude: {name} is over", file=sys.stderr)
            return True
        if state_of(now.entry, datetime.now(UTC)) is not BatchState.RUNNING:
            return False
        if now.entry.holder != asked:  # who takes a batch up hears of no wish that came before
            asked = now.entry.holder
            await journal.ask(recorded.id, ControlRequest(CANCEL, None if run is None else run.index))
        await anyio.sleep(_LOOK_S)


def _named(recorded: BatchRecord, run: RunRecord | None) -> str:
    return f"batch {recorded.id}" if run is None else f"run {run.tag or f'#{run.index}'} of batch {recorded.id}"
