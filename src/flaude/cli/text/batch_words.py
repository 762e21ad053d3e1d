"""How it is with a batch, in words and as JSON."""

from __future__ import annotations

import socket
from datetime import datetime
from typing import Any

from rich.text import Text

from flaude._recovery.records import BatchState, state_of
from flaude.journal.entries import BatchEntry

_COLOURS = {BatchState.RUNNING: "cyan", BatchState.LEFT: "yellow", BatchState.DETACHED: "magenta"}


def batch_json(batch: BatchEntry, now: datetime) -> dict[str, Any]:
    """A batch as one JSON object; times are ISO 8601 in UTC."""
    return {
        "batch": batch.id,
        "app": batch.app,
        "shards": batch.settings.get("shards", 1),
        "source": batch.settings.get("source", ""),
        "began": batch.began.isoformat(),
        "ended": batch.ended.isoformat() if batch.ended else None,
        "state": state_of(batch, now),
        "stopped_by": batch.stopped_by,
        "total": batch.counts.total,
        "succeeded": batch.counts.succeeded,
        "failed": batch.counts.failed,
        "open": batch.counts.open,
        "cost_usd": batch.cost_usd,
    }


def state_text(batch: BatchEntry, now: datetime) -> Text:
    """Its state, and what to do where something is."""
    state = state_of(batch, now)
    text = Text(state, _COLOURS.get(state, ""))
    if state is BatchState.RUNNING and batch.holder:
        where = "" if batch.holder.host == socket.gethostname() else f" on {batch.holder.host}"
        text.append(f" in process {batch.holder.pid}{where}", "dim")
    elif state in (BatchState.LEFT, BatchState.DETACHED):
        text.append(f": flaude resume {batch.id}")
    return text


def how_far(batch: BatchEntry) -> Text:
    """How many of its runs are over, and how many of those have failed."""
    counts = batch.counts
    text = Text(f"{counts.succeeded + counts.failed}/{counts.total}")
    if counts.failed:
        text.append(f", {counts.failed} failed", "red")
    return text


def ago(then: datetime, now: datetime) -> str:
    """How long ago something was: `7 s`, `12 min`, `3 h`, `4 d`."""
    seconds = max(0, int((now - then).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
