"""One run as a state machine: every transition, in one place, without I/O.

    CREATE ─► BOOT ─► START ─► PULL ─► FETCH ─► ACK ─► DESTROY ─► DONE
                                │ ▲
              (asked to stop)   ▼ │
                              CANCEL

`step` says what to do next; `run_driver.py` does it and hands the observation to `advance`. Every way out of a run
that has a machine leads through DESTROY; only a create that was refused goes to DONE without it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from flaude.protocol import GuestResult, GuestState
from flaude.results import Failure, FailureKind, Phase


class Step(StrEnum):
    """What the run has to do next."""

    CREATE = "create"
    BOOT = "boot"
    START = "start"
    PULL = "pull"
    CANCEL = "cancel"
    FETCH = "fetch"
    ACK = "ack"
    DESTROY = "destroy"
    DONE = "done"


@dataclass(frozen=True)
class RunState:
    """All that is known of a run. `offset` counts the bytes of the guest's spool that have arrived."""

    step: Step = Step.CREATE
    phase: Phase = Phase.CREATE
    machine_id: str = ""
    region: str = ""
    machine_state: str = ""
    offset: int = 0
    result: GuestResult | None = None
    failure: Failure | None = None
    destroyed: bool = False


@dataclass(frozen=True)
class Created:
    """Fly has the machine."""

    machine_id: str
    region: str
    machine_state: str


@dataclass(frozen=True)
class CreateFailed:
    """Fly refused to make a machine: there is nothing to destroy."""

    kind: FailureKind
    message: str


@dataclass(frozen=True)
class Booted:
    """Fly says that the machine has started."""


@dataclass(frozen=True)
class Accepted:
    """The guest has the job."""


@dataclass(frozen=True)
class Pulled:
    """The guest's spool has arrived up to `next_offset`."""

    next_offset: int


@dataclass(frozen=True)
class GuestEntered:
    """The guest has gone on to another state."""

    guest_state: GuestState


@dataclass(frozen=True)
class GuestDone:
    """The guest has told all, and this is its account."""

    result: GuestResult


@dataclass(frozen=True)
class StopAsked:
    """The controller wants the run to end (deadline, cancel): collect what there is, then destroy."""

    kind: FailureKind
    message: str


@dataclass(frozen=True)
class CancelSent:
    """The guest knows that the agent is to stop."""


@dataclass(frozen=True)
class Fetched:
    """Everything that the guest kept for us has arrived."""


@dataclass(frozen=True)
class Acked:
    """The guest knows that we have everything, or no longer needs to."""


@dataclass(frozen=True)
class GaveUp:
    """The run cannot go on: by Fly's clear word, or after all patience. What has arrived is kept."""

    kind: FailureKind
    message: str
    machine_state: str = ""


@dataclass(frozen=True)
class Destroyed:
    """The machine was destroyed; `confirmed` when Fly showed that it is gone."""

    confirmed: bool
    machine_state: str


Observation = (
    Created
    | CreateFailed
    | Booted
    | Accepted
    | Pulled
    | GuestEntered
    | GuestDone
    | StopAsked
    | CancelSent
    | Fetched
    | Acked
    | GaveUp
    | Destroyed
)

_PHASES: dict[GuestState, Phase] = {
    "waiting": Phase.CLONE,
    "installing": Phase.CLONE,
    "cloning": Phase.CLONE,
    "running": Phase.AGENT,
    "collecting": Phase.COLLECT,
    "done": Phase.COLLECT,
}


def advance(state: RunState, seen: Observation) -> RunState:
    """The state after an observation. Observations that come too late to matter change nothing."""
    match seen:
        case Created():
            return replace(
                state,
                step=Step.BOOT,
                phase=Phase.BOOT,
                machine_id=seen.machine_id,
                region=seen.region,
                machine_state=seen.machine_state,
            )
        case CreateFailed():
            return replace(state, step=Step.DONE, failure=_failure(state, seen.kind, seen.message))
        case Booted():
            return replace(state, step=Step.START, machine_state="started")
        case Accepted():
            return replace(state, step=Step.PULL, phase=Phase.CLONE)
        case Pulled():
            return replace(state, offset=seen.next_offset)
        case GuestEntered():
            return replace(state, phase=max(state.phase, _PHASES[seen.guest_state], key=list(Phase).index))
        case GuestDone():
            return replace(state, step=Step.FETCH, phase=Phase.COLLECT, result=seen.result)
        case StopAsked():
            return _stop(state, seen)
        case CancelSent():
            return replace(state, step=Step.PULL)
        case Fetched():
            return replace(state, step=Step.ACK)
        case Acked():
            return replace(state, step=Step.DESTROY, phase=Phase.DESTROY)
        case GaveUp():
            return _give_up(state, seen)
        case Destroyed():
            return replace(
                state,
                step=Step.DONE,
                phase=Phase.DONE,
                destroyed=seen.confirmed,
                machine_state=seen.machine_state or state.machine_state,
            )
        case _:
            assert_never(seen)


def _stop(state: RunState, seen: StopAsked) -> RunState:
    failure = _failure(state, seen.kind, seen.message)
    match state.step:
        case Step.CREATE:
            return replace(state, step=Step.DONE, failure=failure)
        case Step.BOOT | Step.START:
            return replace(state, step=Step.DESTROY, phase=Phase.DESTROY, failure=failure)
        case Step.PULL:
            return replace(state, step=Step.CANCEL, failure=failure)
        case _:
            return state  # it is ending already, and keeps what it has


def _give_up(state: RunState, seen: GaveUp) -> RunState:
    machine_state = seen.machine_state or state.machine_state
    if state.step in (Step.DESTROY, Step.DONE):
        return replace(state, machine_state=machine_state)
    failure = _failure(state, seen.kind, seen.message)
    return replace(state, step=Step.DESTROY, phase=Phase.DESTROY, failure=failure, machine_state=machine_state)


def _failure(state: RunState, kind: FailureKind, message: str) -> Failure:
    # What was seen first is the cause; what follows from it is not.
    return state.failure or Failure(kind=kind, phase=state.phase, message=message)
