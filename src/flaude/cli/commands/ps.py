"""`flaude ps`: the batches of the journal."""

from __future__ import annotations

import json as json_
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter

from flaude._recovery.records import BatchState, state_of
from flaude.cli.text.amounts import apps_text, dollars
from flaude.cli.text.batch_words import ago, batch_json, how_far, state_text
from flaude.cli.text.table import print_table
from flaude.cli.view import consoles
from flaude.journal import BatchEntry, SqliteJournal

_LAST = 10
_ORDER = (BatchState.RUNNING, BatchState.DETACHED, BatchState.LEFT, BatchState.ENDED)


async def ps(
    *,
    all: Annotated[bool, Parameter(negative="")] = False,  # noqa: A002  # the option's name
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """List batches: those that go on, those that were left with open runs, and the last ten that have ended.

    Parameters
    ----------
    all
        List every batch of the journal.
    json
        Print one JSON object a batch and nothing else.
    """
    async with SqliteJournal() as journal:
        batches = await journal.batches()
    now = datetime.now(UTC)
    shown = _chosen(batches, now, len(batches) if all else _LAST)
    if json:
        for batch in shown:
            print(json_.dumps(batch_json(batch, now)))
        return 0
    if shown:
        rows = [
            (
                batch.id,
                apps_text(batch.app, batch.settings.get("shards", 1)),
                ago(batch.began, now),
                how_far(batch),
                dollars(batch.cost_usd),
                state_text(batch, now),
            )
            for batch in shown
        ]
        print_table(
            consoles.for_results(), ("batch", "app", "age", "over", "cost", "state"), rows, right=("age", "cost")
        )
    talk = consoles.for_talk()
    if not batches:
        talk.print("The journal has no batches yet; `flaude run` begins one.")
    elif len(shown) < len(batches):
        talk.print(f"{len(batches) - len(shown)} older: flaude ps --all")
    return 0


def _chosen(batches: Sequence[BatchEntry], now: datetime, ended: int) -> list[BatchEntry]:
    """Those that go on first, then so many of those that have ended; the newest first of each kind."""
    by_state: dict[BatchState, list[BatchEntry]] = {state: [] for state in _ORDER}
    for batch in batches:
        by_state[state_of(batch, now)].append(batch)
    by_state[BatchState.ENDED] = by_state[BatchState.ENDED][:ended]
    return [batch for state in _ORDER for batch in by_state[state]]
