"""A recorded run as lines of text: what its agent printed, and what flaude did in between."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from flaude.agent_events import Where, output_events
from flaude.cli.event_words import event_words
from flaude.cli.one_line import one_line
from flaude.cli.printable import printable
from flaude.errors import FlaudeError
from flaude.event_json import load_event
from flaude.event_lines import lines_of
from flaude.events import Output, StderrOutput
from flaude.journal.entries import EventEntry
from flaude.recorded import RecordedBatch, RecordedRun

FINISHED = "finished"
DETACHED = "detached"


class LogLines:
    """Turns the events of a run into lines; knows afterwards whether there was any output among them."""

    def __init__(self) -> None:
        self.any_output = False

    def of(self, entry: EventEntry) -> list[str]:
        """The lines of an event; none for one that this flaude does not know, and for the end, which has a result."""
        if entry.kind == FINISHED:
            return []
        try:
            event = load_event(entry.data)
        except (FlaudeError, KeyError, TypeError, ValueError):
            return []
        self.any_output = self.any_output or isinstance(event, Output | StderrOutput)
        if told := event_words(event):
            return [f"[flaude] {told}"]
        return [printable(line) for line in lines_of(event, include_stderr=True)]


def end_of(run: RecordedRun) -> list[str]:
    """What a run came to, as a line; none while it is not over."""
    outcome = run.outcome
    if not run.is_over or outcome is None:
        return []
    if run.success:
        return ["[flaude] succeeded"]
    return [f"[flaude] failed: {': '.join(filter(None, (outcome.kind, one_line(outcome.message, 500))))}"]


async def tail_of(found: RecordedBatch, run: RecordedRun) -> list[str]:
    """The last lines of a run's agent as its result has them; none while it is not over."""
    result = await found.result(run.index)
    brought = result.run_result if result else None
    if brought is None:
        return []
    where = (found.id, run.index, run.tag, run.entry.updated or datetime.now(UTC), brought.machine_id)
    return [printable(line) for line in (*_of_stdout(where, brought.stdout_tail), *brought.stderr_tail)]


def _of_stdout(where: Where, tail: tuple[str, ...]) -> Iterator[str]:
    for text in tail:
        for event in output_events(where, text, lambda value: value):
            yield from lines_of(event, include_stderr=True)
