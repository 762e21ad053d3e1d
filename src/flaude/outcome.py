"""From what is known of a run at its end to its `ExecutionResult`. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Mapping

from flaude import claude
from flaude.diagnosis import OUT_OF_MEMORY
from flaude.errors import RunFailedError
from flaude.protocol import EndedBy, GuestResult
from flaude.results import Attempt, ExecutionResult, Failure, FailureKind, Phase, RepoResult, RunResult, Times
from flaude.run_state import RunState

_TAIL_CHARACTERS = 500

_NEVER_BEGAN = Failure(
    kind=FailureKind.CANCELLED, phase=Phase.QUEUED, message="the run was cancelled before it got a machine"
)

_ENDED: dict[EndedBy, tuple[FailureKind, Phase]] = {
    "clone": (FailureKind.CLONE, Phase.CLONE),
    "image": (FailureKind.IMAGE, Phase.BOOT),
    "deadline": (FailureKind.DEADLINE, Phase.AGENT),
    "idle": (FailureKind.IDLE, Phase.AGENT),
    "cancelled": (FailureKind.CANCELLED, Phase.AGENT),
    "orphan": (FailureKind.CANCELLED, Phase.AGENT),
    "internal": (FailureKind.INTERNAL, Phase.AGENT),
}


def execution_result(
    tag: str, state: RunState, diffs: Mapping[str, bytes], times: Times, attempts: tuple[Attempt, ...] = ()
) -> ExecutionResult:
    """The outcome of a run that is over.

    Args:
        tag: The request's tag.
        state: The last state of the last attempt.
        diffs: Patches that arrived, by the name that the guest gave them.
        times: When each phase of the last attempt began.
        attempts: All attempts.
    """
    failure = failure_of(state)
    own_end = state.result is not None and state.result.ended_by == "exit" and failure is not state.failure
    error = None if failure is None or own_end else RunFailedError(failure)
    if not state.machine_id:
        return ExecutionResult(tag=tag, error=error, attempts=attempts)
    run_result = _run_result(state, failure, diffs, times, attempts)
    return ExecutionResult(tag=tag, run_result=run_result, error=error, attempts=attempts)


def not_launched(tag: str, reason: str, attempts: tuple[Attempt, ...] = ()) -> ExecutionResult:
    """The outcome of a run that got no machine because launching had stopped."""
    failure = Failure(kind=FailureKind.CANCELLED, phase=Phase.QUEUED, message=f"not launched: {reason}")
    return ExecutionResult(tag=tag, error=RunFailedError(failure), attempts=attempts)


def attempt_of(number: int, name: str, state: RunState, times: Times) -> Attempt:
    """What is kept of an attempt that is over."""
    return Attempt(
        number=number,
        name=name,
        machine_id=state.machine_id,
        region=state.region,
        state=state.machine_state,
        gone=state.gone,
        failure=failure_of(state),
        times=times,
    )


def failure_of(state: RunState) -> Failure | None:
    """What went wrong in a run that is over; `None` when nothing did."""
    result = state.result
    if result is None:
        return state.failure or _NEVER_BEGAN
    if result.ended_by == "exit":
        # The agent may end by itself just when it is told to stop: then it was not stopped.
        stopped_late = state.failure is None or state.failure.kind in (FailureKind.CANCELLED, FailureKind.DEADLINE)
        return _agent_failure(result) if stopped_late else state.failure
    if state.failure is not None:
        return state.failure
    kind, phase = _ENDED[result.ended_by]
    return Failure(kind=kind, phase=phase, message=result.message or f"the guest ended the run: {result.ended_by}")


def _agent_failure(result: GuestResult) -> Failure | None:
    if result.exit_code == 0:
        return None
    if result.oom:
        return Failure(kind=FailureKind.OOM, phase=Phase.AGENT, message=f"the agent was killed: {OUT_OF_MEMORY}")
    line = claude.parse_result(result.result_line) if result.result_line is not None else None
    kind = claude.failure_kind(line, result.rate_limit)
    return Failure(kind=kind, phase=Phase.AGENT, message=_agent_message(result, line))


def _agent_message(result: GuestResult, line: claude.ResultLine | None) -> str:
    if line is not None:
        told = line.result or "; ".join(map(str, line.errors)) or line.subtype
        return f"Claude Code: {told}"
    tail = "\n".join(result.stderr_tail or result.stdout_tail)[-_TAIL_CHARACTERS:]
    return f"Claude Code ended with code {result.exit_code} and no result line" + (f": {tail}" if tail else "")


def _run_result(
    state: RunState,
    failure: Failure | None,
    diffs: Mapping[str, bytes],
    times: Times,
    attempts: tuple[Attempt, ...],
) -> RunResult:
    result = state.result
    common = {
        "machine_id": state.machine_id,
        "state": state.machine_state,
        "destroyed": state.destroyed,
        "region": state.region,
        "failure": failure,
        "times": times,
        "attempts": attempts,
    }
    if result is None:
        return RunResult(exit_code=None, **common)
    line = claude.parse_result(result.result_line) or claude.ResultLine()
    return RunResult(
        exit_code=result.exit_code,
        text=line.result,
        structured_output=line.structured_output,
        session_id=line.session_id,
        num_turns=line.num_turns,
        cost_usd=line.total_cost_usd,
        usage=line.tokens,
        model_usage=line.model_usage,
        patches=tuple(
            RepoResult(
                url=repo.url,
                path=repo.path,
                head=repo.head,
                changes=repo.changes,
                diff=diffs.get(repo.patch, b"") if repo.patch else b"",
                error=repo.patch_error
                or ("the patch did not arrive" if repo.patch and repo.patch not in diffs else ""),
            )
            for repo in result.repos
        ),
        stdout_tail=result.stdout_tail,
        stderr_tail=result.stderr_tail,
        **common,
    )
