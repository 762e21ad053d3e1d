"""A recorded run as lines of text: what its agent printed, and what flaude did in between."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from flaude.agent_events import Where, output_events
from flaude.cli.one_line import one_line
from flaude.cli.printable import printable
from flaude.errors import FlaudeError
from flaude.event_json import load_event
from flaude.event_lines import lines_of
from flaude.events import (
    Booted,
    Collecting,
    Created,
    Creating,
    Destroyed,
    Destroying,
    Detached,
    Event,
    Output,
    Queued,
    Resumed,
    Retried,
    Started,
    StderrOutput,
    StopRequested,
)
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
        if told := _done(event):
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


def _done(event: Event) -> str:
    """What flaude did, in a few words; empty for what others did."""
    machine = one_line(event.machine_id)
    match event:
        case Queued():
            return "waits for its turn"
        case Creating():
            return "asks Fly for a machine"
        case Created(region=region):
            return f"machine {machine} boots{f' in {one_line(region)}' if region else ''}"
        case Booted():
            return f"machine {machine} is up, cloning"
        case Started():
            return f"the agent begins on machine {machine}"
        case Collecting():
            return "the agent has ended, its work is collected"
        case Destroying():
            return f"destroys machine {machine}"
        case Destroyed(confirmed=confirmed) if machine:
            return f"machine {machine} is gone" if confirmed else f"machine {machine} is not confirmed gone"
        case Retried(attempt=attempt, failure=failure, pause_s=pause_s):
            why = f"{failure.kind}: {one_line(failure.message, 500)}"
            return f"attempt {attempt} has failed, another one in {pause_s:.0f} s: {why}"
        case StopRequested(reason=reason, at_once=at_once):
            what = "its machine is destroyed at once" if at_once else "its work is collected"
            return f"is to stop, {what}: {one_line(reason, 500)}"
        case Resumed(phase=phase):
            return f"taken up again in phase {phase}"
        case Detached():
            return f"left to work on alone, on machine {machine}" if machine else "left, without a machine as yet"
        case _:
            return ""
