"""Waiting for many machines, against the stand-in with simulated ones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest

from flaude import NotFoundError, UnreachableError
from flaude._providers.fly import FlyClient
from flaude._providers.fly import state_watcher as machine_states
from flaude._providers.fly.destroy import destroy
from flaude._providers.fly.state_watcher import MachineStates
from flaude.local import Answer, Fault, Hang, LocalFly, Quirks, SlowDelete

OURS = {"managed_by": "test"}
MANY = 30


@asynccontextmanager
async def machines(count: int, boot_s: float = 0.0) -> AsyncIterator[tuple[LocalFly, FlyClient, list[str]]]:
    """So many machines that have just been made."""
    async with (
        LocalFly(apps=["my-app"], box="simulated", boot_s=boot_s, quirks=Quirks(machine_limit=None)) as local,
        FlyClient(base_url=local.base_url, token=local.token, rate_limits=None, retry_for_s=0) as fly,
    ):
        config = {"image": "any", "metadata": OURS}
        made = [await fly.create_machine("my-app", name=f"m{n}", config=config) for n in range(count)]
        yield local, fly, [machine.id for machine in made]


async def wait_all(
    states: MachineStates, ids: Sequence[str], state: str, *, timeout_s: int = 10
) -> dict[str, bool | Exception]:
    """What waiting for each has brought."""
    seen: dict[str, bool | Exception] = {}

    async def one(machine_id: str) -> None:
        try:
            seen[machine_id] = await states.wait(machine_id, state, timeout_s=timeout_s)
        except (NotFoundError, UnreachableError) as error:
            seen[machine_id] = error

    async with anyio.create_task_group() as tasks:
        for machine_id in ids:
            tasks.start_soon(one, machine_id)
    return seen


def waits_and_lists(local: LocalFly) -> tuple[int, int]:
    """How many calls of either kind there were, whatever came of them."""
    counted = {"wait_machine": 0, "list_machines": 0}
    for (action, _), times in local.requests.items():
        counted[action] = counted.get(action, 0) + times
    return counted["wait_machine"], counted["list_machines"]


async def test_a_few_cost_a_call_each() -> None:
    """Machines that are few are waited for by a call of their own, which comes back when the state is there."""
    async with machines(3, boot_s=0.3) as (local, fly, ids):
        states = MachineStates(fly, "my-app", OURS)
        assert set((await wait_all(states, ids, "started")).values()) == {True}
        assert waits_and_lists(local) == (3, 0)


@pytest.mark.parametrize("state", ["started", "destroyed"])
async def test_many_are_seen_together(state: str) -> None:
    """Many that boot or go at the same time cost some lists, and far less than a call each."""
    async with machines(MANY, boot_s=0.6) as (local, fly, ids):
        states = MachineStates(fly, "my-app", OURS)
        async with anyio.create_task_group() as tasks:
            if state == "destroyed":
                for machine_id in ids:
                    tasks.start_soon(fly.delete_machine, "my-app", machine_id)
            assert set((await wait_all(states, ids, state)).values()) == {True}
        waits, lists = waits_and_lists(local)
        assert waits < 8 and 1 <= lists < 8


async def test_a_state_that_will_never_be() -> None:
    """Who waits for a machine to start hears from a list that it has ended."""
    async with machines(MANY) as (_, fly, ids):
        for machine_id in ids:
            await fly.delete_machine("my-app", machine_id)
        seen = await wait_all(MachineStates(fly, "my-app", OURS), ids, "started")
        assert all(one is False or isinstance(one, NotFoundError) for one in seen.values())


async def test_a_machine_in_no_list_is_not_gone() -> None:
    """What a list leaves out says nothing: a machine that the first ones do not show is asked for by itself."""
    async with machines(MANY) as (local, fly, ids):
        states = MachineStates(fly, "my-app", {"managed_by": "nobody"})
        seen = await wait_all(states, ids, "destroyed", timeout_s=2)
        assert set(seen.values()) == {False}
        waits, lists = waits_and_lists(local)
        assert waits == MANY
        assert set((await wait_all(states, ids, "started")).values()) == {True}
        assert waits_and_lists(local) == (2 * MANY, lists), "later too"


async def test_an_app_that_is_not_to_be_found_says_nothing() -> None:
    """A 404 for the list is no word on the machines: each is asked for by itself then."""
    async with machines(MANY, boot_s=0.3) as (local, fly, ids):
        local.faults.add(Fault("list_machines", Answer(404, "not found")))
        seen = await wait_all(MachineStates(fly, "my-app", OURS), ids, "started")
        assert set(seen.values()) == {True}
        assert waits_and_lists(local)[0] > 8


async def test_a_failed_list_is_no_word() -> None:
    """Who asked for a list in vain asks for its own machine; somebody else asks again for all the others."""
    async with machines(MANY, boot_s=0.3) as (local, fly, ids):
        local.faults.add(Fault("list_machines", Answer(503, "later"), times=1))
        seen = await wait_all(MachineStates(fly, "my-app", OURS), ids, "started")
        assert set(seen.values()) == {True}
        assert waits_and_lists(local)[0] <= 8


async def test_lists_that_come_no_more() -> None:
    """Who has been in a list and then gets no more of them asks for its own machine, and hears nothing before."""
    async with machines(MANY, boot_s=1.5) as (local, fly, ids):
        local.faults.add(Fault("list_machines", Answer(503, "later"), after=1))
        seen = await wait_all(MachineStates(fly, "my-app", OURS), ids, "started")
        assert set(seen.values()) == {True}


async def test_a_long_list_is_for_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """The more machines a list would show, the more have to wait for it to be worth asking for."""
    monkeypatch.setattr(machine_states, "_LISTED_FOR_A_CALL", 2)
    async with machines(MANY) as (local, fly, ids):
        states = MachineStates(fly, "my-app", OURS)
        await wait_all(states, ids, "started")
        waits, lists = waits_and_lists(local)
        await wait_all(states, ids[: MANY // 2 - 1], "started")
        assert waits_and_lists(local) == (waits + MANY // 2 - 1, lists)


async def test_where_no_list_comes_each_is_asked_for() -> None:
    """Lists that do not come keep nobody from a machine: when the time is over each is asked for by itself."""
    async with machines(MANY) as (local, fly, ids):
        local.faults.add(Fault("list_machines", Hang()))
        seen = await wait_all(MachineStates(fly, "my-app", OURS), ids, "started", timeout_s=1)
        assert set(seen.values()) == {True}


async def test_no_answer_is_not_taken_for_one() -> None:
    """While Fly answers nothing at all, nobody hears that the state is not there yet: that would be an answer."""
    async with machines(MANY) as (local, fly, ids):
        local.faults.add(Fault("list_machines", Hang()))
        local.faults.add(Fault("wait_machine", Answer(503, "later")))
        seen = await wait_all(MachineStates(fly, "my-app", OURS), ids, "started", timeout_s=1)
        assert {type(one) for one in seen.values()} == {UnreachableError}


async def test_who_asks_for_all_may_leave() -> None:
    """When the one who asks for the list is cancelled, or has waited long enough, somebody else asks."""
    async with machines(MANY, boot_s=0.6) as (local, fly, ids):
        local.faults.add(Fault("list_machines", Hang(), times=1))
        states = MachineStates(fly, "my-app", OURS)

        async def leave(machine_id: str) -> None:
            with anyio.move_on_after(0.8):
                await states.wait(machine_id, "started", timeout_s=10)

        async with anyio.create_task_group() as tasks:
            for machine_id in ids[:8]:
                tasks.start_soon(leave, machine_id)
            await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(8):
                assert set((await wait_all(states, ids[8:], "started")).values()) == {True}


async def test_only_the_word_is_the_end() -> None:
    """An answer that does not say "destroyed", whatever its status, does not make a machine gone."""
    async with machines(1) as (local, fly, ids):
        local.faults.add(Fault("wait_machine", Answer(200, body="")))
        local.faults.add(Fault("delete_machine", SlowDelete(1)))
        states = MachineStates(fly, "my-app", OURS)
        assert (
            await destroy(fly, "my-app", ids[0], states=states, within_s=20, known_from=0, notice=lambda _: None)
            == "destroyed"
        )
        assert local.alive == 0
