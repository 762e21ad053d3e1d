"""What flaude does with a run, in a few words."""

from __future__ import annotations

from flaude.cli.text.one_line import one_line
from flaude.events import (
    Booted,
    Collecting,
    Created,
    Creating,
    Destroyed,
    Destroying,
    Detached,
    Event,
    Queued,
    Resumed,
    Retried,
    Started,
    StopRequested,
)


def event_words(event: Event) -> str:
    """The event as a part of a line, whatever stands in it; empty for what the agent does, and for results."""
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
            return f"agent started on {machine}"
        case Collecting():
            return "agent ended, collecting its work"
        case Destroying():
            return f"destroying machine {machine}"
        case Destroyed(confirmed=confirmed) if machine:
            return f"machine {machine} is gone" if confirmed else f"machine {machine} is not confirmed gone"
        case Retried(attempt=attempt, failure=failure, pause_s=pause_s):
            why = f"{failure.kind}: {one_line(failure.message, 500)}"
            return f"attempt {attempt} failed, again in {pause_s:.0f} s: {why}"
        case StopRequested(reason=reason, at_once=at_once):
            what = "its machine is destroyed at once" if at_once else "its work is collected"
            return f"stops, {what}: {one_line(reason, 500)}"
        case Resumed(phase=phase):
            return f"taken up again in phase {phase}"
        case Detached():
            return f"left to work on, on {machine}" if machine else "left, without a machine as yet"
        case _:
            return ""
