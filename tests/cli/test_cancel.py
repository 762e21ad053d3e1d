"""Cancelling a batch, once and twice, and the signals of one process with several batches."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint
from tests.conftest import TOKEN

from flaude import (
    BatchResult,
    ConcurrentExecutor,
    ExecutionRequest,
    ExecutionResult,
    FailureKind,
    Interrupted,
    MachineConfig,
    Phase,
    Terminated,
    Timeouts,
)
from flaude._executor.signals import Member, heeding
from flaude._guest.messages import GuestFile, GuestRepo, GuestResult
from flaude._guest.program import prepare
from flaude._model.placement import Shards
from flaude._providers.fly import FlyClient
from flaude._run.driver import AttemptDriver
from flaude._run.plan import AttemptPlan
from flaude._run.shutdown import Shutdown, Stage
from flaude._run.state import AttemptState, Step
from flaude.events import AssistantText, Event, Finished, Output
from flaude.events.emitter import EventSink
from flaude.local import Answer, Fault, Hang, Hook, LocalFly

WRITES = "::write part.txt 1\n::say begun\n::silent"
STUBBORN = "::write part.txt 1\n::ignore-signals\n::say begun\n::silent"


class Batch:
    """A batch of one that goes on until it is stopped."""

    def __init__(self, fly: LocalFly, repo: Path, prompt: str, grace: float) -> None:
        self.fly = fly
        self.results: list[ExecutionResult] = []
        self.begun = anyio.Event()
        self.at_its_beginning: Callable[[], None] = lambda: None
        self.executor = ConcurrentExecutor(
            "my-app", fly=fly, on_event=self._watch, timeouts=Timeouts(grace=grace, collect=10)
        )
        config = MachineConfig(claude_code_oauth_token=TOKEN, prompt=prompt, repos=[f"file://{repo}"])
        self.requests = [ExecutionRequest(config)]

    def _watch(self, event: Event) -> None:
        if isinstance(event, AssistantText) and not self.begun.is_set():
            self.begun.set()
            self.at_its_beginning()
        if isinstance(event, Finished):
            self.results.append(event.result)

    async def asked_to_stop(self) -> None:
        """Return when the guest has been told to end its agent."""
        before = self.fly.requests["exec_machine", 200]
        while self.fly.requests["exec_machine", 200] <= before:
            await checkpoint()

    @property
    def changed(self) -> list[str]:
        """What came back of the agent's work."""
        (result,) = self.results
        assert result.failure is not None and result.failure.kind is FailureKind.CANCELLED
        assert all(attempt.gone for attempt in result.attempts)
        patches = result.run_result.patches if result.run_result else ()
        return [change.path for patch in patches for change in patch.changes]


async def test_cancelled_once_the_work_comes_back(local: LocalFly, repo: Path) -> None:
    """A task that is cancelled raises when the work is collected and the machine is gone, and is cancelled then."""
    batch = Batch(local, repo, WRITES, grace=1)
    task = asyncio.ensure_future(batch.executor.run_batch(batch.requests))
    await batch.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert batch.changed == ["part.txt"] and local.alive == 0


async def test_cancelled_twice_the_machine_is_gone_at_once(local: LocalFly, repo: Path) -> None:
    """A second cancellation ends the collecting, and nothing else: the machine is still seen to its end."""
    batch = Batch(local, repo, STUBBORN, grace=3000)
    task = asyncio.ensure_future(batch.executor.run_batch(batch.requests))
    await batch.begun.wait()
    task.cancel()
    await batch.asked_to_stop()
    task.cancel()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert batch.changed == [] and local.alive == 0


async def test_a_stream_that_is_cancelled_twice(local: LocalFly, repo: Path) -> None:
    """The same for `as_completed`, whose work is done by a task of its own."""
    batch = Batch(local, repo, STUBBORN, grace=3000)

    async def consume() -> None:
        async for _ in batch.executor.as_completed(batch.requests):
            pass

    task = asyncio.ensure_future(consume())
    await batch.begun.wait()
    task.cancel()
    await batch.asked_to_stop()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert batch.changed == [] and local.alive == 0


async def test_a_deadline_of_the_callers(local: LocalFly, repo: Path) -> None:
    """Asyncio's and anyio's own deadlines around a batch end it in order, and end as what they are."""
    loop = asyncio.get_running_loop()
    batch = Batch(local, repo, WRITES, grace=1)
    with pytest.raises(TimeoutError):  # noqa: PT012
        async with asyncio.timeout(None) as deadline:
            batch.at_its_beginning = lambda: deadline.reschedule(loop.time())
            await batch.executor.run_batch(batch.requests)
    assert batch.changed == ["part.txt"] and local.alive == 0
    batch = Batch(local, repo, WRITES, grace=1)
    with anyio.CancelScope() as scope:

        def is_over() -> None:
            scope.deadline = anyio.current_time()

        batch.at_its_beginning = is_over
        await batch.executor.run_batch(batch.requests)
    assert scope.cancelled_caught
    assert batch.changed == ["part.txt"] and local.alive == 0


async def test_all_batches_of_a_program_hear_a_signal() -> None:
    """One signal stops every batch, none is left before all are over, and the handlers are as before."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    one, two = Member(Shutdown(), lambda: BatchResult([]), str), Member(Shutdown(), lambda: BatchResult([]), str)
    left: list[str] = []
    go = anyio.Event()

    async def first() -> None:
        async with heeding(one):
            signal.raise_signal(signal.SIGTERM)
            while one.received is None:
                await checkpoint()
        left.append("one")

    async def second() -> None:
        async with heeding(two):
            await go.wait()
            left.append("two")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(second)
        tasks.start_soon(first)
        while two.received is None:
            await checkpoint()
        assert (one.shutdown.stage, two.shutdown.stage) == (Stage.AGENTS, Stage.AGENTS)
        assert "SIGTERM" in one.shutdown.reason
        for _ in range(10):
            await checkpoint()
        assert left == [], "the first one has left before the second was over"
        go.set()
    assert left == ["two", "one"]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


async def test_a_batch_that_comes_after_the_signal_stops_too() -> None:
    """One that begins while others are being stopped does not keep them: it is told what they were told."""
    early, late = Member(Shutdown(), lambda: BatchResult([]), str), Member(Shutdown(), lambda: BatchResult([]), str)
    begun = anyio.Event()

    async def begin_late() -> None:
        await begun.wait()
        async with heeding(late):
            pass

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(begin_late)
        async with heeding(early):
            signal.raise_signal(signal.SIGINT)
            while early.received is None:
                await checkpoint()
            begun.set()
            while late.received is None:
                await checkpoint()
    assert late.shutdown.stage is Stage.AGENTS and "SIGINT" in late.shutdown.reason
    assert isinstance(early.ending, Interrupted) and isinstance(late.ending, Interrupted)
    assert len(early.ending.batches) == 2


async def test_a_programs_own_handlers_stay() -> None:
    """Signals that the program handles itself are left to it."""
    heard: list[int] = []

    def own(number: int, _frame: Any) -> None:
        heard.append(number)

    before = signal.signal(signal.SIGTERM, own)
    try:
        member = Member(Shutdown(), lambda: BatchResult([]), str)
        async with heeding(member):
            signal.raise_signal(signal.SIGTERM)
            await checkpoint()
        assert heard == [signal.SIGTERM]
        assert member.received is None
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


def test_stages_only_go_up() -> None:
    """A stage that has been reached stays, and so does its reason; each `next` is the next one."""
    shutdown = Shutdown()
    shutdown.ask(Stage.LAUNCHES, "a")
    shutdown.ask(Stage.NOTHING, "b")
    assert (shutdown.stage, shutdown.reason) == (Stage.LAUNCHES, "a")
    shutdown.next("c")
    assert (shutdown.stage, shutdown.reason) == (Stage.AGENTS, "c")
    shutdown.next("d")
    shutdown.next("e")
    assert (shutdown.stage, shutdown.reason) == (Stage.COLLECTING, "d")


async def test_a_stage_leaves_the_blocks_that_heed_it() -> None:
    """A block is left at its stage, not before, and at once when the stage has been reached already."""
    shutdown = Shutdown()
    left: list[Stage] = []

    async def wait(stage: Stage) -> None:
        with shutdown.interrupts(stage):
            await anyio.sleep_forever()
        left.append(stage)

    async with anyio.create_task_group() as tasks:
        for stage in (Stage.LAUNCHES, Stage.AGENTS, Stage.COLLECTING):
            tasks.start_soon(wait, stage)
        await checkpoint()
        shutdown.ask(Stage.AGENTS, "x")
        while len(left) < 2:
            await checkpoint()
        assert set(left) == {Stage.LAUNCHES, Stage.AGENTS}
        tasks.start_soon(wait, Stage.AGENTS)
        while len(left) < 3:
            await checkpoint()
        shutdown.ask(Stage.COLLECTING, "y")
    assert len(left) == 4


async def test_a_further_stage_gives_no_more_time() -> None:
    """A block that has a while to end has it from the stage that told it so."""
    shutdown = Shutdown()
    with shutdown.interrupts(Stage.AGENTS, after_s=50) as scope:
        shutdown.ask(Stage.LAUNCHES, "x")
        assert scope.deadline == float("inf")
        shutdown.ask(Stage.AGENTS, "y")
        until = scope.deadline
        await checkpoint()
        shutdown.ask(Stage.COLLECTING, "z")
        assert scope.deadline == until <= anyio.current_time() + 50


async def test_a_call_that_hangs_does_not_hold_up_a_stop(local: LocalFly, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that hangs while a stopped run is collected is left when the time for collecting is over."""
    monkeypatch.setattr("flaude._run.driver._STOP_MARGIN_S", 1.0)
    stopped: list[float] = []

    def watch(event: Event) -> None:
        if isinstance(event, Output) and not stopped:
            stopped.append(anyio.current_time())
            local.faults.add(Fault("exec_machine", Hang()))
            tasks.cancel_scope.cancel()

    timeouts = Timeouts(grace=0.5, collect=0.5, request=10)
    executor = ConcurrentExecutor("my-app", fly=local, on_event=watch, timeouts=timeouts)
    config = MachineConfig(claude_code_oauth_token=TOKEN, prompt="::say begun\n::silent")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(executor.run_one, config)
    assert local.faults.struck["exec_machine", "Hang"] <= 2, "it was left, and not repeated until it gave up"
    assert local.alive == 0


async def attempt(fly: FlyClient, shutdown: Shutdown) -> AttemptDriver:
    """One attempt by itself."""
    config = MachineConfig(claude_code_oauth_token=TOKEN, prompt="::say done")
    plan = AttemptPlan(
        shards=Shards("my-app"),
        config=config,
        batch="b",
        index=0,
        attempt=1,
        name="one",
        tag="",
        run_s=60,
        timeouts=Timeouts(),
        credentials={"CLAUDE_CODE_OAUTH_TOKEN": TOKEN},
        queued=datetime.now(UTC),
        output_dir=Path("unused"),
    )
    await prepare()
    return AttemptDriver(fly, plan, EventSink(), shutdown)


async def test_a_create_that_is_torn_off(local: LocalFly) -> None:
    """A create that is cancelled over its run's head is looked for, and its machine destroyed."""
    async with FlyClient(base_url=local.base_url, token=local.token) as fly:
        one = await attempt(fly, Shutdown())
        task = asyncio.ensure_future(one.execute())

        def tear(_path: str) -> None:
            task.cancel()

        local.faults.add(Fault("create_machine", Hook(before=tear), times=1))
        await asyncio.wait([task])
    assert task.cancelled()
    assert [one.state.machine_id] == local.created and one.state.gone
    assert one.machine_s == one.attempt.machine_seconds > 0, "its machine's time does not go on"


async def test_a_create_that_is_refused_costs_nothing(local: LocalFly) -> None:
    """Without a machine there are no machine seconds, neither then nor later, and their price is known: nothing."""
    local.faults.add(Fault("create_machine", Answer(422, "no")))
    async with FlyClient(base_url=local.base_url, token=local.token) as fly:
        one = await attempt(fly, Shutdown())
        await one.execute()
    assert one.state.gone and (one.machine_s, one.attempt.machine_seconds, one.attempt.machine_cost_usd) == (0, 0, 0)


async def test_a_second_stop_while_patches_are_fetched(local: LocalFly) -> None:
    """It ends the fetching, and the machine is destroyed."""
    spec = {"image": "x", "init": {"exec": ["sleep", "600"]}, "restart": {"policy": "no"}}
    result = GuestResult(
        job_id="j",
        exit_code=0,
        ended_by="exit",
        repos=(GuestRepo(url="u", path="p", patch="x"),),
        files=(GuestFile(name="x", size=9, sha256="0"),),
    )
    async with FlyClient(base_url=local.base_url, token=local.token) as fly:
        machine = await fly.create_machine("my-app", name="fetching", config=spec)
        shutdown = Shutdown()
        one = await attempt(fly, shutdown)
        one.state = AttemptState(step=Step.FETCH, phase=Phase.COLLECT, machine_id=machine.id, result=result)
        local.faults.add(Fault("exec_machine", Hang()))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.execute)
            while not local.faults.struck["exec_machine", "Hang"]:
                await fly.list_machines("my-app")
            shutdown.ask(Stage.COLLECTING, "enough")
    assert one.state.failure is not None and one.state.failure.kind is FailureKind.CANCELLED
    assert one.state.destroyed and local.alive == 0


async def test_a_batch_that_leaves_signals_alone(local: LocalFly) -> None:
    """With `handle_signals=False` no handler is replaced."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    during: list[Any] = []

    def watch(_event: Event) -> None:
        during.append([signal.getsignal(number) for number in numbers])

    executor = ConcurrentExecutor("my-app", fly=local, handle_signals=False, on_event=watch)
    assert (await executor.run_one(MachineConfig(claude_code_oauth_token=TOKEN, prompt="::say done"))).success
    assert during and all(found == before for found in during)


async def test_a_batch_in_another_thread(local: LocalFly) -> None:
    """Where there are no signals to be heard, a batch runs as well."""
    executor = ConcurrentExecutor("my-app", fly=local)
    config = MachineConfig(claude_code_oauth_token=TOKEN, prompt="::say done")
    result = await anyio.to_thread.run_sync(lambda: asyncio.run(executor.run_one(config)))
    assert result.success, result


async def test_the_first_signal_says_how_the_program_ends() -> None:
    """Whatever comes after it."""
    member = Member(Shutdown(), lambda: BatchResult([]), str)
    async with heeding(member):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        while member.shutdown.stage < Stage.COLLECTING:
            await checkpoint()
    assert isinstance(member.ending, Terminated)


LATE = """
import asyncio, signal
from flaude import BatchResult
from flaude._executor.signals import Member, heeding
from flaude._model.placement import Shards
from flaude._run.shutdown import Shutdown

async def main():
    async with heeding(Member(Shutdown(), lambda: BatchResult([]), str)):
        signal.raise_signal(signal.SIGINT)
    await asyncio.Event().wait()

signal.signal(signal.SIGINT, signal.default_int_handler)
asyncio.run(main())
"""


async def test_a_signal_that_comes_too_late_is_not_lost() -> None:
    """One that was heard when the last batch was just over ends the program as if there had been none."""
    with anyio.fail_after(30):
        done = await anyio.run_process([sys.executable, "-c", LATE], check=False)
    assert done.returncode == -signal.SIGINT, done.stderr
