from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flaude import FailureKind, Phase
from flaude._guest.messages import GuestRepo, GuestResult, GuestState
from flaude._model.run_result import Times
from flaude._run.outcome import execution_result
from flaude._run.state import (
    Accepted,
    Acked,
    AttemptState,
    Booted,
    CancelSent,
    Created,
    CreateFailed,
    CreateUnanswered,
    Destroyed,
    Fetched,
    Found,
    GaveUp,
    GuestDone,
    GuestEntered,
    Observation,
    Pulled,
    Step,
    StopAsked,
    advance,
)

kinds = st.sampled_from(FailureKind)
results = st.builds(
    GuestResult,
    job_id=st.just("job"),
    exit_code=st.sampled_from([0, 1, 70, 124, 130, 143, None]),
    ended_by=st.sampled_from(
        ["exit", "clone", "image", "deadline", "idle", "cancelled", "orphan", "stopped", "internal"]
    ),
    result_line=st.none() | st.just({"type": "result", "is_error": False, "result": "ok", "total_cost_usd": 0.5}),
)
trouble = st.builds(StopAsked, kinds, st.just("stop")) | st.builds(GaveUp, kinds, st.just("gave up"))
usual: dict[Step, st.SearchStrategy[Observation]] = {
    Step.CREATE: st.builds(Created, st.just("m1"), st.just("iad"), st.just("created"))
    | st.builds(CreateFailed, kinds, st.just("refused"))
    | st.builds(CreateUnanswered),
    Step.FIND: st.builds(Found) | st.builds(Found, st.just("m1"), st.just("iad"), st.just("started")),
    Step.BOOT: st.builds(Booted),
    Step.START: st.builds(Accepted),
    Step.PULL: st.builds(
        GuestEntered, st.sampled_from(["waiting", "installing", "cloning", "ready", "running", "collecting", "done"])
    )
    | st.builds(Pulled, st.integers(0, 99))
    | st.builds(GuestDone, results),
    Step.CANCEL: st.builds(CancelSent),
    Step.FETCH: st.builds(Fetched),
    Step.ACK: st.builds(Acked),
    Step.DESTROY: st.builds(Destroyed, st.booleans(), st.just("destroyed")),
}


@given(st.data())
def test_every_path_keeps_the_promises(data: st.DataObject) -> None:
    """Whatever is seen: a machine's run ends through DESTROY, one that may have a machine through FIND, and so on."""
    state, path = AttemptState(), [Step.CREATE]
    for _ in range(40):
        if state.step is Step.DONE:
            break
        choices = usual[state.step] if state.step is Step.FIND else usual[state.step] | trouble
        before, state = state, advance(state, data.draw(choices))
        path.append(state.step)
        assert list(Phase).index(state.phase) >= list(Phase).index(before.phase)
        if before.failure is not None:
            assert state.failure == before.failure
        assert state.machine_id == (before.machine_id or state.machine_id)
        assert not state.destroyed or state.step is Step.DONE
        assert state.agent_started >= before.agent_started
    if state.step is Step.DONE:
        assert (Step.DESTROY in path) == bool(state.machine_id)
        assert Step.FIND in path or state.machine_id or not state.unsure
        assert state.gone == (state.destroyed if state.machine_id else not state.unsure)
        outcome = execution_result("t", state, Times())
        assert (outcome.run_result is not None) == bool(state.machine_id)
        assert outcome.success == (outcome.failure is None)
        if outcome.run_result is not None:
            assert outcome.run_result.destroyed == state.destroyed
            assert outcome.success == (outcome.error is None and outcome.run_result.exit_code == 0)


@pytest.mark.parametrize("kind", [FailureKind.DEADLINE, FailureKind.CANCELLED, FailureKind.BUDGET])
def test_a_stop_that_comes_too_late_keeps_the_success(kind: FailureKind) -> None:
    """An agent that ends by itself just when it is told to stop has not failed."""
    state = AttemptState(step=Step.PULL, phase=Phase.AGENT, machine_id="m1")
    state = advance(advance(state, StopAsked(kind, "too late")), CancelSent())
    done = GuestResult(job_id="j", exit_code=0, ended_by="exit", result_line={"type": "result", "result": "ok"})
    state = advance(advance(state, GuestDone(done)), Fetched())
    assert execution_result("t", state, Times()).success


def test_an_agent_without_memory_is_oom() -> None:
    """An agent that the kernel killed for want of memory has a failure of its own kind, which says what helps."""
    done = GuestResult(job_id="j", exit_code=137, ended_by="exit", oom=True)
    state = advance(AttemptState(step=Step.PULL, phase=Phase.AGENT, machine_id="m1"), GuestDone(done))
    outcome = execution_result("t", state, Times())
    assert outcome.failure is not None and outcome.failure.kind is FailureKind.OOM
    assert "vm_memory_mb" in outcome.failure.message and outcome.error is None


def test_work_that_did_not_arrive_is_a_failure() -> None:
    """An agent that succeeded on a machine that was lost before its patch arrived has not succeeded for the caller."""
    done = GuestResult(job_id="j", exit_code=0, ended_by="exit", result_line={"type": "result", "result": "ok"})
    state = AttemptState(step=Step.FETCH, phase=Phase.COLLECT, machine_id="m1", result=done)
    state = advance(state, GaveUp(FailureKind.MACHINE_LOST, "gone"))
    outcome = execution_result("t", state, Times())
    assert not outcome.success
    assert outcome.run_result is not None
    assert outcome.run_result.text == "ok"
    assert outcome.failure is not None
    assert outcome.failure.kind is FailureKind.MACHINE_LOST
    assert outcome.error is not None


def test_a_stop_before_the_patch_arrived_is_no_success() -> None:
    """An agent that came to its own end has still not succeeded for the caller when a stop cost its patch."""
    done = GuestResult(
        job_id="j",
        exit_code=0,
        ended_by="exit",
        result_line={"type": "result", "result": "ok"},
        repos=(GuestRepo(url="u", path="p", patch="x"),),
    )
    state = AttemptState(step=Step.FETCH, phase=Phase.COLLECT, machine_id="m1", result=done)
    outcome = execution_result("t", advance(state, GaveUp(FailureKind.CANCELLED, "enough")), Times())
    assert outcome.failure is not None and outcome.failure.kind is FailureKind.COLLECT
    assert outcome.failure.message == "u: its patch did not arrive" and outcome.error is not None
    assert outcome.run_result is not None and outcome.run_result.text == "ok" and not outcome.success


@pytest.mark.parametrize(("entered", "started"), [("cloning", False), ("ready", True), ("running", True)])
def test_from_ready_on_the_agent_may_have_started(entered: GuestState, started: bool) -> None:
    """From then on a run is not given to another machine unasked."""
    state = advance(AttemptState(step=Step.PULL, phase=Phase.CLONE, machine_id="m1"), GuestEntered(entered))
    assert state.agent_started is started
