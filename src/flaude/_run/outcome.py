"""From what is known of a run at its end to its `ExecutionResult`. Pure: no I/O."""

from __future__ import annotations

from flaude._agent.limits import failure_kind
from flaude._agent.output import ResultLine, parse_result
from flaude._guest.messages import EndedBy, GuestRepo, GuestResult
from flaude._model.errors import RunFailedError
from flaude._model.failures import FailureKind, Phase
from flaude._model.results import ExecutionResult
from flaude._model.run_result import Attempt, Branch, Failure, Omitted, RepoResult, RunResult, Times
from flaude._providers.fly.diagnosis import OUT_OF_MEMORY
from flaude._providers.fly.prices import machine_cost_usd
from flaude._providers.fly.provider_record import ProviderRecord
from flaude._run.downloads import Downloaded
from flaude._run.plan import AttemptPlan
from flaude._run.state import AttemptState

_TAIL_CHARACTERS = 500
_MOST_NAMED = 3
_NOTHING = Downloaded()

_STOPS = (FailureKind.CANCELLED, FailureKind.DEADLINE, FailureKind.BUDGET)

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
    "stopped": (FailureKind.MACHINE_STOPPED, Phase.AGENT),
    "internal": (FailureKind.INTERNAL, Phase.AGENT),
}


def execution_result(
    tag: str,
    state: AttemptState,
    times: Times,
    downloaded: Downloaded = _NOTHING,
    attempts: tuple[Attempt, ...] = (),
    superseded: tuple[RunResult, ...] = (),
    note: str = "",
) -> ExecutionResult:
    """The outcome of a run that is over.

    Args:
        tag: The request's tag.
        state: The last state of the last attempt.
        times: When each phase of the last attempt began.
        downloaded: The files that it brought.
        attempts: All attempts.
        superseded: What earlier attempts brought whose agents had started.
        note: What is to be added to the reason of its failure.
    """
    failure = failure_of(state, downloaded)
    own_end = state.result is not None and state.result.ended_by == "exit" and failure is not state.failure
    if failure is not None and note:
        failure = failure.model_copy(update={"message": f"{failure.message}; {note}"})
    whole = failure is None or (own_end and failure.kind is not FailureKind.COLLECT)
    error = None if failure is None or whole else RunFailedError(failure)
    run_result = _run_result(state, failure, times, downloaded, attempts) if state.machine_id else None
    return ExecutionResult(tag=tag, run_result=run_result, error=error, attempts=attempts, superseded=superseded)


def not_launched(
    tag: str,
    kind: FailureKind,
    reason: str,
    attempts: tuple[Attempt, ...] = (),
    superseded: tuple[RunResult, ...] = (),
) -> ExecutionResult:
    """The outcome of a run that got no machine because launching had stopped, or the budget has no room for it."""
    failure = Failure(kind=kind, phase=Phase.QUEUED, message=f"not launched: {reason}")
    return ExecutionResult(tag=tag, error=RunFailedError(failure), attempts=attempts, superseded=superseded)


def attempt_of(
    plan: AttemptPlan,
    state: AttemptState,
    times: Times,
    downloaded: Downloaded = _NOTHING,
    provider: ProviderRecord | None = None,
) -> Attempt:
    """What is kept of an attempt that is over."""
    seconds = (times.seconds or 0.0) if state.machine_id else 0.0
    return Attempt(
        number=plan.attempt,
        name=plan.name,
        machine_id=state.machine_id,
        region=state.region,
        state=state.machine_state,
        gone=state.gone,
        failure=failure_of(state, downloaded),
        agent_started=state.agent_started,
        cost_usd=_result_line(state.result).total_cost_usd,
        machine_seconds=seconds,
        machine_cost_usd=machine_cost_usd(plan.config.size, state.region, seconds) if seconds else 0.0,
        times=times,
        app=plan.app,
        requests=provider.requests if provider else (),
        exit_event=provider.exit_event if provider else None,
    )


def failure_of(state: AttemptState, downloaded: Downloaded = _NOTHING) -> Failure | None:
    """What went wrong in a run that is over; `None` when nothing did."""
    result = state.result
    if result is None:
        return state.failure or _NEVER_BEGAN
    if result.ended_by == "exit":
        # The agent may end by itself just when it is told to stop: then it was not stopped.
        stopped_late = state.failure is None or state.failure.kind in _STOPS
        return (_agent_failure(result) or _incomplete(result, downloaded)) if stopped_late else state.failure
    if state.failure is not None:
        return state.failure
    kind, phase = _ENDED[result.ended_by]
    if result.ended_by == "stopped" and result.exit_code is None:
        phase = Phase.CLONE
    message = result.message or f"the guest ended the run: {result.ended_by}"
    return Failure(kind=kind, phase=phase, message=message, transient=result.transient)


def _agent_failure(result: GuestResult) -> Failure | None:
    if result.exit_code == 0:
        return None
    if result.oom:
        return Failure(kind=FailureKind.OOM, phase=Phase.AGENT, message=f"the agent was killed: {OUT_OF_MEMORY}")
    line = _result_line(result) if result.result_line is not None else None
    kind = failure_kind(line, result.rate_limit)
    return Failure(kind=kind, phase=Phase.AGENT, message=_agent_message(result, line))


def _agent_message(result: GuestResult, line: ResultLine | None) -> str:
    if line is not None:
        told = line.result or "; ".join(map(str, line.errors)) or line.subtype
        return f"Claude Code: {told}"
    tail = "\n".join(result.stderr_tail or result.stdout_tail)[-_TAIL_CHARACTERS:]
    return f"Claude Code ended with code {result.exit_code} and no result line" + (f": {tail}" if tail else "")


def _incomplete(result: GuestResult, downloaded: Downloaded) -> Failure | None:
    """The failure of an agent that did its work, of which not all came back."""
    told = [f"{repo.url}: {repo.error}" for repo in _repo_results(result, downloaded) if repo.error]
    told += [result.artifacts_error] if result.artifacts_error else []
    lost = _lost(result, downloaded)
    told += [f"{omitted.path} {omitted.reason}" for omitted in lost[:_MOST_NAMED]]
    told += [f"{len(lost) - _MOST_NAMED} more files did not come back"] if len(lost) > _MOST_NAMED else []
    return Failure(kind=FailureKind.COLLECT, phase=Phase.COLLECT, message="; ".join(told)) if told else None


def _lost(result: GuestResult, downloaded: Downloaded) -> list[Omitted]:
    """Files that the guest had for us, and that are not here."""
    here = {artifact.path for artifact in downloaded.artifacts} | {omitted.path for omitted in downloaded.lost}
    wanted = [artifact for artifact in result.artifacts if artifact.path not in here]
    if result.transcript and downloaded.transcript is None and result.transcript.path not in here:
        wanted.append(result.transcript)
    sizes = {file.name: file.size for file in result.files}
    missing = [Omitted(path=one.path, size=sizes.get(one.file), reason="did not arrive") for one in wanted]
    return [*downloaded.lost, *missing]


def _result_line(result: GuestResult | None) -> ResultLine:
    """The agent's last line, or one that says nothing."""
    return (parse_result(result.result_line) if result else None) or ResultLine()


def _run_result(
    state: AttemptState, failure: Failure | None, times: Times, downloaded: Downloaded, attempts: tuple[Attempt, ...]
) -> RunResult:
    result = state.result
    common = {
        "machine_id": state.machine_id,
        "state": state.machine_state,
        "destroyed": state.destroyed,
        "region": state.region,
        "failure": failure,
        "machine_seconds": attempts[-1].machine_seconds if attempts else 0.0,
        "machine_cost_usd": attempts[-1].machine_cost_usd if attempts else None,
        "times": times,
        "attempts": attempts,
        "app": attempts[-1].app if attempts else "",
    }
    if result is None:
        return RunResult(exit_code=None, **common)
    line = _result_line(result)
    return RunResult(
        exit_code=result.exit_code,
        text=line.result,
        structured_output=line.structured_output,
        session_id=line.session_id or result.session_id,
        num_turns=line.num_turns,
        cost_usd=line.total_cost_usd,
        usage=line.tokens,
        model_usage=line.models,
        permission_denials=line.denials,
        patches=_repo_results(result, downloaded),
        artifacts=downloaded.artifacts,
        artifacts_omitted=(*result.artifacts_omitted, *_lost(result, downloaded)),
        transcript=downloaded.transcript,
        workspace_files=result.workspace_files,
        workspace_files_left_out=result.workspace_files_left_out,
        stdout_tail=result.stdout_tail,
        stderr_tail=result.stderr_tail,
        lines_dropped=result.lines.dropped,
        **common,
    )


def _repo_results(result: GuestResult, downloaded: Downloaded) -> tuple[RepoResult, ...]:
    return tuple(_repo_result(repo, downloaded) for repo in result.repos)


def _repo_result(repo: GuestRepo, downloaded: Downloaded) -> RepoResult:
    contents = downloaded.contents
    missing = any(name not in contents for name in repo.files)
    return RepoResult(
        url=repo.url,
        path=repo.path,
        head=repo.head,
        changes=repo.changes,
        diff=contents.get(repo.patch or "", b""),
        omitted=repo.omitted,
        error=repo.patch_error or ("its patch did not arrive" if missing else ""),
        commits=repo.commits,
        mail=contents.get(repo.mail or "", b""),
        branches=tuple(
            Branch(name=branch.name, commits=branch.commits, mail=contents.get(branch.mail or "", b""))
            for branch in repo.branches
        ),
        pushed_branch=repo.pushed_branch,
        push_error=repo.push_error,
    )
