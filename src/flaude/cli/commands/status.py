"""`flaude status`: how far a batch is, run by run."""

from __future__ import annotations

import json as json_
from datetime import UTC, datetime
from typing import Annotated, Any

from cyclopts import Parameter
from rich.text import Text

from flaude._recovery.records import BatchRecord, Outcome, RunRecord
from flaude.cli.journals import recorded
from flaude.cli.text.amounts import apps_text, clock, count, dollars
from flaude.cli.text.batch_words import ago, batch_json, state_text
from flaude.cli.text.one_line import one_line
from flaude.cli.text.table import print_table
from flaude.cli.view import consoles

_HEADINGS = ("#", "tag", "state", "app", "machine", "time", "turns", "cost", "what went wrong")
_NUMBERS = ("#", "time", "turns", "cost")


async def status(batch: str, /, *, json: Annotated[bool, Parameter(negative="")] = False) -> int:
    """Show how far a batch is: its sums, and a line for each run.

        flaude status last
        flaude status 3f2a --json

    Parameters
    ----------
    batch
        The batch's id, how it alone begins, or `last`.
    json
        Print JSON objects and nothing else: one for the batch, then one for each run.
    """
    async with recorded(batch) as found:
        now = datetime.now(UTC)
        if json:
            print(json_.dumps(batch_json(found.entry, now)))
            for run in found.runs:
                print(json_.dumps(_run_json(found, run, now)))
        else:
            _print(found, now)
    return 0


def _print(found: BatchRecord, now: datetime) -> None:
    console, entry, counts = consoles.for_results(), found.entry, found.entry.counts
    source = f" from {one_line(found.source)}" if found.source else ""
    spread, where = found.shards > 1, apps_text(entry.app, found.shards)
    head = Text(f"Batch {entry.id} on {where}{source}, begun {ago(entry.began, now)} ago: ")
    console.print(head.append_text(state_text(entry, now)))
    parts = [(counts.succeeded, "succeeded"), (counts.failed, "failed"), (counts.open, "open")]
    told = ", ".join(f"{number} {word}" for number, word in parts if number) or "none"
    console.print(f"{count(counts.total, 'run')}: {told}; agents {dollars(entry.cost_usd)}")
    if entry.stopped_by:
        console.print(f"Cut short: {one_line(entry.stopped_by)}", style="yellow")
    if found.runs:
        rows = [_row(run, now) for run in found.runs]
        shown = [at for at, name in enumerate(_HEADINGS) if spread or name != "app"]
        print_table(
            console,
            [_HEADINGS[at] for at in shown],
            [tuple(row[at] for at in shown) for row in rows],
            right=_NUMBERS,
        )


def _row(run: RunRecord, now: datetime) -> tuple[Text | str, ...]:
    outcome, seconds, cost = run.outcome or Outcome(), run.seconds(now), run.entry.cost_usd
    return (
        str(run.index),
        one_line(run.tag, 80),
        _state(run),
        one_line(run.app),
        one_line(run.machine_id),
        "" if seconds is None else clock(seconds),
        "" if outcome.num_turns is None else str(outcome.num_turns),
        "" if cost is None else dollars(cost),
        one_line(outcome.message, 500),
    )


def _state(run: RunRecord) -> Text:
    if not run.is_over:
        return Text(run.entry.phase, "dim" if run.entry.phase == "queued" else "cyan")
    if run.success:
        return Text("ok", "green")
    return Text((run.outcome.kind if run.outcome else None) or "failed", "red")


def _run_json(found: BatchRecord, run: RunRecord, now: datetime) -> dict[str, Any]:
    outcome = run.outcome or Outcome()
    return {
        "batch": found.id,
        "index": run.index,
        "tag": run.tag,
        "phase": run.entry.phase,
        "success": run.entry.success,
        "failure": {"kind": outcome.kind, "phase": outcome.phase, "message": outcome.message}
        if run.is_over and not run.success
        else None,
        "exit_code": outcome.exit_code,
        "app": run.app,
        "machine_id": run.machine_id,
        "seconds": run.seconds(now),
        "num_turns": outcome.num_turns,
        "changed": outcome.changed,
        "cost_usd": run.entry.cost_usd,
        "updated": run.entry.updated.isoformat() if run.entry.updated else None,
    }
