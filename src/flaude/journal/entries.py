"""What a journal keeps, as plain values: it knows nothing of machines, agents or results beyond their JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

Json: TypeAlias = Mapping[str, Any]
"""A JSON object: string keys, and values that `json.dumps` takes as they are."""


@dataclass(frozen=True)
class LeaseOwner:
    """A process that carries out a batch.

    Attributes:
        owner: A random word that no other holder has.
        host: The computer's name.
        pid: The process's number there.
        process_began: What tells it from another process that later got the same number; empty where nothing does.
    """

    owner: str
    host: str
    pid: int
    process_began: str = ""


@dataclass(frozen=True)
class Counts:
    """How many runs of a batch are how far."""

    total: int = 0
    succeeded: int = 0
    failed: int = 0

    @property
    def open(self) -> int:
        """Runs that have no outcome yet."""
        return self.total - self.succeeded - self.failed


@dataclass(frozen=True)
class BatchEntry:
    """A batch.

    Attributes:
        id: Its id; no other batch has it.
        app: The Fly app of its machines.
        began: When it was first begun, in UTC.
        settings: What it keeps to, as JSON.
        ended: When its last controller came to the end of it, in UTC; `None` while it goes on, or when its controller
            has died.
        stopped_by: What kept it from running everything; empty when nothing did.
        holder: Who carries it out, or did so last; `None` when it was let go in order.
        held_until: Until when nobody else may take it, in UTC, unless the holder is known to be dead.
        counts: How far its runs are.
        cost_usd: What its agents have cost by what is known, in US dollars.
    """

    id: str
    app: str
    began: datetime
    settings: Json
    ended: datetime | None = None
    stopped_by: str = ""
    holder: LeaseOwner | None = None
    held_until: datetime | None = None
    counts: Counts = Counts()
    cost_usd: float = 0.0


@dataclass(frozen=True)
class RunEntry:
    """A run of a batch.

    Attributes:
        index: The request's place in the batch, from 0.
        tag: The request's tag.
        request: The request as JSON, without a single secret.
        phase: How far it is, in the word of `flaude.Phase`.
        checkpoint: Where another controller takes it up, as JSON; `None` before it got that far.
        outcome: What it came to, in short, as JSON; `None` while it is not over. The whole result is a file.
        success: Whether it succeeded; `None` while it is not over.
        cost_usd: What its agents have cost, in US dollars; `None` when that is not known.
        updated: When any of this changed last, in UTC.
    """

    index: int
    tag: str
    request: Json
    phase: str = "queued"
    checkpoint: Json | None = None
    outcome: Json | None = None
    success: bool | None = None
    cost_usd: float | None = None
    updated: datetime | None = None


@dataclass(frozen=True)
class EventEntry:
    """An event of a run, as JSON; `number` grows in the order in which they were written, over all batches."""

    number: int
    index: int
    at: datetime
    kind: str
    data: Json


CANCEL = "cancel"
"""The verb of a `ControlRequest`: stop a run, or the whole batch, collect its work and destroy its machines."""


@dataclass(frozen=True)
class ControlRequest:
    """What somebody else wants of the process that holds a batch: `cancel` of one run, or of all (`index` `None`)."""

    verb: str
    index: int | None = None


# --- what a holder writes; all notes of one call are kept, or none ---


@dataclass(frozen=True)
class EventNote:
    """Something has happened to a run."""

    index: int
    at: datetime
    kind: str
    data: Json


@dataclass(frozen=True)
class CheckpointNote:
    """A run has come so far; the last one counts."""

    index: int
    phase: str
    checkpoint: Json


@dataclass(frozen=True)
class OutcomeNote:
    """A run is over; a later one replaces it."""

    index: int
    outcome: Json
    success: bool
    cost_usd: float | None


@dataclass(frozen=True)
class EndNote:
    """The batch has come to its end under this holder."""

    at: datetime
    stopped_by: str


Note: TypeAlias = EventNote | CheckpointNote | OutcomeNote | EndNote
