"""When runs get their places: the cap, the slow-down, the pause, the breaker."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import anyio
import pytest
from anyio.lowlevel import checkpoint
from tests.conftest import TOKEN
from tests.support.clock import LimitClock

from flaude import (
    BatchResult,
    ConcurrentExecutor,
    ExecutionRequest,
    FailureKind,
    MachineConfig,
    Phase,
    Retries,
    Timeouts,
)
from flaude._executor.admission import AdmissionControl, CircuitBreaker
from flaude._model.errors import MachineLimitError, NoCapacityError
from flaude._run.shutdown import Shutdown, Stage
from flaude.events import Event, Notice, PhaseBegan, RateLimited
from flaude.local import Answer, Fault, LocalFly


async def held(stack: AsyncExitStack, admission: AdmissionControl, shutdown: Shutdown | None = None) -> int | None:
    """A place that is kept until the stack is left."""
    return await stack.enter_async_context(admission.place(shutdown or Shutdown()))


async def would_wait(admission: AdmissionControl, where: str = "") -> bool:
    """Whether no place is free now."""
    got = False

    async def try_() -> None:
        nonlocal got
        async with admission.place(Shutdown(), where=where) as number:
            got = number is not None

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(try_)
        for _ in range(5):
            await checkpoint()
        tasks.cancel_scope.cancel()
    return not got


async def holding(admission: AdmissionControl, count: int, then: Callable[[list[int]], object]) -> None:
    """Call `then` with the numbers of `count` launches while they are under way (a place belongs to a task)."""
    numbers: list[int] = []
    all_there, over = anyio.Event(), anyio.Event()

    async def hold() -> None:
        async with admission.place(Shutdown()) as number:
            assert number is not None
            numbers.append(number)
            if len(numbers) == count:
                all_there.set()
            await over.wait()

    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(hold)
        await all_there.wait()
        then(numbers)
        over.set()


async def test_limits_halve_the_launches_and_successes_bring_them_back() -> None:
    """A run at the account's limit halves how many go on at once; every success allows one more, up to the cap."""
    admission = AdmissionControl(8)

    def all_meet_the_wall(numbers: list[int]) -> None:
        for number in numbers:
            admission.failed(number, FailureKind.OVERLOADED, lifted_at=None)

    await holding(admission, 8, all_meet_the_wall)
    assert admission.allowed == 4, "eight that failed together are one wall, not eight"
    await holding(admission, 4, all_meet_the_wall)
    assert admission.allowed == 2
    for _ in range(10):
        admission.succeeded()
    assert admission.allowed == 8


async def test_those_that_meet_the_wall_one_by_one_are_one_wall() -> None:
    """Runs that were under way together and fail one after the other halve once."""
    admission = AdmissionControl(8)
    under_way, go = 0, anyio.Event()

    async def meet_the_wall() -> None:
        nonlocal under_way
        async with admission.place(Shutdown()) as number:
            under_way += 1
            if under_way == 8:
                go.set()
            await go.wait()
            assert number is not None
            admission.failed(number, FailureKind.OVERLOADED, lifted_at=None)

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(meet_the_wall)
    assert admission.allowed == 4


async def test_without_a_cap_half_of_what_runs_is_the_cap() -> None:
    """Where there was no limit, there is one after the first run at the account's limit; never less than one."""
    admission = AdmissionControl(None)
    assert admission.allowed == math.inf
    await holding(admission, 6, lambda numbers: admission.failed(numbers[0], FailureKind.USAGE_LIMIT, lifted_at=None))
    assert admission.allowed == 3
    for _ in range(5):
        await holding(
            admission, 1, lambda numbers: admission.failed(numbers[0], FailureKind.OVERLOADED, lifted_at=None)
        )
    assert admission.allowed == 1


async def test_other_failures_change_nothing() -> None:
    """A run that failed for its own reasons does not slow the others."""
    admission = AdmissionControl(4)
    assert admission.failed(1, FailureKind.AGENT_ERROR, lifted_at=time.time() + 60) == ""
    assert admission.allowed == 4
    assert not await would_wait(admission)


async def test_nobody_is_launched_before_the_limit_is_lifted() -> None:
    """With a reset time nobody gets a place until then, and it is said; the last time said counts."""
    now = [1_000.0]
    admission = AdmissionControl(4, clock=lambda: now[0])
    async with AsyncExitStack() as stack:
        number = await held(stack, admission)
        assert number is not None
        assert "1970-01-01 00:20:00 UTC" in admission.failed(number, FailureKind.USAGE_LIMIT, lifted_at=1_200.0)
        assert admission.failed(number, FailureKind.USAGE_LIMIT, lifted_at=1_100.0) == "", "sooner is no news"
    assert await would_wait(admission)
    now[0] = 1_200.0
    assert not await would_wait(admission)


async def launched_too_early(admission: AdmissionControl) -> None:
    """Wait for a place with an account that is at its limit."""
    async with admission.place(Shutdown(), 7):
        pytest.fail("launched before the limit is lifted")


async def test_a_pause_is_its_accounts_own() -> None:
    """Who pays with another account is launched, and no place is held by those that wait."""
    admission = AdmissionControl(1, clock=lambda: 1_000.0)
    async with anyio.create_task_group() as tasks:
        admission.failed(1, FailureKind.USAGE_LIMIT, lifted_at=1_200.0, account=7)
        tasks.start_soon(launched_too_early, admission)
        assert not await would_wait(admission)
        tasks.cancel_scope.cancel()


async def test_a_place_that_came_in_a_pause_is_given_back() -> None:
    """Who waits for a place while the pause begins waits it out outside."""
    admission = AdmissionControl(1, clock=lambda: 1_000.0)
    async with anyio.create_task_group() as tasks:
        async with admission.place(Shutdown(), 7) as number:
            assert number is not None
            tasks.start_soon(launched_too_early, admission)
            assert await would_wait(admission)
            admission.failed(number, FailureKind.USAGE_LIMIT, lifted_at=1_200.0, account=7)
        assert not await would_wait(admission)
        tasks.cancel_scope.cancel()


async def test_a_time_beyond_all_limits_is_not_believed() -> None:
    """The agent's own output says when its limit is lifted: no more than a week and a day ahead."""
    admission = AdmissionControl(4, clock=lambda: 1_000.0)
    async with AsyncExitStack() as stack:
        number = await held(stack, admission)
        assert number is not None
        told = admission.failed(number, FailureKind.USAGE_LIMIT, lifted_at=1_000.0 + 9 * 24 * 3600)
    assert "no launches before" not in told
    assert not await would_wait(admission)


async def test_a_pause_ends_when_the_batch_stops() -> None:
    """Who waits for a place is sent away when launching stops, and leaves none taken."""
    admission = AdmissionControl(1)
    admission.failed(1, FailureKind.USAGE_LIMIT, lifted_at=time.time() + 3600)
    shutdown = Shutdown()
    shutdown.ask(Stage.LAUNCHES, "enough")
    async with admission.place(shutdown) as number:
        assert number is None


@pytest.mark.parametrize(
    ("kinds", "trips"),
    [
        ([FailureKind.AUTH] * 3, True),
        ([FailureKind.AUTH] * 2, False),
        ([FailureKind.AUTH, FailureKind.AUTH, None, FailureKind.AUTH], False),
        ([FailureKind.AUTH, FailureKind.CLONE, FailureKind.AUTH, FailureKind.AUTH], True),
        ([FailureKind.AUTH, FailureKind.AUTH, FailureKind.MAX_TURNS, FailureKind.AUTH], False),
    ],
)
def test_the_breaker_counts_in_a_row(kinds: list[FailureKind | None], trips: bool) -> None:
    """Only failures to authenticate count, and only what shows working credentials ends the row."""
    shutdown = Shutdown()
    breaker = CircuitBreaker(shutdown, 3)
    for kind in kinds:
        breaker.ended(kind)
    assert (shutdown.stage is Stage.LAUNCHES) == trips
    never = Shutdown()
    for kind in kinds:
        CircuitBreaker(never, 0).ended(kind)
    assert never.stage is Stage.NOTHING


def requests(prompts: list[str]) -> list[ExecutionRequest]:
    """One request a prompt, tagged by its place."""
    return [
        ExecutionRequest(MachineConfig(claude_code_oauth_token=TOKEN, prompt=prompt), tag=str(index))
        for index, prompt in enumerate(prompts)
    ]


async def test_auth_failures_stop_the_batch(local: LocalFly) -> None:
    """Wrong credentials cost a few runs and not the whole batch; the rest says why it was not launched."""
    executor = ConcurrentExecutor("my-app", fly=local, max_concurrency=1, max_auth_failures=2)
    batch = await executor.run_batch(requests(["::api-error 401 Failed to authenticate"] * 5))
    kinds = [result.failure.kind for result in batch.results if result.failure]
    assert kinds == [FailureKind.AUTH] * 2 + [FailureKind.CANCELLED] * 3
    assert batch.results[4].failure is not None
    assert "2 runs in a row failed to authenticate" in batch.results[4].failure.message
    assert len(local.created) == 2


class Creations:
    """Handler of a batch's events: the machines it creates, and until when its agents are at a limit.

    Args:
        clock: By which they are created.
        expected: How many there will be before the limit is lifted.
    """

    def __init__(self, clock: LimitClock, expected: int = 1) -> None:
        self._clock = clock
        self._expected = expected
        self.tags: list[str] = []
        self.at: list[float] = []
        self.lifted_at: list[float] = []
        self.paused, self.complete = anyio.Event(), anyio.Event()

    def __call__(self, event: Event) -> None:
        """Hear one."""
        if isinstance(event, RateLimited) and event.resets_at is not None:
            self.lifted_at.append(event.resets_at.timestamp())
        if isinstance(event, Notice) and "no launches before" in event.text:
            self.paused.set()
        if isinstance(event, PhaseBegan) and event.phase is Phase.CREATE:
            self.tags.append(event.tag)
            self.at.append(self._clock())
            if len(self.tags) == self._expected:
                self.complete.set()

    async def until_lifted(self, executor: ConcurrentExecutor, requests: list[ExecutionRequest]) -> BatchResult:
        """What they come to: an hour passes when the pause was told, the machines are there, and somebody waits."""
        batches: list[BatchResult] = []

        async def run() -> None:
            batches.append(await executor.run_batch(requests))

        with anyio.fail_after(40):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run)
                await self.paused.wait()
                await self.complete.wait()
                await self._clock.is_looked_at(20)
                assert len(self.tags) == self._expected and not batches
                self._clock.put_forward(3600)
        return batches[0]


async def test_a_further_attempt_waits_for_the_reset_too(local: LocalFly, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is tried again after a usage limit is not tried before the limit is lifted."""
    created = Creations(LimitClock(monkeypatch))
    again = Retries(more=1, kinds={FailureKind.USAGE_LIMIT}, after_start=True, wait=0.1)
    executor = ConcurrentExecutor("my-app", fly=local, on_event=created, retries=again)
    batch = await created.until_lifted(executor, requests(["::usage-limit 3600"]))
    assert len(batch.results[0].attempts) == 2
    assert created.at[1] >= created.lifted_at[0]


async def test_a_usage_limit_pauses_the_batch_until_its_reset(local: LocalFly, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a usage limit with a reset time no machine is made until then, the pause is told, then it goes on."""
    created = Creations(LimitClock(monkeypatch))
    executor = ConcurrentExecutor("my-app", fly=local, max_concurrency=1, on_event=created)
    batch = await created.until_lifted(executor, requests(["::usage-limit 3600", "::say hello"]))
    limited, good = batch.results
    assert limited.failure is not None and limited.failure.kind is FailureKind.USAGE_LIMIT
    assert limited.failure.retryable and len(limited.attempts) == 1, "an agent that has started is not retried unasked"
    assert good.success
    assert created.tags == ["0", "1"] and created.at[1] >= created.lifted_at[0]


@pytest.mark.parametrize(
    "kind", [FailureKind.MAX_TURNS, FailureKind.BUDGET, FailureKind.USAGE_LIMIT, FailureKind.OVERLOADED]
)
def test_what_working_credentials_come_to_ends_the_row(kind: FailureKind) -> None:
    """An agent that got so far has been let in."""
    shutdown = Shutdown()
    breaker = CircuitBreaker(shutdown, 2)
    for one in (FailureKind.AUTH, kind, FailureKind.AUTH):
        breaker.ended(one)
    assert shutdown.stage is Stage.NOTHING


async def test_no_further_attempt_once_launching_has_stopped(local: LocalFly) -> None:
    """A run that waits for its next attempt gets none any more."""
    local.faults.add(Fault("create_machine", Answer(409, "aborted: no capacity"), times=1))
    executor = ConcurrentExecutor(
        "my-app", fly=local, max_auth_failures=1, retries=Retries(wait=30), timeouts=Timeouts(capacity=0)
    )
    batch = await executor.run_batch(requests(["::api-error 401 Failed to authenticate"] * 2))
    kinds = {result.failure.kind for result in batch.results if result.failure}
    assert kinds == {FailureKind.AUTH, FailureKind.CAPACITY}
    assert len(local.created) == 1
    assert all(len(result.attempts) == 1 for result in batch.results)


async def test_a_run_that_waits_for_its_reset_holds_no_place(local: LocalFly, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a run waits for its next attempt, one of another account uses the place."""
    created = Creations(LimitClock(monkeypatch), expected=2)
    again = Retries(more=1, kinds={FailureKind.USAGE_LIMIT}, after_start=True, wait=0.1)
    executor = ConcurrentExecutor("my-app", fly=local, max_concurrency=1, on_event=created, retries=again)
    other = MachineConfig(claude_code_oauth_token="another", prompt="::say hello")
    batch = await created.until_lifted(
        executor, [*requests(["::usage-limit 3600"]), ExecutionRequest(other, tag="other")]
    )
    assert created.tags == ["0", "other", "0"]
    assert batch.results[1].success and len(batch.results[0].attempts) == 2


async def test_no_room_in_one_place_is_room_in_another() -> None:
    """Who wants another region is launched, also in the place that a refused one has left; a limit is for all."""
    admission = AdmissionControl(1)
    full = NoCapacityError("full")
    async with admission.place(Shutdown(), where="fra") as number:
        assert number is not None
        admission.refused(number, full)
    assert await would_wait(admission, where="fra")
    assert not await would_wait(admission, where="iad")
    async with admission.place(Shutdown(), where="iad") as number:
        assert number is not None
        admission.refused(number, MachineLimitError("limit"))
    assert await would_wait(admission, where="ord")


async def test_who_waits_longest_is_launched_first() -> None:
    """Places go by the order of asking, over all accounts and regions, but for those that may have none now."""
    admission, order = AdmissionControl(1), list[str]()

    async def launch(who: str, where: str) -> None:
        async with admission.place(Shutdown(), where=where) as number:
            order.append(who)
            if where == "full":
                assert number is not None
                admission.refused(number, NoCapacityError("full"))

    async with anyio.create_task_group() as tasks:
        async with admission.place(Shutdown()):
            for who, where in (("a", "x"), ("b", "full"), ("c", "y"), ("d", "full"), ("e", "x")):
                tasks.start_soon(launch, who, where)
                await checkpoint()
                await checkpoint()
        with anyio.fail_after(20):
            while len(order) < 5:
                await checkpoint()
    assert order == ["a", "b", "c", "e", "d"]


async def test_a_place_that_nobody_took_is_given_on() -> None:
    """Who is stopped while it waits leaves the others their turn, at the head of the line or not."""
    admission, got = AdmissionControl(1), list[str]()

    async def launch(who: str, shutdown: Shutdown) -> None:
        async with admission.place(shutdown) as number:
            if number is not None:
                got.append(who)

    stoppings = {who: Shutdown() for who in "abcd"}
    async with anyio.create_task_group() as tasks, admission.place(Shutdown()):
        for who, shutdown in stoppings.items():
            tasks.start_soon(launch, who, shutdown)
            await checkpoint()
            await checkpoint()
        for who in "ac":
            stoppings[who].ask(Stage.LAUNCHES, "enough")
        await checkpoint()
    assert got == ["b", "d"]


async def test_the_next_one_looks_at_the_time() -> None:
    """When the first in the line has gone, the one after it sees that there may be room again."""
    admission, got, first = AdmissionControl(None), anyio.Event(), Shutdown()

    async def launch(shutdown: Shutdown) -> None:
        async with admission.place(shutdown) as number:
            if number is not None:
                got.set()

    async with admission.place(Shutdown()) as number:
        assert number is not None
        admission.refused(number, NoCapacityError("full"))
    async with anyio.create_task_group() as tasks:
        for shutdown in (first, Shutdown()):
            tasks.start_soon(launch, shutdown)
            await checkpoint()
            await checkpoint()
        assert not got.is_set()
        first.ask(Stage.LAUNCHES, "enough")
        with anyio.fail_after(20):
            await got.wait()
