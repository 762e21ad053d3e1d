"""What is kept of Fly's side of a run: request ids, the exit event, and a debug line per transition."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from tests.conftest import TOKEN
from tests.providers.fly.conftest import SLEEPER

from flaude import ConcurrentExecutor, ExecutionRequest, FailureKind, FlyRequest, MachineConfig, Timeouts
from flaude._model.codec import dump_result, load_result
from flaude._model.errors import InvalidRequestError, UnreachableError
from flaude._model.run_result import ExitEvent
from flaude._providers.fly import FlyClient, Machine
from flaude._providers.fly.calls import Call
from flaude._providers.fly.provider_record import ProviderRecord
from flaude._recovery.records import read_batch
from flaude._run.checkpoint import dump_checkpoint, load_checkpoint
from flaude._run.state import AttemptState, Step
from flaude.cli.commands.logs import logs
from flaude.cli.text.log_lines import provider_lines
from flaude.events import Event, Queued, Started
from flaude.journal import MemoryJournal, SqliteJournal
from flaude.local import Answer, Dies, Fault, LocalFly, Quirks

QUICK = Timeouts(patience=5, retry=0.1, grace=0.5)


@pytest.fixture
async def local() -> AsyncIterator[LocalFly]:
    """Simulated machines: what is looked at is the API's side."""
    async with LocalFly(apps=["my-app"], box="simulated") as fly:
        yield fly


def request(prompt: str) -> ExecutionRequest:
    """One for the simulated agent."""
    return ExecutionRequest(MachineConfig(claude_code_oauth_token=TOKEN, prompt=prompt), tag="one")


async def test_a_run_that_ends_well(local: LocalFly) -> None:
    """The create's id is kept, and nobody asks Fly how the machine ended."""
    executor = ConcurrentExecutor("my-app", fly=local, rate_limits=None)
    result = await executor.run_one(request("::say here").config)
    (attempt,) = result.attempts
    (create,) = attempt.requests
    assert result.success and (create.method, create.path, create.status) == ("POST", "/apps/my-app/machines", 200)
    assert re.fullmatch("[0-9A-Z]{26}-local", create.id) and attempt.exit_event is None
    assert local.requests["get_machine", 200] == 0


async def test_calls_that_failed(local: LocalFly) -> None:
    """A refused create is kept with its id and status; the attempt that made the machine has its own."""
    local.faults.add(Fault("exec_machine", Answer(500, "internal"), times=3))
    executor = ConcurrentExecutor("my-app", fly=local, rate_limits=None, timeouts=QUICK)
    result = await executor.run_one(request("::say here").config)
    assert result.success, result.failure
    # What a fault answers has no id, as that of a gateway: it is left out.
    assert [one.status for one in result.attempts[0].requests] == [200]
    refused = await executor.run_one(MachineConfig(claude_code_oauth_token=TOKEN, prompt="x", region="zzz"))
    (attempt,) = refused.attempts
    assert [one.status for one in attempt.requests] == [400] and attempt.requests[0].id


async def test_creates_that_found_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ids of the refusals are kept while the run waits, also for who resumes it, and beside the create's own."""
    monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", TOKEN)
    requests = [ExecutionRequest(MachineConfig(prompt="::say here"), tag="one")]
    quirks = Quirks(machine_limit=1, young_app_s=0)
    async with (
        MemoryJournal() as journal,
        LocalFly(apps=["my-app"], box="simulated", quirks=quirks) as fly,
        FlyClient(base_url=fly.base_url, token=fly.token) as client,
    ):
        theirs = await client.create_machine("my-app", name="theirs", config=SLEEPER)
        waiting = list[Queued]()
        with anyio.CancelScope() as scope:

            def stop(event: Event) -> None:
                if isinstance(event, Queued):
                    waiting.append(event)
                if len(waiting) == 3:  # queued, and twice again
                    scope.cancel()

            await ConcurrentExecutor("my-app", fly=fly, journal=journal, on_event=stop).run_batch(requests)
        await client.delete_machine("my-app", theirs.id, force=True)
        await client.wait_machine("my-app", theirs.id, state="destroyed", timeout_s=10)
        batch = await ConcurrentExecutor("my-app", fly=fly, journal=journal).resume(waiting[0].batch)
    (attempt,) = batch.results[0].attempts
    assert batch.all_succeeded and [one.status for one in attempt.requests] == [422, 422, 200]


async def test_the_exit_event(local: LocalFly) -> None:
    """Of a machine that ended by itself, as Fly has shown it; through JSON and back nothing of it is lost."""
    local.faults.add(Fault("create_machine", Dies(after_s=0.5, oom=True)))
    executor = ConcurrentExecutor("my-app", fly=local, rate_limits=None, timeouts=QUICK, retries=0)
    result = await executor.run_one(request("::silent").config)
    (attempt,) = result.attempts
    assert result.failure is not None and result.failure.kind is FailureKind.OOM
    event = attempt.exit_event
    assert event is not None and event.oom_killed and event.exited_at is not None
    assert load_result(json.loads(json.dumps(dump_result(result)))).attempts == result.attempts


async def test_how_much_is_kept() -> None:
    """However many calls fail: the first creates and the last one, and the last failures, each once."""
    record = ProviderRecord()
    call = Call("create_machine", "my-app", "POST", "/apps/my-app/machines")
    for number in range(9):
        record.heard(call, 500, f"create-{number}")
    for number in range(40):
        for _ in range(2):
            record.failed(UnreachableError("x", method="GET", path="/x", status=500, request_id=f"r{number}"))
    record.failed(InvalidRequestError("x", method="GET", path="/x", status=400))
    assert [one.id for one in record.requests] == [
        *(f"create-{number}" for number in (0, 1, 2, 8)),
        *(f"r{number}" for number in range(24, 40)),
    ]
    assert ProviderRecord(record.requests).requests == record.requests


async def test_a_controller_that_is_gone() -> None:
    """What it had heard is in the checkpoint, for whoever takes the run up; an older one has nothing of it."""
    record = ProviderRecord([FlyRequest(id="r1", method="POST", path="/apps/my-app/machines", status=200)])
    exited = {"exit_event": {"exit_code": 137, "oom_killed": True, "signal": 9, "exited_at": 1653047897299}}
    record.ended(Machine.model_validate({"id": "m", "events": [{"type": "exit", "request": exited}]}))
    kept = json.loads(
        json.dumps(dump_checkpoint(1, AttemptState(step=Step.PULL), 0, {}, (), "my-app", provider=record))
    )
    left = load_checkpoint(kept, None)
    assert left.requests == record.requests and left.exit_event == record.exit_event
    assert left.exit_event is not None and (left.exit_event.exit_code, left.exit_event.signal) == (137, 9)
    del kept["requests"], kept["exit_event"]
    assert load_checkpoint(kept, None).requests == () and load_checkpoint(kept, None).exit_event is None


async def test_logs_show_it(
    local: LocalFly, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`flaude logs` has the machine, the ids and the exit event, at the end."""
    monkeypatch.setenv("FLAUDE_HOME", str(tmp_path))
    local.faults.add(Fault("create_machine", Dies(after_s=0.5, oom=True)))
    async with SqliteJournal(tmp_path) as journal:
        executor = ConcurrentExecutor("my-app", fly=local, journal=journal, timeouts=QUICK, retries=0)
        (result,) = (await executor.run_batch([request("::silent")])).results
    assert await logs("last", "one") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[fly]")]
    (attempt,) = result.attempts
    assert lines[0] == f"[fly] attempt 1: machine {attempt.machine_id} in {attempt.region}"
    assert lines[1] == f"[fly] request {attempt.requests[0].id}: POST /apps/my-app/machines -> 200"
    assert re.fullmatch(r"\[fly\] exit event: exit code \d+, signal 9, out of memory, at .* UTC", lines[-1]), lines


async def test_logs_of_a_run_that_goes_on(local: LocalFly) -> None:
    """They are read from where its controller has left it."""
    async with MemoryJournal() as journal:
        executor = ConcurrentExecutor("my-app", fly=local, journal=journal, rate_limits=None)
        launched = await executor.launch([request("::silent")])
        found = await read_batch(journal, launched.id)
        first, second = await provider_lines(found, found.runs[0])
        assert first.startswith(f"[fly] attempt 1: machine {local.created[0]}") and second.endswith("machines -> 200")
        await executor.cancel(launched.id, [request("::silent")])


async def test_each_transition_is_a_debug_line(local: LocalFly, caplog: pytest.LogCaptureFixture) -> None:
    """Machine, step and next step, and what was seen; neither a secret nor a word of the prompt."""
    caplog.set_level(logging.DEBUG, logger="flaude.run")
    seen: list[Event] = []
    executor = ConcurrentExecutor("my-app", fly=local, rate_limits=None, on_event=seen.append)
    batch = await executor.run_batch([request("::say a secret word")])
    lines = [record.getMessage() for record in caplog.records if record.name == "flaude.run"]
    name = batch.results[0].attempts[0].name
    assert [line.removeprefix(f"{name}: ") for line in lines if "GuestEntered" not in line] == [
        "create -> boot, Created",
        "boot -> start, Booted",
        "start -> pull, Accepted",
        "pull -> fetch, GuestDone",
        "fetch -> ack, Fetched",
        "ack -> destroy, Acked",
        "destroy -> done, Destroyed",
    ]
    assert any(isinstance(event, Started) for event in seen)
    assert {record.levelno for record in caplog.records if record.name == "flaude.run"} == {logging.DEBUG}
    assert "secret word" not in "".join(lines) and TOKEN not in "".join(lines)


def test_what_fly_shows_without_an_event() -> None:
    """A machine without an exit event leaves what is known as it is."""
    known = ExitEvent(exit_code=1)
    record = ProviderRecord((), known)
    record.ended(Machine.model_validate({"id": "m"}))
    assert record.exit_event is known
