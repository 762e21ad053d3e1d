"""Runs over a network that loses things: a blip at any call changes nothing about the result."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
from tests.conftest import TOKEN, Machines
from tests.providers.fly.proxy import Trouble, proxy, refusal

from flaude import ConcurrentExecutor, ExecutionRequest, FailureKind, MachineConfig, Phase, Timeouts
from flaude._providers.fly import FlyClient
from flaude.events import Event, Finished
from flaude.local import Answer, Fault, LocalFly

OK = Trouble("pass")


@pytest.mark.parametrize(
    "trouble", [Trouble("drop"), Trouble("lose"), Trouble("half"), refusal(503, "later")], ids=lambda t: t.kind
)
async def test_a_blip_at_every_call(local: LocalFly, repo: Path, trouble: Trouble) -> None:
    """Every second call of a run goes wrong: one machine, one agent, the whole result, and nothing left."""
    async with proxy(local.base_url) as net:
        net.troubles = [trouble if number % 2 else OK for number in range(40)]
        executor = ConcurrentExecutor("my-app", base_url=net.base_url, token=local.token)
        config = MachineConfig(
            claude_code_oauth_token=TOKEN, prompt="::append count.txt 1\n::say done", repos=[f"file://{repo}"]
        )
        result = await executor.run_one(config)
    assert result.success, result
    assert result.run_result is not None and result.run_result.destroyed
    assert b"+1\n" in result.run_result.patches[0].diff
    assert len(local.created) == 1


async def test_a_new_machine_may_be_unknown_for_a_while(local: LocalFly) -> None:
    """404 and 412 just after the create are not the end of the run."""
    async with proxy(local.base_url) as net:
        unknown, not_running = (
            refusal(404, "not_found: machine not found"),
            refusal(412, "failed_precondition: machine not running"),
        )
        net.troubles = [OK, OK, unknown, unknown, OK, not_running]
        executor = ConcurrentExecutor("my-app", base_url=net.base_url, token=local.token)
        result = await executor.run_one(MachineConfig(claude_code_oauth_token=TOKEN, prompt="::say here"))
    assert result.success, result


async def one_machine_is_enough(faults: Sequence[Fault], timeouts: Timeouts | None = None) -> None:
    """A run among these faults succeeds, with the first machine that is made for it."""
    async with LocalFly(apps=["my-app"], box="simulated", faults=faults) as local:
        executor = ConcurrentExecutor("my-app", fly=local, rate_limits=None, timeouts=timeouts)
        result = await executor.run_one(MachineConfig(claude_code_oauth_token=TOKEN, prompt="::say here"))
        assert result.success, result
        assert len(local.created) == 1


async def test_the_answer_to_the_job_is_cut() -> None:
    """The guest has the job and its answer does not arrive whole: it is asked again, and says the same."""
    cut = json.dumps({"stdout": '{"accepted": true, "pull": {"state": "wai'})
    faults = [Fault("exec_machine", Answer(200, body=cut), times=2)]
    await one_machine_is_enough(faults)


async def test_a_node_that_is_behind() -> None:
    """A machine that Fly has shown as started may still be unknown to the node that answers next."""
    unknown = Answer(404, "not_found: machine not found")
    faults = [Fault("exec_machine", unknown, times=1), Fault("get_machine", unknown, times=1)]
    await one_machine_is_enough(faults)


async def test_a_machine_that_waits_do_not_see() -> None:
    """A machine that has started goes on, though only reading it shows that."""
    faults = [Fault("wait_machine", Answer(408, "deadline_exceeded"))]
    await one_machine_is_enough(faults, Timeouts(boot=3))


async def test_a_network_that_stays_away_ends_the_run(local: LocalFly) -> None:
    """When nothing answers for the whole patience the run is given up, and its machine is named as left over."""
    async with proxy(local.base_url) as net:

        def watch(event: Event) -> None:
            if getattr(event, "phase", None) is Phase.AGENT:
                net.troubles = [Trouble("drop")] * 10_000

        executor = ConcurrentExecutor(
            "my-app",
            base_url=net.base_url,
            token=local.token,
            on_event=watch,
            timeouts=Timeouts(patience=0.5, retry=0.5, destroy=0.5, orphan=2, grace=0.5),
        )
        batch = await executor.run_batch(
            [ExecutionRequest(MachineConfig(claude_code_oauth_token=TOKEN, prompt="::silent"))]
        )
    (result,) = batch.results
    assert result.failure is not None and result.failure.kind is FailureKind.API
    assert [leftover.machine_id for leftover in batch.leftovers] == local.created
    # Nobody pulls any more: the machine's own clock ends it.
    async with FlyClient(base_url=local.base_url, token=local.token) as fly:
        assert await fly.wait_machine("my-app", local.created[0], state="destroyed", timeout_s=30)


async def test_cancel_before_the_turn_makes_no_machine(machines: Machines) -> None:
    """Runs that wait for their turn to be created are not created any more once the batch is cancelled."""
    finished: list[Finished] = []

    def watch(event: Event) -> None:
        if isinstance(event, Finished):
            finished.append(event)
        if getattr(event, "phase", None) is Phase.BOOT:  # the first machine is there, however slowly it boots
            tasks.cancel_scope.cancel()

    async with machines(limits=True) as fly:
        executor = ConcurrentExecutor("my-app", fly=fly, on_event=watch, timeouts=Timeouts(grace=1))
        config = MachineConfig(claude_code_oauth_token=TOKEN, prompt="::silent")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(executor.run_batch, [ExecutionRequest(config)] * 30)
        assert len(fly.created) < 6
        assert len(finished) == 30
        kinds = {event.result.failure.kind for event in finished if event.result.failure}
        assert kinds == {FailureKind.CANCELLED}


async def test_cancel_during_the_create_loses_no_machine(local: LocalFly) -> None:
    """A create that is under way when its batch is cancelled is seen to its end, and its machine destroyed."""
    async with proxy(local.base_url) as net:

        def watch(method: str, path: str) -> None:
            if method == "POST" and path.endswith("/machines"):
                tasks.cancel_scope.cancel()

        net.on_request = watch
        executor = ConcurrentExecutor("my-app", base_url=net.base_url, token=local.token)
        config = MachineConfig(claude_code_oauth_token=TOKEN, prompt="::silent")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(executor.run_one, config)
    assert len(local.created) == 1
    assert local.alive == 0
