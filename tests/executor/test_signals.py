"""SIGINT and SIGTERM to a real controller: once, twice, three times."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.conftest import Machines
from tests.support.controller_process import controller

from flaude import reap
from flaude.local import Answer, Fault, Hook, LocalFly, SlowDelete


def has_printed(told: dict[str, Any]) -> bool:
    """Whether an agent is at work."""
    return "output" in told


@pytest.mark.parametrize(
    ("number", "raised", "code"), [(signal.SIGINT, "Interrupted", 1), (signal.SIGTERM, "Terminated", 143)]
)
async def test_the_first_signal_keeps_the_work(
    local: LocalFly, repo: Path, number: signal.Signals, raised: str, code: int
) -> None:
    """One signal: nothing more is launched, agents stop, which is told, their work is collected, machines are gone."""
    prompts = ["::write part.txt 1\n::say begun\n::silent"] * 3
    async with controller(
        local, prompts=prompts, repos=[f"file://{repo}"], max_concurrency=2, timeouts={"grace": 1}
    ) as stopped:
        begun: set[str] = set()
        async for told in stopped.tells():
            begun |= {told["output"]} if has_printed(told) else set()
            if len(begun) == 2:
                break
        stopped.process.send_signal(number)
        assert (await stopped.end())[0] == code
    assert stopped.raised == [raised]
    one, two, three = stopped.results
    assert one["changed"] == two["changed"] == ["part.txt"]
    assert {one["kind"], two["kind"], three["kind"]} == {"cancelled"}
    assert number.name in one["message"] and "not launched" in three["message"]
    assert len(local.created) == 2 and local.alive == 0
    assert one["gone"] and two["gone"] and three["gone"]
    stops = [(stop["stops"], stop["reason"], stop["at_once"]) for stop in stopped.seen if "stops" in stop]
    assert sorted(stops) == [(f"0.{index}", f"stopped by {number.name}", False) for index in range(3)]


@pytest.mark.parametrize(
    ("number", "raised", "code"), [(signal.SIGINT, "Interrupted", 1), (signal.SIGTERM, "Terminated", 143)]
)
async def test_a_signal_reaches_who_iterates(
    local: LocalFly, repo: Path, number: signal.Signals, raised: str, code: int
) -> None:
    """`as_completed` yields what was collected and then raises as `run_batch` does, out of the loop over it."""
    prompts = ["::write part.txt 1\n::say begun\n::silent"]
    async with controller(
        local, prompts=prompts, repos=[f"file://{repo}"], completed=True, timeouts={"grace": 1}
    ) as stopped:
        await stopped.until(has_printed)
        stopped.process.send_signal(number)
        ended, stderr = await stopped.end()
    assert (ended, stopped.raised) == (code, [raised])
    assert "never retrieved" not in stderr
    assert stopped.results[0]["changed"] == ["part.txt"] and local.alive == 0


async def test_the_second_signal_collects_no_more(local: LocalFly, repo: Path) -> None:
    """Two signals: the grace of an agent that does not stop is cut short, and its machine is destroyed."""
    prompts = ["::write part.txt 1\n::ignore-signals\n::say begun\n::silent"]
    async with controller(local, prompts=prompts, repos=[f"file://{repo}"], timeouts={"grace": 3000}) as stopped:
        await stopped.until(has_printed)
        before = local.requests["exec_machine", 200]
        stopped.process.send_signal(signal.SIGINT)
        with anyio.fail_after(20):
            while local.requests["exec_machine", 200] <= before:  # it has asked the guest to cancel
                await reap("my-app", fly=local, dry_run=True, settle=0)
        stopped.process.send_signal(signal.SIGINT)
        assert (await stopped.end())[0] == 1
    assert stopped.results[0]["kind"] == "cancelled" and stopped.results[0]["changed"] == []
    assert stopped.results[0]["gone"] and local.alive == 0
    assert [told["at_once"] for told in stopped.seen if "stops" in told] == [False, True]


async def test_the_third_signal_leaves_at_once(machines: Machines) -> None:
    """Three signals: the program dies of the third, saying what may be alive; the machine's clocks do the rest."""
    async with machines(faults=[Fault("delete_machine", SlowDelete(3600))]) as fly:
        async with controller(
            fly, prompts=["::say begun\n::silent"], timeouts={"grace": 1, "patience": 1, "orphan": 2}
        ) as stopped:
            await stopped.until(has_printed)
            # Two of one kind might become one on their way.
            stopped.process.send_signal(signal.SIGINT)
            stopped.process.send_signal(signal.SIGTERM)
            with anyio.fail_after(20):
                while not fly.requests["delete_machine", 200]:
                    await reap("my-app", fly=fly, dry_run=True, settle=0)
            stopped.process.send_signal(signal.SIGINT)
            code, stderr = await stopped.end()
        assert code == -signal.SIGINT
        assert f"({fly.created[0]}) in my-app\n" in stderr
        assert re.search(r"^flaude reap --app my-app --batch [0-9a-f]+ --all$", stderr, re.MULTILINE)
        with anyio.fail_after(62):
            while fly.alive:
                await reap("my-app", fly=fly, dry_run=True, settle=0)


async def test_the_third_signal_names_what_ended_batches_left(machines: Machines) -> None:
    """A batch that could not see its machine gone, and waits for the others, is asked for its last words as well."""
    prompts = ["::ignore-signals\n::say begun\n::silent"]
    async with machines(faults=[Fault("delete_machine", SlowDelete(3600))]) as fly:
        async with controller(
            fly, prompts=prompts, batches=2, destroy=[1.0, 600.0], timeouts={"grace": 600, "patience": 1, "orphan": 2}
        ) as stopped:
            await stopped.until(has_printed, 2)
            stopped.process.send_signal(signal.SIGINT)
            stopped.process.send_signal(signal.SIGTERM)
            await stopped.until(lambda told: told.get("finished") == "0.0")
            stopped.process.send_signal(signal.SIGINT)
            code, stderr = await stopped.end()
        assert code == -signal.SIGINT
        assert all(machine in stderr for machine in fly.created) and len(fly.created) == 2
        assert stderr.count("flaude reap --app my-app --batch ") == 2
        with anyio.fail_after(62):
            while fly.alive:
                await reap("my-app", fly=fly, dry_run=True, settle=0)


async def test_the_third_signal_does_not_wait_for_a_program_that_is_busy(machines: Machines) -> None:
    """Two signals are heard when the event loop is free again; the third does not need it."""
    async with machines() as fly:
        async with controller(
            fly, prompts=["::say begun\n::silent"], at_work="blocks", timeouts={"patience": 1, "orphan": 2}
        ) as stopped:
            await stopped.until(has_printed)
            # Signals that wait to be delivered are one for each kind.
            for number in (signal.SIGINT, signal.SIGTERM):
                stopped.process.send_signal(number)
            while stopped.process.returncode is None:
                stopped.process.send_signal(signal.SIGINT)
                with anyio.move_on_after(0.2):
                    await stopped.process.wait()
            code, stderr = await stopped.end()
        assert code in (-signal.SIGINT, -signal.SIGTERM), "whichever is heard third"
        assert fly.created[0] in stderr
        with anyio.fail_after(62):
            while fly.alive:
                await reap("my-app", fly=fly, dry_run=True, settle=0)


@pytest.mark.parametrize(
    ("number", "how", "code"),
    [
        (signal.SIGINT, {}, 1),
        (signal.SIGTERM, {}, 143),
        (signal.SIGINT, {"group": True}, 1),
        (signal.SIGTERM, {"group": True}, 143),
        (signal.SIGTERM, {"group": True, "completed": True}, 143),
        (signal.SIGINT, {"swallows": True}, 0),
        (signal.SIGTERM, {"group": True, "swallows": True}, 0),
        (signal.SIGINT, {"main_swallows": True}, 0),
        (signal.SIGINT, {"works_on": True}, 0),
    ],
    ids=[
        *("SIGINT", "SIGTERM", "SIGINT, group", "SIGTERM, group", "streams", "swallowed", "swallowed, group"),
        *("swallowed in main", "swallowed, and cancelled later"),
    ],
)
async def test_a_signal_ends_all_batches_and_the_programs_cleanup_runs(
    local: LocalFly, number: signal.Signals, how: dict[str, bool], code: int
) -> None:
    """Each of several batches raises what all came to; the program cleans up and ends, unless it says otherwise."""
    prompts = ["::say begun\n::silent"]
    async with controller(local, prompts=prompts, batches=3, timeouts={"grace": 0.5}, **how) as stopped:
        await stopped.until(has_printed, 3)
        stopped.process.send_signal(number)
        ended, stderr = await stopped.end()
    assert ended == code, stderr
    assert len(stopped.raised) == 3 and len(set(stopped.raised)) == 1
    assert [told["batches"] for told in stopped.seen if "batches" in told] == [3, 3, 3]
    assert stopped.seen[-1] == {"cleaned": True}
    assert ({"came": "to main"} in stopped.seen) == (not how or "main_swallows" in how)
    assert local.alive == 0 and len(local.created) == 3


async def test_the_third_signal_names_what_an_earlier_attempt_left(machines: Machines) -> None:
    """A machine that could not be seen gone before its run went on on another one is named as well."""
    refused = Fault("exec_machine", Answer(400, "invalid_argument: no"), times=1)
    async with machines(faults=[refused, Fault("delete_machine", SlowDelete(8))]) as fly:
        timeouts = {"destroy": 1, "grace": 1, "patience": 1, "orphan": 2}
        async with controller(fly, prompts=["::say begun\n::silent"], timeouts=timeouts) as stopped:
            await stopped.until(has_printed)
            stopped.process.send_signal(signal.SIGINT)
            stopped.process.send_signal(signal.SIGTERM)
            with anyio.fail_after(20):
                while fly.requests["delete_machine", 200] < 2:
                    await reap("my-app", fly=fly, dry_run=True, settle=0)
            stopped.process.send_signal(signal.SIGINT)
            code, stderr = await stopped.end()
        assert code == -signal.SIGINT
        assert len(fly.created) == 2 and all(machine in stderr for machine in fly.created)
        with anyio.fail_after(62):
            while fly.alive:
                await reap("my-app", fly=fly, dry_run=True, settle=0)


MOMENTS = [
    ("create_machine", 1),
    ("create_machine", 2),
    ("wait_machine", 1),
    ("exec_machine", 1),
    ("exec_machine", 3),
    ("exec_machine", 5),
    ("delete_machine", 1),
]


@pytest.mark.parametrize("numbers", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGINT, signal.SIGTERM]])
@pytest.mark.parametrize(("action", "number"), MOMENTS)
async def test_a_signal_at_any_moment(
    machines: Machines, action: str, number: int, numbers: list[signal.Signals]
) -> None:
    """Whenever one signal or two come, the program ends with every machine gone, and says so."""
    async with machines() as fly, controller(fly, prompts=["::say done"] * 2, timeouts={"grace": 0.5}) as stopped:

        def interrupt(_path: str) -> None:
            for one in numbers:
                stopped.process.send_signal(one)

        fly.faults.add(Fault(action, Hook(before=interrupt), after=number - 1, times=1))
        code, stderr = await stopped.end()
        assert code in (1, 143), stderr
        assert fly.alive == 0
        assert stopped.raised[0] in ("Interrupted", "Terminated")
        assert [result["gone"] for result in stopped.results] == [True, True]
