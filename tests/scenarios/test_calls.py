"""What runs cost in calls, against the stand-in with simulated machines."""

from __future__ import annotations

from collections import Counter

import anyio
from tests.conftest import TOKEN

from flaude import ConcurrentExecutor, ExecutionRequest, MachineConfig
from flaude._guest.inside.packing import unpack_request
from flaude.local import Exchange, Fault, Hook, LocalFly, Quirks


def requests(prompt: str, count: int) -> list[ExecutionRequest]:
    """The same prompt so many times."""
    return [ExecutionRequest(MachineConfig(claude_code_oauth_token=TOKEN, prompt=prompt)) for _ in range(count)]


def calls(local: LocalFly) -> Counter[str]:
    """How often each action was asked for, whatever came of it."""
    counted: Counter[str] = Counter()
    for (action, _), times in local.requests.items():
        counted[action] += times
    return counted


async def test_a_silent_agent_costs_one_call() -> None:
    """A run whose agent says nothing is handed over, told to start, waited for in one long call, and acknowledged."""
    waits_s: list[float] = []

    def look(exchange: Exchange) -> None:
        if exchange.path.endswith("/exec") and exchange.request["command"][-2] == "pull":
            waits_s.append(unpack_request(exchange.request["command"][-1])["wait_s"])

    async with LocalFly(apps=["my-app"], box="simulated", on_exchange=look) as local:
        executor = ConcurrentExecutor("my-app", fly=local, rate_limits=None)
        assert (await executor.run_batch(requests("::sleep 2", 1))).all_succeeded
        assert calls(local)["exec_machine"] == 4
        assert calls(local).total() <= 9
    assert len(waits_s) == 2 and min(waits_s) >= 10


async def test_calls_do_not_grow_with_runs() -> None:
    """A run among many costs no more calls than one among few, and less, because lists are shared."""
    a_run: dict[int, float] = {}
    for runs in (5, 50):
        async with LocalFly(apps=["my-app"], box="simulated", quirks=Quirks(machine_limit=None)) as local:
            executor = ConcurrentExecutor("my-app", fly=local, rate_limits=None)
            assert (await executor.run_batch(requests("::sleep 1", runs))).all_succeeded
            a_run[runs] = (calls(local).total() - calls(local)["get_app"]) / runs
    assert a_run[50] < a_run[5] <= 8


async def test_one_exec_at_a_time() -> None:
    """No machine is ever asked a second thing while it is at the first one."""
    under_way: Counter[str] = Counter()
    most: Counter[str] = Counter()

    def begins(path: str) -> None:
        under_way[path] += 1
        most[path] = max(most[path], under_way[path])

    def ends(path: str) -> None:
        under_way[path] -= 1

    faults = [Fault("exec_machine", Hook(before=begins, after=ends))]
    async with LocalFly(apps=["my-app"], box="simulated", faults=faults) as local:
        executor = ConcurrentExecutor("my-app", fly=local, rate_limits=None)
        with anyio.fail_after(30):
            assert (await executor.run_batch(requests("::tick 5 0.2", 10))).all_succeeded
    assert len(most) == 10 and set(most.values()) == {1}
