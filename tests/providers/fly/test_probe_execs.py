"""The probe's points in one machine, when single answers are not Fly's word on the point."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.conftest import Machines
from tests.support.openapi import check_exchange

from flaude._providers.fly import FlyClient
from flaude._providers.fly.probe import in_machine
from flaude._providers.fly.probe.asking import Asking, NotMeasuredError
from flaude._providers.fly.probe.execs import Execs
from flaude._providers.fly.probe.machines import ProbeMachines
from flaude._providers.fly.probe.plan import Plan
from flaude.local import Answer, Fault, LocalFly, Quirks
from flaude.local.middleware import Exchange

PLAN = Plan(longest=((2.0, 3), (1.0, 2)), egress=("127.0.0.1", 9))
"""Port 9 of this computer has no server: nothing is asked of the internet."""


@asynccontextmanager
async def measured(
    machines: Machines, plan: Plan = PLAN, **options: Any
) -> AsyncIterator[tuple[LocalFly, Execs, Asking, str]]:
    """A machine that has started, with what measures its points."""
    async with (
        machines(**options) as fly,
        FlyClient(base_url=fly.base_url, token=fly.token, rate_limits=None) as client,
    ):
        made = ProbeMachines(client, "my-app", plan, [])
        with anyio.fail_after(40):
            async with made.open():
                machine, _ = await made.create("measured", await made.measured_config())
                assert await client.wait_machine("my-app", machine.id, state="started")
                asking = Asking(client, "my-app")
                yield fly, Execs(asking, machine.id, plan), asking, machine.id


def strike(fly: LocalFly, answer: Answer, times: int | None = 1, after: int = 0) -> None:
    """From now on execs are answered so."""
    fly.faults.clear()
    fly.faults.add(Fault("exec_machine", answer, times=times, after=after))


async def test_only_a_refused_timeout_makes_timeouts_shorter(machines: Machines) -> None:
    """A 400 about something else says nothing about how long an exec may take; one that names the timeout halves it."""
    sent: list[int] = []

    def note(exchange: Exchange) -> None:
        check_exchange(exchange)
        if exchange.path.endswith("/exec") and exchange.status == 200:
            sent.append(exchange.request["timeout"])

    async with measured(machines, on_exchange=note) as (fly, _, asking, machine):
        body = {"command": ["true"], "timeout": 10}
        strike(fly, Answer(400, "invalid_argument: something else"))
        assert (await asking.exec_body(machine, body)).status == 400
        assert (await asking.exec_body(machine, body)).ran and sent == [10]
        strike(fly, Answer(400, "timeout must not exceed 5 seconds"))
        assert (await asking.exec_body(machine, body)).ran and sent == [10, 5]


@pytest.mark.parametrize(
    ("answer", "recognised"),
    [
        (Answer(422, "the request is too large"), True),
        (Answer(413), True),
        (Answer(200, body='{"stdout": "Unhandled rejection: Rejection([PayloadTooLarge])"}'), True),
        (Answer(200, body='{"stdout": "Unhandled rejection: Rejection([Other])"}'), False),
        (Answer(422, "words that nobody knows"), False),
    ],
)
async def test_a_refused_body_is_recognised_as_a_run_would(
    machines: Machines, answer: Answer, recognised: bool
) -> None:
    """Whether a refusal is known as "too large" is decided where runs decide it."""
    async with measured(machines) as (fly, execs, _, _):
        strike(fly, answer, after=1)
        found = await execs.body()
    assert (found["largest"], found["refused"], found["recognised"]) == (*PLAN.bodies[:2], recognised)


@pytest.mark.parametrize("answer", [Answer(502, "bad gateway"), Answer(401, "unauthorized")])
async def test_a_blip_says_nothing_about_how_long_an_exec_may_take(machines: Machines, answer: Answer) -> None:
    """A call that fails at once is made again, and is no measurement when it fails at once again."""
    async with measured(machines) as (fly, execs, _, _):
        strike(fly, answer)
        assert await execs.longest() == {"asked_s": 2.0, "refused": [], "works_s": 2.0}
        strike(fly, answer, times=2)
        with pytest.raises(NotMeasuredError, match=answer.error):
            await execs.longest()


async def test_a_call_that_is_cut_off_is_measured(machines: Machines) -> None:
    """Fly's 408 after a second tells how long an exec may take."""
    plan = Plan(longest=((2.0, 1),), egress=PLAN.egress)
    async with measured(machines, plan) as (_, execs, _, _):
        found = await execs.longest()
    assert found["works_s"] is None and 0.9 < found["ended_s"] < 2.0 and found["answer"].startswith("408 ")


@pytest.mark.parametrize("answer", [Answer(502, "bad gateway"), Answer(401, "unauthorized")])
async def test_a_single_failure_is_not_taken_for_fly_s_way(machines: Machines, answer: Answer) -> None:
    """An exec that fails once is asked for again before its answer is told as how Fly is."""
    async with measured(machines) as (fly, execs, _, _):
        strike(fly, answer)
        assert (await execs.codes())["exit_75"]["exit_code"] == 75
        strike(fly, answer, after=1)
        assert (await execs.codes())["kill_9"]["exit_signal"] == 9
        strike(fly, answer)
        assert "ExecError" in (await execs.missing_program())["text"]
        strike(fly, answer)
        assert (await execs.timeout())["status"] == 400


async def test_shorter_outputs_are_tried_until_one_arrives(machines: Machines) -> None:
    """An output that fails or is cut is halved until one arrives whole; when none does nothing is measured."""
    largest = PLAN.outputs[0]
    async with measured(machines) as (fly, execs, _, _):
        strike(fly, Answer(502, "bad gateway"), times=4)  # each is asked for twice
        found = await execs.output()
        assert found == {"largest": largest // 4, "asked": largest // 2, "error": found["error"]}
        assert "502" in found["error"]
        strike(fly, Answer(502, "bad gateway"), times=None)
        with pytest.raises(NotMeasuredError, match="502"):
            await execs.output()
        fly.faults.clear()
    async with measured(machines, quirks=Quirks(largest_exec_output=20_000)) as (_, execs, _, _):
        assert await execs.output() == {"largest": largest // 2, "asked": largest, "cut_at": 20_000}


def test_a_stop_is_measured_and_not_the_machine_s_own_deadline(tmp_path: Path) -> None:
    """From a signal on the program in the machine lives as long as it says, though its deadline comes before that."""
    program = tmp_path / "probe.py"
    program.write_bytes(Path(in_machine.__file__).read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        host, port = server.getsockname()
        argv = [sys.executable, "-I", "-S", str(program), "live", "1", "2", host, str(port)]
        with subprocess.Popen(argv) as process:
            server.accept()[0].close()  # it has its signal handlers by then
            signalled = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
    assert time.monotonic() - signalled >= 2.0
