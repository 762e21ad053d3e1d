"""What a report is made of: plain values, wherever they come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from flaude._model.results import ExecutionResult
from flaude.events import Event


@dataclass(frozen=True)
class ReportRun:
    """One run.

    Attributes:
        index: The request's place in the batch, from 0.
        tag: The request's tag.
        prompt: What its agent was asked.
        repos: The repositories' addresses, each with its branch.
        model: The model that was asked for; empty for the default.
        machine: The machine's size, for people.
        phase: How far it is, in the word of `flaude.Phase`, where there is no result.
        result: What it came to; `None` while it is not over.
        events: What happened to it, in order; may be missing, and then there is no transcript.
    """

    index: int
    tag: str
    prompt: str = ""
    repos: tuple[str, ...] = ()
    model: str = ""
    machine: str = ""
    phase: str = ""
    result: ExecutionResult | None = None
    events: Sequence[Event] = ()


class Runs(Protocol):
    """The runs of a batch by their index, a tuple of them for one.

    They are gone through once, one at a time: each may be read when it is asked for, and none need be kept.
    """

    def __len__(self) -> int:
        """How many there are."""

    def __iter__(self) -> Iterator[ReportRun]:
        """One after the other."""


@dataclass(frozen=True)
class ReportData:
    """A batch.

    Attributes:
        runs: Its runs.
        id: The batch's id; may be empty.
        app: The Fly app of its machines.
        began: When it began, in UTC.
        ended: When it ended, in UTC; `None` while it goes on.
        settings: What it kept to, as JSON.
        stopped_by: What kept it from running everything; empty when nothing did.
        in_journal: Whether `flaude patch` and its like find the batch by its id: then the page names them where it had
            to leave something out.
        made: When the report is made, in UTC: until then goes what has not ended.
    """

    runs: Runs
    id: str = ""
    app: str = ""
    began: datetime | None = None
    ended: datetime | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    stopped_by: str = ""
    in_journal: bool = False
    made: datetime | None = None

    @property
    def shards(self) -> int:
        """Over how many apps its machines were spread."""
        shards = self.settings.get("shards", 1)
        return shards if isinstance(shards, int) else 1
