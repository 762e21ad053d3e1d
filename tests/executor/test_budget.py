"""What a batch may cost: no launch that does not fit, and the sums add up."""

from __future__ import annotations

from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import TOKEN
from tests.support.clock import Clock

from flaude import (
    ConcurrentExecutor,
    ConfigError,
    ExecutionRequest,
    Failure,
    FailureKind,
    MachineConfig,
    Retries,
    Timeouts,
)
from flaude._executor.budget import Budget, dollars
from flaude._run.shutdown import Shutdown, Stage
from flaude.events import AssistantText, Created, Creating, Event, Finished
from flaude.local import Answer, Fault, LocalFly


def request(tag: str, prompt: str, budget: float | None = 1.0, **fields: Any) -> ExecutionRequest:
    """A request that may cost so much."""
    config = MachineConfig(claude_code_oauth_token=TOKEN, prompt=prompt, max_budget_usd=budget, **fields)
    return ExecutionRequest(config, tag=tag)


async def test_a_launch_that_does_not_fit_waits_for_what_others_leave(local: LocalFly) -> None:
    """Each launch reserves what its run may cost; what it did not use is free again when it is over."""
    under_way = most = 0

    def watch(event: Event) -> None:
        nonlocal under_way, most
        if isinstance(event, Creating):
            under_way += 1
            most = max(most, under_way)

    requests = [request(str(index), "::cost 0.1\n::say done") for index in range(4)]
    executor = ConcurrentExecutor("my-app", fly=local, budget_usd=2.0, on_event=watch)
    async for _ in executor.as_completed(requests):
        under_way -= 1
    assert most == 2, "two fit at once"
    assert len(local.created) == 4


async def test_what_does_not_fit_ends_as_budget(local: LocalFly) -> None:
    """When nothing is left to wait for, the rest is not launched, and says at what sum the batch stood."""
    requests = [request(str(index), "::cost 0.9\n::say done") for index in range(3)]
    batch = await ConcurrentExecutor("my-app", fly=local, budget_usd=2.0).run_batch(requests)
    first, second, third = batch.results
    assert first.success and second.success
    assert third.failure is not None and third.failure.kind is FailureKind.BUDGET
    assert "$1.80 of $2.00 are spent, and this run may cost $1.00" in third.failure.message
    assert batch.stopped_by == "budget_usd: $1.80 of $2.00 are spent"
    assert len(local.created) == 2 and batch.cost_usd == pytest.approx(1.8)


async def test_an_attempt_that_the_budget_refuses_is_told(local: LocalFly) -> None:
    """A run that is not tried again for want of money says so beside what its last attempt failed with."""
    no_room = Fault("create_machine", Answer(409, "aborted: no capacity"), times=1)
    local.faults.add(no_room)
    requests = [request(str(index), "::cost 0.9\n::say done") for index in range(2)]
    executor = ConcurrentExecutor(
        "my-app",
        fly=local,
        budget_usd=1.5,
        max_concurrency=1,
        retries=Retries(more=1, wait=1),
        timeouts=Timeouts(capacity=0),
    )
    batch = await executor.run_batch(requests)
    failed = next(result for result in batch.results if not result.success)
    assert failed.failure is not None and failed.failure.kind is FailureKind.CAPACITY
    assert "not tried again: budget_usd: $0.90 of $1.50 are spent" in failed.failure.message
    assert str(failed.error).endswith("may cost $1.00")


@pytest.mark.parametrize(("usd", "told"), [("2", "$2.00"), ("0.1", "$0.10"), ("0.0042", "$0.0042"), ("100", "$100.00")])
def test_dollars_are_told_as_they_are(usd: str, told: str) -> None:
    """Small amounts are not told as nothing."""
    assert dollars(Decimal(usd)) == told


async def test_an_unknown_cost_counts_as_all_of_it(local: LocalFly) -> None:
    """An agent that ended without saying what it did cost may have used up its reservation."""
    requests = [request("killed", "::exit 3"), request("after", "::say done")]
    batch = await ConcurrentExecutor("my-app", fly=local, budget_usd=1.5).run_batch(requests)
    assert batch.results[0].cost_usd is None and batch.unknown_costs == 1
    assert batch.results[1].failure is not None and batch.results[1].failure.kind is FailureKind.BUDGET


async def test_a_run_without_an_agent_costs_nothing(local: LocalFly) -> None:
    """A run that failed before its agent began gives its reservation back."""
    requests = [request("no clone", "::say x", repos=["file:///nowhere/at-all"]), request("after", "::say done")]
    batch = await ConcurrentExecutor("my-app", fly=local, budget_usd=1.0).run_batch(requests)
    assert batch.results[0].failure is not None and batch.results[0].failure.kind is FailureKind.CLONE
    assert batch.results[1].success


async def test_a_budget_of_the_batch_needs_one_of_each_run(local: LocalFly) -> None:
    """A request that does not say what it may cost is refused before anything is launched, by its place."""
    executor = ConcurrentExecutor("my-app", fly=local, budget_usd=1.0)
    with pytest.raises(ConfigError, match=r"requests\[1\]\.config\.max_budget_usd: missing"):
        await executor.run_batch([request("a", "x"), request("b", "x", None)])
    assert local.created == []


@pytest.mark.parametrize("name", ["budget_usd", "max_machine_seconds"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "5", True])
def test_odd_budgets_are_refused(name: str, value: Any) -> None:
    """A budget is a number above 0; the error names the argument."""
    with pytest.raises(ConfigError, match=name):
        ConcurrentExecutor("my-app", **{name: value})


async def test_machine_seconds_stop_the_agents_and_keep_their_work(
    local: LocalFly, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When all machines together have been there long enough, agents are stopped, and their work comes back."""
    clock = Clock(monkeypatch)

    def watch(event: Event) -> None:
        if isinstance(event, AssistantText):
            clock.put_forward(1000)

    working = request("works", "::write half.txt done so far\n::say half\n::silent", None, repos=[f"file://{repo}"])
    waiting = request("waits", "::say x", None)
    executor = ConcurrentExecutor(
        "my-app",
        fly=local,
        max_concurrency=1,
        max_machine_seconds=1000,
        timeouts=Timeouts(grace=1),
        on_event=watch,
    )
    batch = await executor.run_batch([working, waiting])
    works, waits = batch.results
    assert works.failure is not None and works.failure.kind is FailureKind.BUDGET
    assert works.run_result is not None
    assert [change.path for change in works.run_result.patches[0].changes] == ["half.txt"]
    assert waits.failure is not None and waits.failure.kind is FailureKind.BUDGET
    assert "of 1000 machine seconds are used" in works.failure.message
    assert batch.stopped_by.startswith("max_machine_seconds: ")
    assert batch.machine_seconds >= 1000 and len(local.created) == 1


async def test_a_batch_within_its_machine_seconds_ends_with_its_runs(local: LocalFly) -> None:
    """A limit that is not reached changes nothing: nobody is stopped, and nobody waits for it."""
    local.faults.add(Fault("create_machine", Answer(422, "no")))
    executor = ConcurrentExecutor("my-app", fly=local, max_machine_seconds=1000)
    batch = await executor.run_batch([request("refused", "::say x", None)])
    assert batch.results[0].failure is not None and batch.results[0].failure.kind is FailureKind.CREATE_REFUSED
    assert batch.stopped_by == "" and batch.machine_seconds == 0


async def test_who_waits_for_the_budget_of_a_batch_that_is_stopped(local: LocalFly) -> None:
    """A run that still waited for its part of the budget says what stopped it, and not that there was no money."""
    failures: dict[str, Failure | None] = {}

    def watch(event: Event) -> None:
        if isinstance(event, Created):
            tasks.cancel_scope.cancel()
        if isinstance(event, Finished):
            failures[event.tag] = event.result.failure

    executor = ConcurrentExecutor("my-app", fly=local, budget_usd=1.0, on_event=watch)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(executor.run_batch, [request("first", "::silent"), request("waits", "::silent")])
    waited = failures["waits"]
    assert waited is not None and waited.kind is FailureKind.CANCELLED
    assert waited.message == "not launched: the batch was cancelled" and len(local.created) == 1


async def test_who_waits_for_the_budget_hears_of_a_stop() -> None:
    """A run that waits for its part is let go when launching stops, and keeps nobody behind it waiting."""
    budget, shutdown, calm = Budget(1.0), Shutdown(), Shutdown()
    async with AsyncExitStack() as stack, anyio.create_task_group() as tasks:
        first = await stack.enter_async_context(budget.reserve(0.7, calm))
        granted: list[bool] = []

        async def ask(usd: float, whose: Shutdown) -> None:
            async with budget.reserve(usd, whose) as reservation:
                granted.append(reservation.granted)

        tasks.start_soon(ask, 0.5, shutdown)
        tasks.start_soon(ask, 0.3, calm)
        for _ in range(5):
            await checkpoint()
        assert granted == [], "the second waits behind the first: in their order"
        shutdown.ask(Stage.LAUNCHES, "enough")
    assert first.granted and granted == [False, True]


async def test_dollars_are_counted_as_they_are_written() -> None:
    """Ten times 0.1 is 1."""
    budget = Budget(1.0)
    with anyio.fail_after(5):
        async with AsyncExitStack() as stack:
            parts = [await stack.enter_async_context(budget.reserve(0.1, Shutdown())) for _ in range(10)]
    assert all(part.granted for part in parts) and budget.told == "budget_usd: $1.00 of $1.00 are spent"


cents = st.integers(1, 60).map(lambda number: number / 100)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(cents, st.sampled_from(["all", "half", "none", "unknown"])), max_size=12), cents)
async def test_the_sum_never_passes_the_budget(runs: list[tuple[float, str]], usd: float) -> None:
    """Whatever runs cost up to their own budgets, and in whatever order they end, the sum stays within the batch's."""
    budget, shutdown = Budget(usd), Shutdown()
    reserved = spent = 0.0

    async def run(may_cost: float, does: str) -> None:
        nonlocal reserved, spent
        async with budget.reserve(may_cost, shutdown) as reservation:
            if not reservation.granted:
                return
            reserved += may_cost
            assert spent + reserved <= usd + 1e-9
            await checkpoint()
            cost = {"all": may_cost, "half": may_cost / 2, "none": 0.0}.get(does)
            reservation.charge(cost, agent_started=True)
            reserved -= may_cost
            spent += may_cost if cost is None else cost

    async with anyio.create_task_group() as tasks:
        for may_cost, does in runs:
            tasks.start_soon(run, may_cost, does)
    assert spent <= usd + 1e-9
