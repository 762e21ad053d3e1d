"""One run as a state machine: every transition, in one place, without I/O.

    CREATE ─► BOOT ─► START ─► PULL ─► FETCH ─► ACK ─► DESTROY ─► DONE
      │                         │ ▲                      ▲
      │       (asked to stop)   ▼ │                      │
      │                       CANCEL                     │
      └─► FIND (was it made after all?) ─────────────────┘

`step` says what to do next; `run_driver.py` does it and hands the observation to `advance`. Every way out of a run
that has a machine leads through DESTROY, and every way out of one that may have a machine through FIND; only a create
that was surely not done goes to DONE without either.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from flaude._guest.messages import GuestResult, GuestState
from flaude._model.failures import FailureKind, Phase
from flaude._model.run_result import Failure


class Step(StrEnum):
    """What the run has to do next."""

    CREATE = "create"
    BOOT = "boot"
    START = "start"
    PULL = "pull"
    CANCEL = "cancel"
    FIND = "find"
    FETCH = "fetch"
    ACK = "ack"
    DESTROY = "destroy"
    DONE = "done"


@dataclass(frozen=True)
class AttemptState:
    """All that is known of one attempt at a run.

    Attributes:
        step: What to do next.
        phase: Where in its life it is.
        machine_id: Fly's id; empty until Fly has told it.
        region: Where Fly has put the machine.
        machine_state: Fly's last word on it.
        offset: Bytes of the guest's spool that have arrived.
        unsure: A create was sent and not answered, so there may be a machine that nobody has told of.
        agent_started: The agent has started, or may have: the guest starts it only when it knows that we know.
        result: The guest's account.
        failure: What was seen first of what went wrong.
        destroyed: Fly has confirmed that the machine is gone.
    """

    step: Step = Step.CREATE
    phase: Phase = Phase.CREATE
    machine_id: str = ""
    region: str = ""
    machine_state: str = ""
    offset: int = 0
    unsure: bool = False
    agent_started: bool = False
    result: GuestResult | None = None
    failure: Failure | None = None
    destroyed: bool = False

    @property
    def gone(self) -> bool:
        """Whether nothing of this attempt is left: its machine is confirmed gone, or there never was one."""
        return self.step is Step.DONE and (self.destroyed if self.machine_id else not self.unsure)


@dataclass(frozen=True)
class Created:
    """Fly has the machine."""

    machine_id: str
    region: str
    machine_state: str


@dataclass(frozen=True)
class CreateUnanswered:
    """A create was sent, and Fly did not say what came of it."""


@dataclass(frozen=True)
class CreateFailed:
    """Fly refused to make a machine."""

    kind: FailureKind
    message: str


@dataclass(frozen=True)
class Found:
    """The machine of a create that was not answered; `machine_id` is empty when it is not to be found."""

    machine_id: str = ""
    region: str = ""
    machine_state: str = ""


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
    | CreateUnanswered
    | CreateFailed
    | Found
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
    "ready": Phase.CLONE,
    "running": Phase.AGENT,
    "collecting": Phase.COLLECT,
    "done": Phase.COLLECT,
}


def advance(state: AttemptState, seen: Observation) -> AttemptState:
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
        case CreateUnanswered():
            return replace(state, unsure=True)
        case CreateFailed():
            return _without_machine(replace(state, failure=_failure(state, seen.kind, seen.message)))
        case Found():
            step = Step.DESTROY if seen.machine_id else Step.DONE
            return replace(
                state,
                step=step,
                phase=Phase.DESTROY,
                machine_id=seen.machine_id,
                region=seen.region,
                machine_state=seen.machine_state,
            )
        case Booted():
            return replace(state, step=Step.START, machine_state="started")
        case Accepted():
            return replace(state, step=Step.PULL, phase=Phase.CLONE)
        case Pulled():
            return replace(state, offset=seen.next_offset)
        case GuestEntered():
            phase = max(state.phase, _PHASES[seen.guest_state], key=list(Phase).index)
            started = state.agent_started or seen.guest_state in ("ready", "running")
            return replace(state, phase=phase, agent_started=started)
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


def _stop(state: AttemptState, seen: StopAsked) -> AttemptState:
    failure = _failure(state, seen.kind, seen.message)
    match state.step:
        case Step.CREATE:
            return _without_machine(replace(state, failure=failure))
        case Step.BOOT | Step.START:
            return replace(state, step=Step.DESTROY, phase=Phase.DESTROY, failure=failure)
        case Step.PULL:
            return replace(state, step=Step.CANCEL, failure=failure)
        case _:
            return state  # it is ending already, and keeps what it has


def _give_up(state: AttemptState, seen: GaveUp) -> AttemptState:
    machine_state = seen.machine_state or state.machine_state
    if state.step in (Step.DESTROY, Step.DONE):
        return replace(state, machine_state=machine_state)
    failure = _failure(state, seen.kind, seen.message)
    if state.step in (Step.CREATE, Step.FIND):
        return _without_machine(replace(state, failure=failure))
    return replace(state, step=Step.DESTROY, phase=Phase.DESTROY, failure=failure, machine_state=machine_state)


def _without_machine(state: AttemptState) -> AttemptState:
    """Over, unless there may be a machine after all."""
    over = not state.unsure or state.step is Step.FIND
    return replace(state, step=Step.DONE if over else Step.FIND)


def _failure(state: AttemptState, kind: FailureKind, message: str) -> Failure:
    # What was seen first is the cause; what follows from it is not.
    return state.failure or Failure(kind=kind, phase=state.phase, message=message)
