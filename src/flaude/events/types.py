"""What happens to the runs of a batch while it goes on, as frozen events.

A run's events, in their order; those of the agent in between, and from a new machine on once more when it is retried:

    Queued, Creating, Created, Booted, Cloned, Started, …, Collecting, Destroying, Destroyed, Finished

An attempt that got no machine has nothing from Created to Destroyed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from flaude._model.failures import Phase
from flaude._model.results import ExecutionResult
from flaude._model.run_result import Failure


@dataclass(frozen=True)
class Event:
    """Base of all events.

    Attributes:
        batch: The batch's id.
        index: The request's place in the batch, from 0.
        tag: The request's tag.
        at: When, in UTC.
        machine_id: Fly's id of the machine; empty as long as there is none.
    """

    batch: str
    index: int
    tag: str
    at: datetime
    machine_id: str


@dataclass(frozen=True)
class PhaseBegan(Event):
    """Base of the events that are the beginning of a phase."""

    phase: ClassVar[Phase]


@dataclass(frozen=True)
class Queued(PhaseBegan):
    """The request waits for a place, for the budget, or for its turn at Fly's rate limits.

    It comes again when Fly has had no room for its machine (`Timeouts.capacity`).
    """

    phase = Phase.QUEUED


@dataclass(frozen=True)
class Creating(PhaseBegan):
    """Fly is asked for a machine."""

    phase = Phase.CREATE


@dataclass(frozen=True)
class Created(PhaseBegan):
    """Fly has the machine, and boots it; `region` is Fly's code of where it is, `app` the Fly app that it is in."""

    phase = Phase.BOOT
    region: str
    app: str = ""


@dataclass(frozen=True)
class Booted(PhaseBegan):
    """The machine runs and has its job: it installs Claude Code where the image has none, and clones."""

    phase = Phase.CLONE


@dataclass(frozen=True)
class Cloned(Event):
    """All repositories are there, and Claude Code is."""


@dataclass(frozen=True)
class Started(PhaseBegan):
    """The agent begins."""

    phase = Phase.AGENT


@dataclass(frozen=True)
class Collecting(PhaseBegan):
    """The agent has ended; its work is collected."""

    phase = Phase.COLLECT


@dataclass(frozen=True)
class Destroying(PhaseBegan):
    """What there was to take is here, or given up; the machine is destroyed."""

    phase = Phase.DESTROY


@dataclass(frozen=True)
class Destroyed(PhaseBegan):
    """The attempt is over; `confirmed` says whether Fly has confirmed that the machine is gone, or never was there."""

    phase = Phase.DONE
    confirmed: bool


@dataclass(frozen=True)
class StopRequested(Event):
    """The run is to stop: its agent ends and its work is collected or, `at_once`, only its machine destroyed."""

    reason: str
    at_once: bool


@dataclass(frozen=True)
class Resumed(Event):
    """Another controller has taken the run up in `phase`, where the one before left it; its events go on from here."""

    phase: Phase


@dataclass(frozen=True)
class Detached(Event):
    """The controller leaves; the machine works on, for somebody to resume the batch."""


@dataclass(frozen=True)
class Finished(Event):
    """The run is over and its machine dealt with: the last event of a run, which no consumer ever misses."""

    result: ExecutionResult


@dataclass(frozen=True)
class Output(Event):
    """Base of what the agent prints on stdout."""


@dataclass(frozen=True)
class Message(Output):
    """Base of what the model says and does, and of what its tools answer."""


@dataclass(frozen=True)
class AssistantText(Message):
    """The model says something."""

    text: str


@dataclass(frozen=True)
class ToolUse(Message):
    """The model uses a tool; `input` is what for, as the tool takes it."""

    id: str
    name: str
    input: dict[str, Any]


@dataclass(frozen=True)
class ToolResult(Message):
    """A tool's answer to the `ToolUse` whose id is `tool_use_id`."""

    tool_use_id: str
    text: str
    is_error: bool


@dataclass(frozen=True)
class RateLimited(Output):
    """Claude's API limits the account.

    `status` is Claude Code's word for it (`allowed_warning`, `rejected`), `resets_at` when the limit is lifted, in UTC,
    where it says so.
    """

    status: str
    resets_at: datetime | None


@dataclass(frozen=True)
class OtherOutput(Output):
    """Any other line: a JSON object as it stands, or text."""

    line: dict[str, Any] | str


@dataclass(frozen=True)
class StderrOutput(Event):
    """The agent printed a line on stderr."""

    text: str


@dataclass(frozen=True)
class Retried(Event):
    """Attempt number `attempt` has failed; another one begins, on a new machine, after `pause_s` seconds."""

    attempt: int
    failure: Failure
    pause_s: float


@dataclass(frozen=True)
class Notice(Event):
    """Something that a person who watches should know: the guest's log, a wait, a repeated call."""

    text: str


@dataclass(frozen=True)
class Skipped(Event):
    """So many events of output or notices of this run were left out here: the consumer is slower than the runs."""

    count: int
