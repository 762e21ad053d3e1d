"""Where a controller leaves a run, as JSON, and where another one takes it up. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from flaude._guest.messages import GuestResult
from flaude._model.failures import FailureKind, Phase
from flaude._model.run_result import Artifact, Attempt, ExitEvent, Failure, FlyRequest, Omitted, RunResult
from flaude._providers.fly.provider_record import ProviderRecord
from flaude._run.downloads import Downloaded
from flaude._run.state import AttemptState, Step


@dataclass(frozen=True)
class Checkpoint:
    """A run that another controller has begun and not ended.

    Attributes:
        attempt: The number of its last attempt.
        state: Where that is taken up.
        began_at: When each of its phases began, by the phase's word.
        downloaded: The files that it has brought.
        earlier: The attempts before.
        superseded: What those have brought whose agents had started.
        app: The app of its machine; empty when that was not written down.
        pad: The pad of its machine (`RunPlan.pad`).
        requests: What is known of its requests to Fly.
        exit_event: How its machine ended, where Fly has shown it.
    """

    attempt: int
    state: AttemptState
    began_at: Mapping[str, datetime]
    downloaded: Downloaded = field(default_factory=Downloaded)
    earlier: tuple[Attempt, ...] = ()
    superseded: tuple[RunResult, ...] = ()
    app: str = ""
    pad: bytes = field(default=b"", repr=False)
    requests: tuple[FlyRequest, ...] = ()
    exit_event: ExitEvent | None = None

    @property
    def under_way(self) -> bool:
        """Whether its attempt has a machine, or may have; else it waited for a place at Fly."""
        return self.state.step is not Step.CREATE or self.state.unsure or bool(self.state.machine_id)


def dump_checkpoint(
    attempt: int,
    state: AttemptState,
    told: int,
    began_at: Mapping[str, datetime],
    earlier: tuple[Attempt, ...],
    app: str = "",
    pad: bytes = b"",
    provider: ProviderRecord | None = None,
) -> dict[str, Any]:
    """What is written of a run while it goes on.

    Args:
        attempt: The attempt's number.
        state: How far it is.
        told: The offset in the guest's spool up to which all is told: what lies beyond is pulled again.
        began_at: When each of its phases began.
        earlier: The attempts before.
        app: The app of its machine.
        pad: The pad of its machine.
        provider: What Fly has shown of the attempt.
    """
    event = provider.exit_event if provider else None
    return {
        "attempt": attempt,
        "app": app,
        "pad": pad.hex(),
        "step": state.step.value,
        "phase": state.phase.value,
        "machine_id": state.machine_id,
        "region": state.region,
        "machine_state": state.machine_state,
        "offset": told,
        "unsure": state.unsure or (state.step is Step.CREATE and Phase.CREATE.value in began_at),
        "agent_started": state.agent_started,
        "destroyed": state.destroyed,
        "failure": state.failure.model_dump(mode="json") if state.failure else None,
        "began_at": {phase: at.isoformat() for phase, at in began_at.items()},
        "earlier": [one.model_dump(mode="json") for one in earlier],
        "requests": [one.model_dump(mode="json") for one in provider.requests] if provider else [],
        "exit_event": event.model_dump(mode="json") if event else None,
    }


def load_checkpoint(
    kept: Mapping[str, Any], collected: CollectedWork | None, superseded: tuple[RunResult, ...] = ()
) -> Checkpoint:
    """Where a run is taken up.

    Args:
        kept: Its last `dump_checkpoint`.
        collected: What its machine has given, if all of it had arrived.
        superseded: What earlier attempts have brought.
    """
    failure, event = kept["failure"], kept.get("exit_event")
    state = AttemptState(
        step=Step(kept["step"]),
        phase=Phase(kept["phase"]),
        machine_id=kept["machine_id"],
        region=kept["region"],
        machine_state=kept["machine_state"],
        offset=kept["offset"],
        unsure=kept["unsure"],
        agent_started=kept["agent_started"],
        failure=Failure.model_validate(failure) if failure else None,
        destroyed=kept["destroyed"],
    )
    return Checkpoint(
        kept["attempt"],
        _taken_up(state, collected),
        {phase: datetime.fromisoformat(at) for phase, at in kept["began_at"].items()},
        collected.downloaded if collected else Downloaded(),
        tuple(Attempt.model_validate(one) for one in kept["earlier"]),
        superseded,
        kept.get("app", ""),
        bytes.fromhex(kept["pad"]),
        tuple(FlyRequest.model_validate(one) for one in kept.get("requests", ())),
        ExitEvent.model_validate(event) if event else None,
    )


def _taken_up(state: AttemptState, collected: CollectedWork | None) -> AttemptState:
    if collected is not None:
        # Everything is here, whatever else was written: what is left is to tell the machine.
        step = Step.ACK if state.step in (Step.PULL, Step.CANCEL, Step.FETCH) else state.step
        return replace(state, step=step, result=collected.result)
    if state.step in (Step.FETCH, Step.ACK):
        # The guest tells its result again to whoever has pulled all.
        return replace(state, step=Step.PULL)
    if state.step in (Step.DESTROY, Step.DONE) and state.agent_started and state.failure is None:
        lost = "what its machine had given could not be kept in the journal"
        return replace(state, failure=Failure(kind=FailureKind.COLLECT, phase=Phase.COLLECT, message=lost))
    return state


@dataclass(frozen=True)
class CollectedWork:
    """The guest's account of a run, and the files that have arrived."""

    result: GuestResult
    downloaded: Downloaded


def dump_collected(collected: CollectedWork) -> dict[str, Any]:
    """All of it, as `json.dumps` takes it."""
    downloaded = collected.downloaded
    return {
        "result": collected.result.model_dump(mode="json"),
        "contents": {name: base64.b64encode(content).decode() for name, content in downloaded.contents.items()},
        "artifacts": [artifact.model_dump(mode="json") for artifact in downloaded.artifacts],
        "transcript": downloaded.transcript.model_dump(mode="json") if downloaded.transcript else None,
        "lost": [omitted.model_dump(mode="json") for omitted in downloaded.lost],
    }


def load_collected(kept: Mapping[str, Any]) -> CollectedWork:
    """The harvest again."""
    transcript = kept["transcript"]
    return CollectedWork(
        GuestResult.model_validate(kept["result"]),
        Downloaded(
            {name: base64.b64decode(content) for name, content in kept["contents"].items()},
            tuple(Artifact.model_validate(artifact) for artifact in kept["artifacts"]),
            Artifact.model_validate(transcript) if transcript else None,
            tuple(Omitted.model_validate(omitted) for omitted in kept["lost"]),
        ),
    )
