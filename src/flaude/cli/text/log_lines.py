"""A recorded run as lines of text: what its agent printed, and what flaude did in between."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from flaude._agent.events import EventContext, output_events
from flaude._model.errors import FlaudeError
from flaude._model.run_result import ExitEvent, FlyRequest
from flaude._recovery.records import BatchRecord, RunRecord
from flaude._run.checkpoint import load_checkpoint
from flaude.cli.text.event_words import event_words
from flaude.cli.text.one_line import one_line
from flaude.cli.text.printable import printable
from flaude.events import Output, StderrOutput
from flaude.events.codec import load_event
from flaude.events.text import lines_of
from flaude.journal.entries import EventEntry

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


def end_of(run: RunRecord) -> list[str]:
    """What a run came to, as a line; none while it is not over."""
    outcome = run.outcome
    if not run.is_over or outcome is None:
        return []
    if run.success:
        return ["[flaude] succeeded"]
    return [f"[flaude] failed: {': '.join(filter(None, (outcome.kind, one_line(outcome.message, 500))))}"]


async def tail_of(found: BatchRecord, run: RunRecord) -> list[str]:
    """The last lines of a run's agent as its result has them; none while it is not over."""
    result = await found.result(run.index)
    brought = result.run_result if result else None
    if brought is None:
        return []
    at = run.entry.updated or datetime.now(UTC)
    where = EventContext(found.id, run.index, run.tag, at, brought.machine_id)
    return [printable(line) for line in (*_of_stdout(where, brought.stdout_tail), *brought.stderr_tail)]


async def provider_lines(found: BatchRecord, run: RunRecord) -> list[str]:
    """What Fly's support would ask for, attempt by attempt: the ids of requests, and how the machine ended."""
    try:
        sides = await _sides(found, run)
    except (FlaudeError, KeyError, TypeError, ValueError):
        return []  # as another flaude has written it, or damaged: who wants the result hears that
    lines = []
    for number, machine_id, region, requests, event in sides:
        machine = f"machine {machine_id} in {region or 'an unknown region'}" if machine_id else "no machine"
        lines.append(f"[fly] attempt {number}: {machine}")
        lines += [f"[fly] request {one.id}: {one.method} {one.path} -> {one.status or 'no answer'}" for one in requests]
        lines += [f"[fly] exit event: {_exit_words(event)}"] if event else []
    return [printable(line) for line in lines]


_Side = tuple[int, str, str, tuple[FlyRequest, ...], ExitEvent | None]


async def _sides(found: BatchRecord, run: RunRecord) -> list[_Side]:
    """Of each attempt: its number, its machine's ID and region, and what Fly has shown of it."""
    if (result := await found.result(run.index)) is not None:
        return [(one.number, one.machine_id, one.region, one.requests, one.exit_event) for one in result.attempts]
    if run.entry.checkpoint is None:
        return []
    left = load_checkpoint(run.entry.checkpoint, None)
    earlier = [(one.number, one.machine_id, one.region, one.requests, one.exit_event) for one in left.earlier]
    return [*earlier, (left.attempt, left.state.machine_id, left.state.region, left.requests, left.exit_event)]


def _exit_words(event: ExitEvent) -> str:
    return ", ".join(
        filter(
            None,
            (
                f"exit code {event.exit_code}",
                f"signal {event.signal}" if event.signal > 0 else "",
                "out of memory" if event.oom_killed else "",
                "stop requested" if event.requested_stop else "",
                f"at {event.exited_at:%Y-%m-%d %H:%M:%S} UTC" if event.exited_at else "",
            ),
        )
    )


def _of_stdout(where: EventContext, tail: tuple[str, ...]) -> Iterator[str]:
    for text in tail:
        for event in output_events(where, text, lambda value: value):
            yield from lines_of(event, include_stderr=True)
