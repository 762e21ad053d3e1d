"""A controller that is killed at any moment of its life leaves machines that end by themselves."""

from __future__ import annotations

import signal
from typing import Literal

import anyio
import pytest
from tests.conftest import Machines
from tests.support.controller_process import controller

from flaude import reap
from flaude.local import Fault, Hook, LocalFly

ORPHAN_S = 1.5
START_DEADLINE_S = 3.0
BOUND_S = max(ORPHAN_S, START_DEADLINE_S) + 60
"""What the docs promise: the orphan clock, or the start deadline, plus one minute."""


@pytest.mark.parametrize("at_work", ["tears", "tears later"])
async def test_a_loop_that_is_closed_over_its_head(local: LocalFly, at_work: str) -> None:
    """A program that ends in the middle, by an exit from a callback, still destroys its machines first."""
    prompts = ["::say begun\n::silent"] * 2
    async with controller(local, prompts=prompts, at_work=at_work, timeouts={"grace": 0.5}) as torn:
        code, stderr = await torn.end()
        assert code == 3 and "on_event raised" not in stderr
        assert local.alive == 0
        assert (await reap("my-app", fly=local, dry_run=True, settle=0)).machines == ()


POINTS = [
    ("get_app", "before", 1),
    ("get_app", "after", 1),
    *(("create_machine", moment, number) for number in (1, 2) for moment in ("before", "after")),
    # The first ones wait for the boot of each machine, the third for the end of one.
    *(("wait_machine", moment, number) for number in (1, 3) for moment in ("before", "after")),
    *(("exec_machine", moment, number) for number in range(1, 6) for moment in ("before", "after")),
    *(("delete_machine", moment, 1) for moment in ("before", "after")),
]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("action", "moment", "number"), POINTS)
async def test_no_machine_outlives_a_killed_controller(
    machines: Machines, action: str, moment: Literal["before", "after"], number: int
) -> None:
    """Killed before or after any call, the controller leaves no machine that lives longer than the bound."""
    async with machines() as fly:
        async with controller(
            fly,
            prompts=["::sleep 1\n::say done"] * 2,
            timeouts={"patience": 1, "orphan": ORPHAN_S, "start_deadline": START_DEADLINE_S, "grace": 0.5},
        ) as killed:

            def kill(_path: str) -> None:
                if killed.process.returncode is None:
                    killed.process.send_signal(signal.SIGKILL)

            hook = Hook(before=kill) if moment == "before" else Hook(after=kill)
            fly.faults.add(Fault(action, hook, after=number - 1, times=1))
            with anyio.fail_after(40):
                assert await killed.process.wait() == -signal.SIGKILL
        with anyio.fail_after(BOUND_S):
            while (await reap("my-app", fly=fly, dry_run=True, settle=0)).machines or fly.alive:
                pass
        assert len(fly.created) <= 2
