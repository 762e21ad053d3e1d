"""What happens to the runs of a batch while it goes on, as frozen events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from flaude.claude import Line
from flaude.results import ExecutionResult, Phase


@dataclass(frozen=True)
class Event:
    """Base of all events: which run (`index` in the batch and its `tag`) and when (UTC)."""

    batch: str
    index: int
    tag: str
    at: datetime


@dataclass(frozen=True)
class PhaseBegan(Event):
    """The run entered a phase; `machine_id` is empty until there is a machine."""

    phase: Phase
    machine_id: str


@dataclass(frozen=True)
class Output(Event):
    """The agent printed a line on stdout."""

    line: Line


@dataclass(frozen=True)
class StderrOutput(Event):
    """The agent printed a line on stderr."""

    text: str


@dataclass(frozen=True)
class Notice(Event):
    """Something that a person who watches should know: the guest's log, a wait, a repeated call."""

    text: str


@dataclass(frozen=True)
class Finished(Event):
    """The run is over and its machine dealt with."""

    result: ExecutionResult
