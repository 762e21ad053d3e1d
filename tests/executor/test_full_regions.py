"""No room at Fly, for minutes: who waits, where, for how long, what is said, and what becomes of the others."""

from __future__ import annotations

import logging
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import anyio
import pytest
from tests.conftest import TOKEN, Machines
from tests.scenarios.test_deaths import Controller, Seen
from tests.support.simulated_world import SimulatedFly, VirtualTime, World, run

from flaude import (
    BatchResult,
    ConcurrentExecutor,
    ExecutionRequest,
    FailureKind,
    Interrupted,
    LeaseLostError,
    MachineConfig,
    Retries,
    Timeouts,
)
from flaude._providers.fly import FlyClient
from flaude.events import Creating, Event, Notice, PhaseBegan, Queued, Retried
from flaude.journal import Journal
from flaude.local import Dies, DropAfter, Fault, LocalFly, NoCapacity, Quirks

pytestmark = pytest.mark.timeout(120)

SPEC = {"image": "x", "init": {"exec": ["sleep", "600"]}, "restart": {"policy": "no"}}


def requests(count: int, prompt: str = "::say done", **fields: Any) -> list[ExecutionRequest]:
    """So many requests."""
    return [
        ExecutionRequest(MachineConfig(prompt=prompt, **{"claude_code_oauth_token": TOKEN, **fields}), tag=str(index))
        for index in range(count)
    ]


def bare(count: int, **fields: Any) -> list[ExecutionRequest]:
    """The same whose token is the environment's, for journals."""
    return [ExecutionRequest(MachineConfig(prompt="do it", **fields), tag=str(index)) for index in range(count)]


def kinds(batch: BatchResult) -> list[FailureKind | None]:
    """Why its runs failed, in their order."""
    return [result.failure.kind if result.failure else None for result in batch.results]


def messages(batch: BatchResult) -> list[str]:
    """Likewise, in words."""
    return [result.failure.message for result in batch.results if result.failure]


def notices(seen: Sequence[Event]) -> list[str]:
    """What was said."""
    return [event.text for event in seen if isinstance(event, Notice)]


async def nothing(_what: str) -> None:
    """For a controller to whom nothing happens."""


def executor(
    world: World, journal: Journal | None = None, around: Callable[[str], Awaitable[None]] = nothing, **options: Any
) -> ConcurrentExecutor:
    """One in this world."""
    fly: Any = SimulatedFly(world, around)
    return ConcurrentExecutor("my-app", fly=fly, journal=journal, **{"handle_signals": False, **options})


def test_somebody_elses_machines_fill_the_limit_for_minutes() -> None:
    """A batch of which no machine is there waits, tries again, and goes on when others have freed places."""

    async def test(loop: VirtualTime, world: World, _journal: Journal) -> None:
        world.limit = world.others = 3
        seen = list[Event]()

        async def free() -> None:
            await anyio.sleep(600)
            world.others = 0

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(free)
            batch = await executor(world, on_event=seen.append).run_batch(bare(5))
        assert batch.all_succeeded and [len(result.attempts) for result in batch.results] == [1] * 5
        began = world.asked[0][0]
        assert 8 <= len([at for at, _ in world.asked if at < began + 590]) <= 40, "neither all the time nor hardly ever"
        assert loop.time() - began < 800
        told = notices(seen)
        (text,) = told
        assert "the organisation has reached its machine limit; the runs wait, up to 900 s (timeouts.capacity)" in text
        assert not [event for event in seen if isinstance(event, Retried)]

    run(test)


def test_somebody_elses_machines_stay() -> None:
    """After `timeouts.capacity` the runs fail as `capacity`, one after the other and soon, and say what to do."""

    async def test(loop: VirtualTime, world: World, _journal: Journal) -> None:
        world.limit = world.others = 3
        began = loop.time()
        batch = await executor(world, timeouts=Timeouts(capacity=300)).run_batch(bare(4))
        assert kinds(batch) == [FailureKind.CAPACITY] * 4
        assert all("ask billing@fly.io for a higher limit" in message for message in messages(batch))
        assert "tries in 300 s" in messages(batch)[0] or "tries in 30" in messages(batch)[0]
        assert 300 <= loop.time() - began < 320, "one wait, and not one for each"
        assert [len(result.attempts) for result in batch.results] == [1] * 4, "to wait is what attempts are for"

    run(test)


def test_a_batch_after_a_wait_in_vain() -> None:
    """It waits as long as the one before it did, and says so; what becomes free by then is used."""

    async def test(loop: VirtualTime, world: World, _journal: Journal) -> None:
        world.limit, seen = 0, list[Event]()
        async with executor(world, timeouts=Timeouts(capacity=300), on_event=seen.append) as one:
            assert kinds(await one.run_batch(bare(2))) == [FailureKind.CAPACITY] * 2
            await anyio.sleep(60)
            began = loop.time()
            assert kinds(await one.run_batch(bare(2))) == [FailureKind.CAPACITY] * 2
            assert 300 <= loop.time() - began < 320 and len(notices(seen)) == 2

            async def free() -> None:
                await anyio.sleep(200)
                world.limit = None

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(free)
                assert (await one.run_batch(bare(2))).all_succeeded
        assert len({event.batch for event in seen if isinstance(event, Notice)}) == 3

    run(test)


def test_a_batch_that_comes_while_another_waits() -> None:
    """Each waits for its own time and is told so itself."""

    async def test(loop: VirtualTime, world: World, _journal: Journal) -> None:
        world.limit, seen, ended = 0, list[Event](), list[float]()
        async with executor(world, timeouts=Timeouts(capacity=300), on_event=seen.append) as one:

            async def carry_out(after_s: float) -> None:
                await anyio.sleep(after_s)
                began = loop.time()
                assert kinds(await one.run_batch(bare(3))) == [FailureKind.CAPACITY] * 3
                ended.append(loop.time() - began)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(carry_out, 0)
                tasks.start_soon(carry_out, 200)
        assert len(ended) == 2 and min(ended) >= 300 and max(ended) < 600, ended
        assert len({event.batch for event in seen if isinstance(event, Notice)}) == 2

    run(test)


def test_nobody_waits_where_nobody_shall() -> None:
    """With `capacity=0` a refusal is a failed attempt, and others follow as `Retries` says."""

    async def test(loop: VirtualTime, world: World, _journal: Journal) -> None:
        world.limit, began = 0, loop.time()
        batch = await executor(world, timeouts=Timeouts(capacity=0)).run_batch(bare(2))
        assert kinds(batch) == [FailureKind.CAPACITY] * 2
        assert [len(result.attempts) for result in batch.results] == [3, 3] and loop.time() - began < 10

    run(test)


def test_a_limit_of_three_and_ten_runs() -> None:
    """All succeed, three at a time, and it is said once, as a notice and as a line in the log."""

    async def test(_loop: VirtualTime, world: World, _journal: Journal) -> None:
        world.limit, most, seen = 3, list[int](), list[Event]()

        async def watch(_what: str) -> None:
            most.append(len(world.alive))
            await anyio.sleep(0.2)

        batch = await executor(world, around=watch, on_event=seen.append).run_batch(bare(10))
        assert batch.all_succeeded and max(most) == 3
        assert [len(result.attempts) for result in batch.results] == [1] * 10
        assert len(notices(seen)) == 1
        queued = [event for event in seen if isinstance(event, Queued)]
        assert len(queued) >= 10 + 7, "who waits is queued again"
        last = {event.index: event for event in seen if isinstance(event, PhaseBegan)}
        assert all(not isinstance(event, Queued) for event in last.values())

    run(test)


@pytest.mark.parametrize("lowered_to", [0, 1])
def test_the_limit_is_lowered_in_the_middle(lowered_to: int) -> None:
    """Those that have machines go on; the others wait until places are free again, and lose no attempt."""

    async def test(_loop: VirtualTime, world: World, _journal: Journal) -> None:
        world.limit, seen = 4, list[Event]()

        async def change() -> None:
            await anyio.sleep(3)
            world.limit = lowered_to
            await anyio.sleep(400)
            world.limit = 4

        async def slowly(_what: str) -> None:
            await anyio.sleep(0.5)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(change)
            batch = await executor(world, around=slowly, on_event=seen.append).run_batch(bare(30))
        assert batch.all_succeeded and [len(result.attempts) for result in batch.results] == [1] * 30
        assert len(notices(seen)) == 1

    run(test)


def test_a_region_that_is_full_for_minutes() -> None:
    """The runs wait without machines and go on when there is room; where was tried is said, and no attempt is used."""

    async def test(loop: VirtualTime, world: World, _journal: Journal) -> None:
        world.full_regions, seen = {"iad", "ewr", "ord"}, list[Event]()

        async def free() -> None:
            await anyio.sleep(500)
            world.full_regions = {"iad"}

        began = loop.time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(free)
            batch = await executor(world, on_event=seen.append, retries=0).run_batch(bare(20))
        assert batch.all_succeeded and loop.time() - began < 700
        assert {result.run_result.region for result in batch.results if result.run_result} == {"ewr"}
        assert notices(seen) == [
            "Fly has no room for such a machine in iad, ewr, ord; the runs wait, up to 900 s (timeouts.capacity)"
        ]

    run(test)


def test_a_region_that_stays_full() -> None:
    """The failure says how often and where it was tried; runs for another region are not held up."""

    async def test(loop: VirtualTime, world: World, _journal: Journal) -> None:
        world.full_regions = {"gru"}
        began, ended = loop.time(), dict[str, float]()
        mixed = [*bare(3, region="gru"), *bare(3, region="iad")]

        async with anyio.create_task_group() as tasks:
            results = executor(world, max_concurrency=2, timeouts=Timeouts(capacity=120)).as_completed(
                [replace(request, tag=f"{index}") for index, request in enumerate(mixed)]
            )
            async for result in results:
                ended[result.tag] = loop.time() - began
                if result.failure:
                    assert result.failure.kind is FailureKind.CAPACITY and "in gru" in result.failure.message
            tasks.cancel_scope.cancel()
        assert all(ended[tag] < 8 for tag in "345"), "their place is free while the others wait"
        assert all(120 <= ended[tag] < 140 for tag in "012")

    run(test)


def test_refused_every_third_time() -> None:
    """A provider that is short of room now and then costs time, and no run."""

    async def test(_loop: VirtualTime, world: World, _journal: Journal) -> None:
        creates = 0

        async def short(what: str) -> None:
            nonlocal creates
            if what == "create":
                creates += 1
                world.full = creates % 3 == 0

        batch = await executor(world, around=short, retries=0).run_batch(bare(30))
        assert batch.all_succeeded and len(world.guests) == 30

    run(test)


def test_a_run_that_waits_holds_its_money_and_no_deadlock() -> None:
    """With money for one run at a time they fail one after the other, and not each after a wait of its own."""

    async def test(loop: VirtualTime, world: World, _journal: Journal) -> None:
        world.limit, began = 0, loop.time()
        money: dict[str, Any] = {"budget_usd": 1.0, "timeouts": Timeouts(capacity=200)}
        batch = await executor(world, **money).run_batch(bare(4, max_budget_usd=1.0))
        assert kinds(batch) == [FailureKind.CAPACITY] * 4 and batch.cost_usd == 0
        assert loop.time() - began < 230
        world.limit = None
        batch = await executor(world, **money).run_batch(bare(2, max_budget_usd=0.5))
        assert batch.all_succeeded, "nothing of it is spent"

    run(test)


def test_what_an_agent_has_cost_after_a_wait_is_counted() -> None:
    """A run that has waited is charged what its agent says, as any other."""

    async def test(_loop: VirtualTime, world: World, _journal: Journal) -> None:
        world.full = 2
        batch = await executor(world, budget_usd=1.2, max_concurrency=1).run_batch(bare(4, max_budget_usd=0.5))
        assert kinds(batch) == [None, None, FailureKind.BUDGET, FailureKind.BUDGET]  # each costs 0.50

    run(test)


@pytest.mark.parametrize("count", [1, 2])
def test_cancelled_while_it_waits(count: int) -> None:
    """Who waits is told so at once, as one that was never launched; no machine, and no call, is left."""

    async def test(loop: VirtualTime, world: World, journal: Journal) -> None:
        world.limit, began, batches = 0, loop.time(), list[BatchResult]()
        one = executor(world, journal)

        async def carry_out() -> None:
            batches.append(await one.run_batch(bare(3)))

        with anyio.CancelScope() as scope:

            async def stop() -> None:
                await anyio.sleep(30)
                scope.cancel()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stop)
                for _ in range(count):
                    tasks.start_soon(carry_out)
        assert scope.cancelled_caught and loop.time() - began < 40 and batches == []
        asked = len(world.asked)
        await anyio.sleep(100)
        assert len(world.asked) == asked > 0, "nobody asks any more"
        kept = await journal.batches()
        assert [entry.counts.open for entry in kept] == [3] * count
        world.limit = None
        for entry in kept:
            batch = await executor(world, journal).resume(entry.id)
            assert batch.all_succeeded and [len(result.attempts) for result in batch.results] == [1] * 3

    run(test)


def test_a_controller_dies_while_its_runs_wait() -> None:
    """Who takes the batch up launches them as the first attempt; while they waited they were queued for who looked."""

    async def test(loop: VirtualTime, world: World, journal: Journal) -> None:
        world.limit, world.at_work = 1, True
        dying = Controller()
        first = executor(world, cast("Journal", Seen(journal, dying)), dying.at_fly)

        async def carry_out() -> None:
            with pytest.raises(LeaseLostError):
                await first.run_batch(bare(4))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(carry_out)
            await anyio.sleep(100)
            (kept,) = await journal.batches()
            phases = [str(entry.phase) for entry in await journal.runs(kept.id)]
            assert sorted(phases) == ["agent", "queued", "queued", "queued"]
            dying.dies_at = 0
        world.at_work = False
        loop.passes(60)  # its lease runs out
        world.limit, most = None, list[int]()

        async def watch(_what: str) -> None:
            most.append(len(world.alive))

        batch = await executor(world, journal, watch, max_concurrency=1).resume(kept.id)
        assert batch.all_succeeded and [len(result.attempts) for result in batch.results] == [1] * 4
        assert world.alive == [] and len(world.guests) == 4
        assert max(most) == 1, "who waited has no place yet that would be beyond the cap"

    run(test)


def test_a_detached_batch_leaves_those_that_wait() -> None:
    """`launch` returns when there is no room for more beside its machines; `resume` launches the rest."""

    async def test(loop: VirtualTime, world: World, journal: Journal) -> None:
        world.limit, world.at_work, began = 2, True, loop.time()
        launched = await executor(world, journal).launch(bare(5))
        assert len(world.alive) == 2 and loop.time() - began < 60
        world.at_work = False
        batch = await executor(world, journal).resume(launched.id)
        assert batch.all_succeeded and [len(result.attempts) for result in batch.results] == [1] * 5

    run(test)


def test_a_detached_batch_waits_for_its_first_place() -> None:
    """Without a machine of its own there is nothing yet that works on alone."""

    async def test(_loop: VirtualTime, world: World, journal: Journal) -> None:
        world.limit, world.at_work = 0, True

        async def free() -> None:
            await anyio.sleep(200)
            world.limit = 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(free)
            launched = await executor(world, journal).launch(bare(2))
        assert len(world.alive) == 1 and launched.results == []

    run(test)


# --- with real machines, over a real socket ---


async def test_the_limit_over_a_real_socket(machines: Machines, caplog: pytest.LogCaptureFixture) -> None:
    """Limit 3, ten runs: ten successes, never more than three machines, one notice and one line in the log."""
    seen = list[Event]()
    async with machines(quirks=Quirks(machine_limit=3)) as fly:
        with caplog.at_level(logging.WARNING, "flaude"):
            options: dict[str, Any] = {"retries": 0, "on_event": seen.append, "rate_limits": None}
            batch = await ConcurrentExecutor("my-app", fly=fly, **options).run_batch(requests(10))
        assert batch.all_succeeded, messages(batch)
        assert fly.peak_alive == 3 and fly.requests["create_machine", 422] > 0
    assert len(notices(seen)) == 1 and "machine limit" in notices(seen)[0]
    assert len([record for record in caplog.records if "machine limit" in record.message]) == 1


async def test_stopped_machines_of_another_app_count(machines: Machines) -> None:
    """The limit is the organisation's: what is told is what to do, and nothing of others is touched."""
    async with (
        machines(apps=["my-app", "theirs"], quirks=Quirks(machine_limit=2, young_app_s=0)) as fly,
        FlyClient(base_url=fly.base_url, token=fly.token) as client,
    ):
        theirs = [await client.create_machine("theirs", name=f"m{number}", config=SPEC) for number in range(2)]
        await client.wait_machine("theirs", theirs[0].id, state="started", timeout_s=10)
        await client.stop_machine("theirs", theirs[0].id)
        await client.wait_machine("theirs", theirs[0].id, state="stopped", timeout_s=10)
        batch = await ConcurrentExecutor("my-app", fly=fly, timeouts=Timeouts(capacity=2)).run_batch(requests(2))
        assert kinds(batch) == [FailureKind.CAPACITY] * 2
        assert "billing@fly.io" in messages(batch)[0] and "flaude reap" in messages(batch)[0]
        assert len(fly.created) == 2
        for machine in theirs:
            await client.delete_machine("theirs", machine.id, force=True)
            await client.wait_machine("theirs", machine.id, state="destroyed", timeout_s=10)


async def test_the_first_region_is_full(local: LocalFly) -> None:
    """One create tries all of them: the result has the region that it got, and nobody waits."""
    local.faults.add(Fault("create_machine", NoCapacity(["iad"])))
    seen = list[Event]()
    many = requests(1, region=["iad", "lhr"]) + requests(1, region="iad,fra") + requests(1)
    batch = await ConcurrentExecutor("my-app", fly=local, on_event=seen.append).run_batch(many)
    assert [result.run_result and result.run_result.region for result in batch.results] == ["lhr", "fra", "ewr"]
    assert all(result.machine_cost_usd for result in batch.results), "it has a price"
    assert notices(seen) == [] and local.requests["create_machine", 200] == 3


async def test_all_regions_are_full_for_a_while(local: LocalFly) -> None:
    """The one attempt waits, is queued meanwhile, and gets its machine."""
    local.faults.add(Fault("create_machine", NoCapacity(), times=1))
    seen = list[Event]()
    executor_ = ConcurrentExecutor("my-app", fly=local, on_event=seen.append, retries=0)
    batch = await executor_.run_batch(requests(1, region="lhr,eu"))
    assert batch.all_succeeded and len(batch.results[0].attempts) == 1
    begun = [type(event) for event in seen if isinstance(event, Queued | Creating)]
    assert begun == [Queued, Creating, Queued, Creating]
    assert "in lhr, eu;" in notices(seen)[0]


async def test_the_last_place_was_taken_by_a_create_without_an_answer(machines: Machines) -> None:
    """The limit is reached by the very machine whose create was not answered: the run has it, and uses no other."""
    faults = [Fault("create_machine", DropAfter(), times=1)]
    async with machines(quirks=Quirks(machine_limit=1), faults=faults) as fly:
        batch = await ConcurrentExecutor("my-app", fly=fly, retries=0).run_batch(requests(1))
        assert batch.all_succeeded and len(fly.created) == 1


async def test_interrupted_while_it_waits(local: LocalFly) -> None:
    """Ctrl-C ends a wait of minutes at once, as a run that was not launched."""
    local.faults.add(Fault("create_machine", NoCapacity()))

    def interrupt(event: Event) -> None:
        if isinstance(event, Notice):
            signal.raise_signal(signal.SIGINT)

    with anyio.fail_after(20), pytest.raises(Interrupted) as stopped:
        await ConcurrentExecutor("my-app", fly=local, on_event=interrupt).run_batch(requests(3))
    assert kinds(stopped.value.batch) == [FailureKind.CANCELLED] * 3
    assert any("not launched: stopped by SIGINT" in message for message in messages(stopped.value.batch))
    assert local.created == []


async def test_a_second_attempt_waits_as_the_first(local: LocalFly) -> None:
    """A wait between attempts keeps what the first one was, and its number."""
    local.faults.add(
        Fault("create_machine", Dies(0.0), times=1),
        Fault("create_machine", NoCapacity(), times=1),
    )
    again = Retries(more=1, wait=0.1, after_start=True)
    batch = await ConcurrentExecutor("my-app", fly=local, retries=again).run_batch(requests(1))
    assert batch.all_succeeded
    numbers = [(attempt.number, attempt.failure and attempt.failure.kind) for attempt in batch.results[0].attempts]
    assert [number for number, _ in numbers] == [1, 2] and numbers[1][1] is None
