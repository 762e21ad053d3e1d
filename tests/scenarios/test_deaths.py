"""Whatever a controller was doing when it died, and whatever write failed: nothing is lost, nothing paid twice."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

import anyio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.simulated_world import PATCH, SimulatedFly, VirtualTime, World, run

from flaude import BatchResult, ConcurrentExecutor, ExecutionRequest, MachineConfig
from flaude._model.errors import JournalError, LeaseLostError
from flaude.journal import Journal

REPO = "https://github.com/your-org/api"
WRITES = ("write", "put", "drop", "renew", "release")


@dataclass
class Controller:
    """One of several that come after each other.

    Attributes:
        dies_at: The moment at which it is gone: nothing that it does from then on reaches anybody.
        sleeps_at: The moment from which on it does nothing until it wakes up.
        fails: The moments at which its journal cannot be written.
    """

    dies_at: int | None = None
    sleeps_at: int | None = None
    fails: range = range(0)
    moments: int = 0
    asleep: anyio.Event = field(default_factory=anyio.Event)
    awake: anyio.Event = field(default_factory=anyio.Event)

    async def passes(self, what: str) -> None:
        """Something is about to be done, or has been."""
        self.moments += 1
        # Not with a request half sent: whether that is still ours is asked just before.
        if self.sleeps_at is not None and self.moments >= self.sleeps_at and what != "create":
            self.asleep.set()
            await self.awake.wait()

    async def at_fly(self, what: str) -> None:
        """The same for what it does with Fly: a dead one hears nothing more."""
        await self.passes(what)
        if self.is_dead:
            await anyio.sleep_forever()

    async def in_journal(self, what: str) -> None:
        """The same for what it does with its journal: a dead one hears that it has lost its lease, so that it ends."""
        await self.passes(what)
        if self.is_dead:
            raise LeaseLostError("dead")
        if what in WRITES and self.moments in self.fails:
            raise JournalError("the disk is full")

    @property
    def is_dead(self) -> bool:
        """Whether it is gone."""
        return self.dies_at is not None and self.moments > self.dies_at


class Seen:
    """A journal as a controller has it."""

    def __init__(self, journal: Journal, controller: Controller) -> None:
        self._journal = journal
        self._controller = controller

    async def __aenter__(self) -> Self:
        await self._journal.__aenter__()
        return self

    async def __aexit__(self, *_ending: object) -> None:
        await self._journal.__aexit__(None, None, None)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any, **more: Any) -> Any:
            await self._controller.in_journal(name)
            answer = await getattr(self._journal, name)(*arguments, **more)
            await self._controller.in_journal(f"{name} done")
            return answer

        return call


def requests() -> list[ExecutionRequest]:
    """Two runs."""
    return [ExecutionRequest(MachineConfig(prompt=f"do {tag}", repos=[REPO]), tag=tag) for tag in "ab"]


async def carry_out(controller: Controller, world: World, journal: Journal, *, cancel: bool = False) -> BatchResult:
    """Begin a batch, or take up the one that there is, or cancel that."""
    fly: Any = SimulatedFly(world, controller.at_fly)
    executor = ConcurrentExecutor(
        "my-app",
        fly=fly,
        journal=cast("Journal", Seen(journal, controller)),
        output_dir=Path(os.devnull).parent / "flaude-nowhere",
        handle_signals=False,
    )
    batches = await journal.batches()
    if not batches:
        return await executor.run_batch(requests())
    return await (executor.cancel if cancel else executor.resume)(batches[0].id)


def check(world: World, batch: BatchResult) -> None:
    """Every agent has started once, all of its work is there, and no machine is left."""
    assert [result.failure for result in batch.results] == [None, None]
    for result in batch.results:
        assert result.run_result and [patch.diff for patch in result.run_result.patches] == [PATCH]
        assert len(result.attempts) == 1
    assert Counter(world.starts) == {f"{batch.id}-0-1": 1, f"{batch.id}-1-1": 1}
    assert world.alive == []


@settings(max_examples=60, deadline=None)
@given(
    deaths=st.lists(st.integers(0, 110), max_size=3),
    first_failure=st.integers(0, 110),
    failures=st.integers(0, 12),
)
def test_deaths_and_failed_writes(deaths: list[int], first_failure: int, failures: int) -> None:
    """Each controller takes the batch up where the one before has died, and the last one brings everything home."""

    async def test(loop: VirtualTime, world: World, journal: Journal) -> None:
        fails = range(first_failure, first_failure + failures)
        for at in deaths:
            dying = Controller(dies_at=at, fails=fails)
            try:
                await carry_out(dying, world, journal)
            except JournalError:
                assert dying.is_dead or fails
            loop.passes(60)  # its lease runs out
        batch = await carry_out(Controller(), world, journal)
        check(world, batch)
        assert (await journal.batch(batch.id)).counts.succeeded == 2
        told = [event.index for event in await journal.events(batch.id) if event.kind == "assistant_text"]
        assert sorted(told) == [0, 1]

    run(test)


@settings(max_examples=30, deadline=None)
@given(sleeps_at=st.integers(10, 110))
@example(sleeps_at=17)  # between the journal's answer and a create
def test_a_controller_that_slept(sleeps_at: int) -> None:
    """Another one has come to the end of its batch meanwhile: when it wakes up, it changes nothing any more."""

    async def test(loop: VirtualTime, world: World, journal: Journal) -> None:
        sleeper = Controller(sleeps_at=sleeps_at)

        async def sleep_on_it() -> None:
            with suppress(LeaseLostError):
                await carry_out(sleeper, world, journal)
            sleeper.asleep.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sleep_on_it)
            await sleeper.asleep.wait()
            loop.passes(60)
            batch = await carry_out(Controller(), world, journal)
            check(world, batch)
            sleeper.awake.set()
        check(world, batch)
        assert (await carry_out(Controller(), world, journal)).results == batch.results

    run(test)


@settings(max_examples=30, deadline=None)
@given(dies_at=st.integers(3, 110))
def test_cancelled_after_a_death(dies_at: int) -> None:
    """Whatever there is comes home, nothing is begun, and no machine is left: not one that nobody has heard of."""

    async def test(loop: VirtualTime, world: World, journal: Journal) -> None:
        with suppress(JournalError):
            await carry_out(Controller(dies_at=dies_at), world, journal)
        loop.passes(60)
        machines, starts = len(world.guests), list(world.starts)
        batch = await carry_out(Controller(), world, journal, cancel=True)
        assert world.alive == []
        assert (len(world.guests), world.starts) == (machines, starts)
        for index, result in enumerate(batch.results):
            patches = result.run_result.patches if result.run_result else ()
            assert [patch.diff for patch in patches] == [PATCH] * (f"{batch.id}-{index}-1" in starts)
        assert (await journal.batch(batch.id)).counts.open == 0

    run(test)


def test_a_journal_that_raises_anything() -> None:
    """No error of a journal's leaves the batch in place of its results; what could not be written is written later."""

    class Odd(Controller):
        async def in_journal(self, what: str) -> None:
            await super().in_journal(what)
            if what in WRITES and 4 <= self.moments <= 20:
                raise OSError("not a JournalError")

    async def test(_loop: VirtualTime, world: World, journal: Journal) -> None:
        check(world, await carry_out(Odd(), world, journal))
        assert (await journal.batches())[0].counts.succeeded == 2

    run(test)
