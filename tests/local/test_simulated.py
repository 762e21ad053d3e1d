from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from tests.conftest import TOKEN
from tests.local.conftest import Api, error, opened

from flaude import ConcurrentExecutor, ExecutionRequest, MachineConfig
from flaude._guest.inside.packing import compressed, pack_request
from flaude._guest.inside.pad import masked
from flaude._guest.inside.parts import name_of
from flaude._guest.messages import PROTOCOL, GuestResult, PullReply, SpoolReader, StatusReply, unpack
from flaude._guest.program import GUEST_PATH
from flaude._run.machine import START_DEADLINE, machine_spec
from flaude.events import Event, Finished, OtherOutput, Started
from flaude.local import Answer, DropAfter, Fault, LocalFly, Quirks

PAD = bytes(range(32))
SPEC = machine_spec(
    MachineConfig(claude_code_oauth_token=TOKEN, prompt="none"), metadata={}, start_deadline_s=60, pad=PAD
)
OURS = {"type", "state", "subtype", "ended_by", "job_id", "is_error", "number", "exit_code", "result", "text", "role"}
"""Names whose values are the same for the same job; of all others only what kind of value they have."""


def shape(value: Any, name: str = "") -> Any:
    """A JSON value without what differs from run to run."""
    if isinstance(value, dict):
        return {key: shape(item, key) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return sorted({json.dumps(shape(item), sort_keys=True) for item in value})
    return value if name in OURS or value is None else type(value).__name__


def job(prompt: str, **more: Any) -> dict[str, Any]:
    """A job that does what the prompt says, as it travels."""
    argv = ["claude", "-p", "--dangerously-skip-permissions", "--output-format", "stream-json", "--verbose"]
    secrets = {"CLAUDE_CODE_OAUTH_TOKEN": TOKEN}
    whole = {"protocol": PROTOCOL, "job_id": "job-1", "prompt": prompt, "argv": argv, "secrets": secrets, **more}
    hidden = masked(compressed(whole), PAD, b"nonce")
    return {"masked": base64.b64encode(hidden).decode(), "nonce": b"nonce".hex()}


class Guest:
    """The guest of one machine, real or not, over the API's exec; keeps all that it has answered."""

    def __init__(self, api: Api, machine: str) -> None:
        self.api = api
        self.machine = machine
        self.answers: list[tuple[str, Any]] = []
        self.records: list[dict[str, Any]] = []
        self._spool = SpoolReader()
        self._offset = 0

    async def exec(self, *words: str) -> dict[str, Any]:
        """One `ctl`, tried again until the supervisor is there."""
        while True:
            done = await self.api.exec(self.machine, "python3", "-I", "-S", GUEST_PATH, "ctl", *words)
            if done["exit_code"] != 75:
                return done

    async def call(self, verb: str, **request: Any) -> dict[str, Any]:
        """One verb that is answered."""
        done = await self.exec(verb, pack_request({"job_id": "job-1", **request}))
        assert done["exit_code"] == 0, done
        answer: dict[str, Any] = json.loads(done["stdout"])
        return answer

    async def tell(self, verb: str, **request: Any) -> None:
        """One verb whose answer is to be the same."""
        self.answers.append((verb, shape(await self.call(verb, **request))))

    async def start(self, prompt: str, **more: Any) -> None:
        """Hand over a job."""
        answer = await self.call("start", **job(prompt, **more))
        self.answers.append(("start", shape(answer)))
        if "pull" in answer:
            self._take(answer["pull"])

    async def pull(self) -> dict[str, Any]:
        """What is new."""
        reply = await self.call("pull", offset=self._offset, wait_s=10)
        self._take(reply)
        return reply

    def _take(self, reply: dict[str, Any]) -> None:
        PullReply.model_validate(reply)
        self.records += [record.value for record in self._spool.feed(unpack(reply["data"]))]
        self._offset = reply["next"]

    async def pull_until(self, state: str) -> None:
        """Pull until it has told of a state."""
        while not any(record.get("state") == state for record in self.records):
            await self.pull()

    async def finish(self) -> None:
        """Pull the rest, and the result."""
        while not (reply := await self.pull())["result"]:
            pass
        GuestResult.model_validate(reply["result"])
        self.answers.append(("result", shape(reply)))
        lines = [json.loads(record["line"]) for record in self.records if record["type"] == "stdout"]
        self.answers.append(("records", [shape({**record, "line": ""}) for record in self.records]))
        self.answers.append(("lines", [shape(line) for line in lines]))


async def succeeds(guest: Guest) -> None:
    """A run that does well, with all that may be asked at the wrong time."""
    await guest.tell("pull")
    await guest.tell("status")
    await guest.tell("start", protocol=99)
    await guest.start("::say one\n::tick 2 0.1\n::say two")
    await guest.tell("start", protocol=PROTOCOL, prompt="x", argv=["claude"], job_id="other")
    await guest.tell("ack")
    await guest.tell("pull", job_id="other")
    await guest.tell("fetch", name="none")
    await guest.finish()
    StatusReply.model_validate(await guest.call("status"))


async def fails(guest: Guest) -> None:
    """One that does not."""
    await guest.start("::cost 0.25\n::fail out of luck", pull={"offset": 0, "wait_s": 5})
    await guest.finish()


async def exits(guest: Guest) -> None:
    """One that says nothing at the end."""
    await guest.start("::say one\n::exit 3")
    await guest.finish()


async def is_cancelled(guest: Guest) -> None:
    """One that is stopped at work."""
    await guest.start("::say one\n::sleep 60", limits={"grace_s": 1})
    await guest.pull_until("running")
    await guest.tell("cancel", reason="no more")
    await guest.finish()


async def is_cancelled_early(guest: Guest) -> None:
    """One that is stopped before it has begun."""
    await guest.start("::say one")
    await guest.call("pull", wait_s=10)
    await guest.tell("cancel", reason="no more")
    await guest.finish()


async def is_stopped(guest: Guest) -> None:
    """One whose machine is stopped at work, and again: its result is held until the ack."""
    await guest.start("::say one\n::sleep 60")
    await guest.pull_until("running")
    for _ in range(2):
        await guest.api.call("POST", f"/machines/{guest.machine}/stop", {})
    await guest.finish()


async def is_stopped_early(guest: Guest) -> None:
    """One whose machine is stopped before it has begun."""
    await guest.start("::say one")
    await guest.call("pull", wait_s=10)
    await guest.api.call("POST", f"/machines/{guest.machine}/stop", {})
    await guest.finish()


async def is_misspelled(guest: Guest) -> None:
    """Calls that are none."""
    for words in (("dance", pack_request({})), ("pull", "{nonsense"), ("pull", "e30="), ("pull",), ("part", "x")):
        done = await guest.exec(*words)
        guest.answers.append((words[0], (done["exit_code"], sorted(json.loads(done["stdout"])))))
    await guest.start("::say one")
    await guest.finish()


async def comes_in_parts(guest: Guest) -> None:
    """A job that is longer than a call: in parts, out of order, one of them twice and one at first not at all."""
    packed = pack_request(job("::say one", pull={"offset": 0}))
    name, half = name_of(packed), len(packed) // 2
    for offset, text in ((half, packed[half:]), (0, packed[: half // 2]), (half, packed[half:])):
        guest.answers.append(("part", json.loads((await guest.exec("part", f"{name}:{offset}", text))["stdout"])))
    missing = json.loads((await guest.exec("start", f"@{name}:{len(packed)}"))["stdout"])
    assert missing == {"missing": half // 2}
    await guest.exec("part", f"{name}:{half // 2}", packed[half // 2 : half])
    for _ in range(2):  # its parts are gone by the second time
        answer = json.loads((await guest.exec("start", f"@{name}:{len(packed)}"))["stdout"])
        guest.answers.append(("start", answer["accepted"]))
    await guest.finish()


@asynccontextmanager
async def booted(box: str) -> AsyncIterator[Guest]:
    """A machine with a guest, that is acknowledged at the end and ends."""
    async with opened(box=box, quirks=Quirks(exec_while_stopping=True)) as api:
        reply = await api.call("POST", "/machines", {"config": SPEC})
        guest = Guest(api, reply.json()["id"])
        await api.reach(guest.machine, "started")
        yield guest
        await guest.tell("ack")
        await api.reach(guest.machine, "destroyed")
        guest.answers.append(("exit", (await api.exit_event(guest.machine))["exit_code"]))


SCRIPTS = [succeeds, fails, exits, is_cancelled, is_cancelled_early, is_stopped, is_stopped_early]
SCRIPTS += [is_misspelled, comes_in_parts]


@pytest.mark.parametrize("script", SCRIPTS)
async def test_a_simulated_guest_answers_as_the_real_one(script: Any) -> None:
    """For the same job both give the same answers, states, lines, result and exit code."""
    told: dict[str, Any] = {}

    async def run(box: str) -> None:
        async with booted(box) as guest:
            await script(guest)
        told[box] = guest.answers

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, "plain")
        tasks.start_soon(run, "simulated")
    assert told["simulated"] == told["plain"]


async def test_a_batch_on_simulated_machines() -> None:
    """Each of many runs at once has its lines, its result and its exit code, and nothing is written to the disk."""
    seen: list[Event] = []
    async with LocalFly(apps=["my-app"], box="simulated") as fly:
        executor = ConcurrentExecutor("my-app", fly=fly, rate_limits=None, on_event=seen.append)
        prompts = ["::tick 2 0.1\n::say %d", "::fail %d", "no %d\n::exit 7", "::cost 0.5\n::say %d", "plain text %d"]
        batch = await executor.run_batch(
            ExecutionRequest(MachineConfig(claude_code_oauth_token=TOKEN, prompt=prompts[n % 5] % n), tag=str(n))
            for n in range(20)
        )
        assert (fly.alive, fly.peak_alive) == (0, 20)
        assert list((fly.folder / "machines").iterdir()) == []
    for n, result in enumerate(batch.results):
        run = result.run_result
        assert run is not None and (run.exit_code, result.success) == ((0, 1, 7, 0, 0)[n % 5], n % 5 not in (1, 2))
        if n % 5 in (0, 3):
            assert run.text == str(n) and run.session_id
    output = [event for event in seen if isinstance(event, OtherOutput)]
    ticks = [event.tag for event in output if isinstance(event.line, dict) and event.line["type"] == "tick"]
    assert sorted(ticks) == sorted([str(n) for n in range(0, 20, 5)] * 2)
    assert batch.results[3].run_result is not None and batch.results[3].run_result.cost_usd == 0.5


async def test_leaving_the_loop_stops_simulated_agents() -> None:
    """A batch that is left early ends the agents that are still at work, and their machines."""
    async with LocalFly(apps=["my-app"], box="simulated") as fly:
        started = anyio.Event()
        seen: list[Event] = []

        def take(event: Event) -> None:
            seen.append(event)
            if isinstance(event, Started):
                started.set()

        executor = ConcurrentExecutor("my-app", fly=fly, rate_limits=None, on_event=take)
        config = MachineConfig(claude_code_oauth_token=TOKEN, prompt="::sleep 600")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(executor.run_one, config)
            await started.wait()
            tasks.cancel_scope.cancel()
        (end,) = [event for event in seen if isinstance(event, Finished)]
        assert (end.result.failure and end.result.failure.kind, fly.alive) == ("cancelled", 0)
        assert end.result.run_result is not None and end.result.run_result.exit_code == 130


async def test_a_simulated_machine_that_is_not_acknowledged_ends_by_itself() -> None:
    """Whoever lets go of a finished run leaves no machine: it ends when nobody has acknowledged it for its time."""
    async with opened(box="simulated") as api:
        reply = await api.call("POST", "/machines", {"config": SPEC})
        guest = Guest(api, reply.json()["id"])
        await api.reach(guest.machine, "started")
        await guest.start("::say done", limits={"linger_s": 0.3})
        await guest.finish()
        await api.reach(guest.machine, "destroyed")
        assert (await api.exit_event(guest.machine))["exit_code"] == 0


async def test_a_simulated_machine_that_is_stopped_holds_its_result_for_a_time() -> None:
    """A stopped machine that nobody acknowledges ends before it is killed; one without a job at once, both with 0."""
    async with opened(box="simulated", quirks=Quirks(exec_while_stopping=True)) as api:
        guests = [Guest(api, (await api.call("POST", "/machines", {"config": SPEC})).json()["id"]) for _ in range(2)]
        for guest in guests:
            await api.reach(guest.machine, "started")
        await guests[0].start("::sleep 600", limits={"stop_hold_s": 1.5})
        await guests[0].pull_until("running")
        for guest in guests:
            await api.call("POST", f"/machines/{guest.machine}/stop", {})
        await guests[0].finish()
        for guest in guests:
            await api.reach(guest.machine, "destroyed")
            assert (await api.exit_event(guest.machine))["exit_code"] == 0


async def test_a_simulated_machine_without_a_controller_ends_by_itself() -> None:
    """Without a job, and without a controller that pulls, it ends when its clocks run out."""
    async with opened(box="simulated") as api:
        short = {**SPEC, "env": {START_DEADLINE: "0.3"}}
        unwanted = (await api.call("POST", "/machines", {"config": short})).json()["id"]
        await api.reach(unwanted, "destroyed")
        assert (await api.exit_event(unwanted))["exit_code"] == 0
        guest = Guest(api, (await api.call("POST", "/machines", {"config": SPEC})).json()["id"])
        await api.reach(guest.machine, "started")
        await guest.start("::sleep 600", limits={"orphan_s": 0.5})
        await guest.pull_until("running")
        await api.reach(guest.machine, "destroyed")
        assert (await api.exit_event(guest.machine))["exit_code"] == 0


async def test_a_simulated_machine_of_another_kind() -> None:
    """One without flaude's guest runs for as long as the prompt in its environment says, and knows no command."""
    async with opened(box="simulated") as api:
        body = {"config": {"image": "x", "auto_destroy": True, "env": {"FLAUDE_PROMPT": "::sleep 0.2"}}}
        machine = (await api.call("POST", "/machines", body)).json()["id"]
        await api.reach(machine, "started")
        assert "Rejection([ExecError" in (await api.exec(machine, "ls"))["stdout"]
        await api.reach(machine, "destroyed")
        assert (await api.exit_event(machine))["exit_code"] == 0
        idle = await api.started()
        assert error(await api.call("POST", f"/machines/{idle}/exec", {"command": ["a\0b"]}))[0] == 400
        await api.call("POST", f"/machines/{idle}/stop", {})
        await api.reach(idle, "stopped")
        assert (await api.exit_event(idle))["signal"] == 2


async def test_faults_strike_simulated_machines_too() -> None:
    """Lost answers and errors happen to calls of simulated machines as to those of others, and cost no run."""
    faults = [Fault("exec_machine", DropAfter(), chance=0.2), Fault("exec_machine", Answer(503), chance=0.1)]
    async with LocalFly(apps=["my-app"], box="simulated", faults=faults, seed=4) as fly:
        executor = ConcurrentExecutor("my-app", fly=fly, rate_limits=None)
        config = MachineConfig(claude_code_oauth_token=TOKEN, prompt="::say done")
        batch = await executor.run_batch(ExecutionRequest(config) for _ in range(10))
        assert batch.all_succeeded and fly.faults.struck.total() > 5 and fly.alive == 0
