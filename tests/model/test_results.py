from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from flaude import (
    Attempt,
    BatchResult,
    ConfigError,
    ExecutionResult,
    Failure,
    FailureKind,
    FlaudeError,
    MachineExitError,
    NoCredentialsError,
    Phase,
    RunFailedError,
    RunResult,
    UnreachableError,
    Usage,
)
from flaude._run.outcome import not_launched

# What the parts of a result may be; pydantic's models tell the rest.
words = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
st.register_type_strategy(datetime, st.datetimes(timezones=st.just(UTC)))
st.register_type_strategy(float, st.floats(min_value=0, max_value=1e9))
st.register_type_strategy(str, words)
st.register_type_strategy(Path, st.from_regex(r"[a-z]{1,5}(/[a-z]{1,5}){0,2}", fullmatch=True).map(Path))
run_results = st.builds(RunResult, structured_output=json_values)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(run_results)
def test_json_in_and_out_without_loss(result: RunResult) -> None:
    """A result that went through JSON, as any JSON parser reads it, is the same result."""
    text = result.model_dump_json()
    assert RunResult.model_validate_json(text) == result
    assert RunResult.model_validate(json.loads(text)) == result


def test_a_result_is_frozen() -> None:
    """Nobody changes what a run has brought."""
    result = RunResult(machine_id="m", exit_code=0, state="destroyed", destroyed=True)
    with pytest.raises(ValidationError):
        result.exit_code = 1  # type: ignore[misc]


def attempt(number: int, **fields: Any) -> Attempt:
    """An attempt that was on a machine."""
    return Attempt(number=number, name=f"m{number}", machine_id=f"id{number}", gone=True, **fields)


def execution(*attempts: Attempt, **fields: Any) -> ExecutionResult:
    """A run of these attempts."""
    run = RunResult(machine_id="m", exit_code=0, state="destroyed", destroyed=True, attempts=attempts, **fields)
    return ExecutionResult(tag="t", run_result=run, attempts=attempts)


def test_a_batch_adds_up_all_attempts() -> None:
    """Costs, machine seconds and their price are those of every attempt: each of them was paid for."""
    twice = execution(
        attempt(1, cost_usd=1.5, machine_seconds=10, machine_cost_usd=0.25),
        attempt(2, cost_usd=0.5, machine_seconds=20, machine_cost_usd=0.5),
        usage=Usage(input_tokens=3),
    )
    once = execution(attempt(1, cost_usd=2, machine_seconds=5, machine_cost_usd=0.125), usage=Usage(input_tokens=4))
    batch = BatchResult(results=[twice, once, not_launched("u", FailureKind.CANCELLED, "no")], seconds=30)
    assert (batch.cost_usd, batch.machine_seconds, batch.machine_cost_usd) == (4.0, 35.0, 0.875)
    assert batch.usage.input_tokens == 7 and batch.unknown_costs == 0
    assert (twice.cost_usd, twice.machine_seconds, twice.machine_cost_usd) == (2.0, 30.0, 0.75)
    assert batch.results[2].cost_usd is None


def test_what_is_not_known_is_not_told_as_nothing() -> None:
    """A machine without a price makes the sum unknown; an agent that did not report its cost is counted."""
    stopped = execution(attempt(1, cost_usd=None, machine_seconds=5, machine_cost_usd=None, agent_started=True))
    never = execution(attempt(1, cost_usd=None))
    told = execution(attempt(1, cost_usd=1, machine_cost_usd=1, agent_started=True))
    batch = BatchResult(results=[stopped, told, never])
    assert batch.machine_cost_usd is None and batch.cost_usd == 1 and batch.unknown_costs == 1


def test_superseded_work_counts() -> None:
    """The tokens of an attempt that was repeated after its agent had begun were used, and are in the sum."""
    again = execution(attempt(2), usage=Usage(output_tokens=5))
    first = RunResult(machine_id="m", exit_code=1, state="destroyed", destroyed=True, usage=Usage(output_tokens=2))
    batch = BatchResult(results=[replace(again, superseded=(first,))])
    assert batch.usage.output_tokens == 7


@pytest.mark.parametrize(
    "error",
    [
        RunFailedError(Failure(kind=FailureKind.IDLE, phase=Phase.AGENT, message="silent")),
        MachineExitError("m", 3, "destroyed", ["line"], reason="why"),
        NoCredentialsError(),
        UnreachableError("no answer", status=502),
        ConfigError("name: no"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_results_with_errors_can_be_copied_and_pickled(error: FlaudeError) -> None:
    """A result goes to another process, or into a copy, with its error and all that this one says."""
    result = ExecutionResult(tag="t", error=error)
    for copied in (copy.deepcopy(result), pickle.loads(pickle.dumps(result))):  # noqa: S301  # our own
        assert type(copied.error) is type(error) and str(copied.error) == str(error)
        assert vars(copied.error) == vars(error) and copied.failure == result.failure


def test_what_was_not_launched_says_why() -> None:
    """A run without a machine has a kind, a phase and a reason."""
    result = not_launched("t", FailureKind.BUDGET, "budget_usd: $5.00 of $5.00 are spent")
    assert isinstance(result.error, RunFailedError) and result.failure is not None
    assert result.failure.kind is FailureKind.BUDGET and "of $5.00" in result.failure.message
