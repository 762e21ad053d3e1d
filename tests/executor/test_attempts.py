"""Faults of Fly's: what is waited out, what is tried again on a new machine, what is said when nothing helps."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.to_thread
import pytest
from tests.conftest import TOKEN, Machines
from tests.support.gate import Gate

from flaude import (
    BatchResult,
    ConcurrentExecutor,
    ConfigError,
    ExecutionRequest,
    FailureKind,
    MachineConfig,
    Phase,
    Retries,
    Timeouts,
)
from flaude._executor.event_delivery import EventHandler
from flaude._providers.fly import FlyClient
from flaude.events import AssistantText, Destroyed, Event, Notice, PhaseBegan, Retried
from flaude.local import (
    Answer,
    Dies,
    DropAfter,
    DropBefore,
    Fault,
    Hang,
    ListLag,
    LocalFly,
    SlowDelete,
    Truncate,
)

NO_ROOM = Answer(409, "aborted: could not reserve resource for machine: insufficient memory available")
SOON = Retries(wait=0.1)
AT_ONCE = Timeouts(capacity=0)  # nobody waits for room


async def run(fly: LocalFly, prompt: str = "::say done", **options: Any) -> BatchResult:
    """A batch of one."""
    executor = ConcurrentExecutor("my-app", fly=fly, **{"retries": SOON, **options})
    return await executor.run_batch([ExecutionRequest(MachineConfig(claude_code_oauth_token=TOKEN, prompt=prompt))])


def kinds(batch: BatchResult) -> list[FailureKind | None]:
    """Why each attempt of the one run failed."""
    return [attempt.failure.kind if attempt.failure else None for attempt in batch.results[0].attempts]


async def test_no_capacity_is_tried_again(local: LocalFly) -> None:
    """Where nobody waits for room, another attempt may find some; all are in the result, by names of their own."""
    told: list[int] = []

    def watch(event: Event) -> None:
        if isinstance(event, Retried) and event.failure.kind is FailureKind.CAPACITY:
            told.append(event.attempt)

    local.faults.add(Fault("create_machine", NO_ROOM, times=2))
    batch = await run(local, on_event=watch, timeouts=AT_ONCE)
    (result,) = batch.results
    assert result.success and result.run_result is not None
    assert kinds(batch) == [FailureKind.CAPACITY, FailureKind.CAPACITY, None]
    assert result.run_result.attempts == result.attempts
    first, second, third = result.attempts
    assert [first.number, second.number, third.number] == [1, 2, 3]
    assert (second.name, third.name) == (f"{first.name}-a2", f"{first.name}-a3")
    assert first.gone and first.machine_id == "" and third.machine_id == local.created[0]
    assert told == [1, 2]
    assert len(local.created) == 1


async def test_the_last_attempt_counts(local: LocalFly) -> None:
    """When no attempt helps, the last failure is the run's, and there is nothing to destroy."""
    local.faults.add(Fault("create_machine", NO_ROOM))
    batch = await run(local, timeouts=AT_ONCE)
    assert kinds(batch) == [FailureKind.CAPACITY] * 3
    failure = batch.results[0].failure
    assert failure is not None and (failure.kind, failure.phase) == (FailureKind.CAPACITY, Phase.CREATE)
    assert failure.retryable
    assert batch.leftovers == [] and local.created == []


@pytest.mark.parametrize("retries", [0, Retries(more=0), Retries(kinds=frozenset())], ids=["0", "more", "kinds"])
async def test_retries_can_be_forbidden(local: LocalFly, retries: Any) -> None:
    """With no retries the first attempt is the only one."""
    local.faults.add(Fault("create_machine", NO_ROOM, times=1))
    assert kinds(await run(local, retries=retries, timeouts=AT_ONCE)) == [FailureKind.CAPACITY]


async def test_a_machine_lost_before_its_agent_began_is_replaced(local: LocalFly) -> None:
    """A machine that dies while it clones costs nothing but time: the run goes on on a new one, and brought nothing."""
    local.faults.add(Fault("exec_machine", Answer(503), times=6), Fault("create_machine", Dies(0.3), times=1))
    batch = await run(local)
    assert batch.all_succeeded, batch
    assert kinds(batch) == [FailureKind.MACHINE_LOST, None]
    assert len(local.created) == 2 and batch.leftovers == []
    assert batch.results[0].superseded == ()


def says(begun: anyio.Event) -> EventHandler:
    """Sets it when the agent has said something."""

    def take(event: Event) -> None:
        if isinstance(event, AssistantText):
            begun.set()

    return take


async def test_a_machine_lost_after_its_agent_began_is_not_replaced(local: LocalFly, gate: Gate) -> None:
    """Once the agent has started its prompt is not given to another one, unless that was asked for."""
    begun = anyio.Event()
    local.faults.add(Fault("create_machine", Dies(when=begun.wait), times=1))
    batch = await run(local, "::say begun\n::silent", on_event=says(begun))
    assert kinds(batch) == [FailureKind.MACHINE_LOST]
    assert batch.results[0].attempts[0].failure is not None
    assert "137" in batch.results[0].attempts[0].failure.message
    local.faults.clear()
    begun = anyio.Event()

    async def watch(event: Event) -> None:
        if isinstance(event, AssistantText):
            begun.set()
        if isinstance(event, Retried):
            await anyio.to_thread.run_sync(gate.open)

    local.faults.add(Fault("create_machine", Dies(when=begun.wait), times=1))
    again = Retries(after_start=True, wait=0.1)
    batch = await run(local, f"::say begun\n{gate.waits}", retries=again, on_event=watch)
    assert kinds(batch) == [FailureKind.MACHINE_LOST, None]
    assert batch.all_succeeded
    (superseded,) = batch.results[0].superseded
    first, second = batch.results[0].attempts
    assert (superseded.machine_id, superseded.attempts, superseded.failure) == (
        first.machine_id,
        (first,),
        first.failure,
    )
    assert superseded.machine_seconds == first.machine_seconds > 0 and second.machine_id != first.machine_id


async def test_out_of_memory_has_its_own_name(local: LocalFly) -> None:
    """A machine that ran out of memory is `oom`, told from a machine that was lost, and says what helps."""
    begun = anyio.Event()
    local.faults.add(Fault("create_machine", Dies(oom=True, when=begun.wait)))
    batch = await run(local, "::say begun\n::silent", on_event=says(begun))
    assert kinds(batch) == [FailureKind.OOM]
    failure = batch.results[0].failure
    assert failure is not None and "vm_size" in failure.message and not failure.retryable


@pytest.mark.parametrize(
    "effect", [DropAfter(), Truncate(), Answer(502, body="<html>")], ids=lambda e: type(e).__name__
)
async def test_a_create_that_is_not_answered_is_sent_again(local: LocalFly, effect: Any) -> None:
    """However often a create's answer is lost, there is one machine, and it is ours."""
    local.faults.add(Fault("create_machine", effect, times=3))
    batch = await run(local)
    assert batch.all_succeeded and kinds(batch) == [None]
    assert len(local.created) == 1


async def test_a_create_that_nobody_ever_answers_is_looked_for(local: LocalFly) -> None:
    """A machine whose create was never answered is found by its metadata, though the list lags, and destroyed."""
    local.faults.add(
        Fault("create_machine", DropAfter(), times=1),
        Fault("create_machine", Answer(503, "unavailable")),
        Fault("list_machines", ListLag(3600), times=1),
    )
    batch = await run(local, timeouts=Timeouts(patience=1, retry=0.5), retries=0)
    assert kinds(batch) == [FailureKind.API]
    assert len(local.created) == 1 and local.alive == 0
    assert batch.results[0].attempts[0].machine_id == local.created[0]
    assert batch.leftovers == []


async def test_what_is_not_found_is_named(local: LocalFly) -> None:
    """An empty list proves nothing: a create that may have been done is a leftover, by name, until somebody knows."""
    local.faults.add(
        Fault("create_machine", DropAfter(), times=1),
        Fault("create_machine", Answer(503, "unavailable")),
        Fault("list_machines", ListLag(3600)),
    )
    timeouts = Timeouts(patience=1, retry=0.5, destroy=2, start_deadline=4)
    batch = await run(local, timeouts=timeouts, retries=0)
    assert batch.results[0].run_result is None
    (leftover,) = batch.leftovers
    assert (leftover.name, leftover.machine_id) == (batch.results[0].attempts[0].name, "")
    assert "id unknown" in str(leftover)
    # Nobody can hand it a job any more: it ends by its start deadline.
    async with FlyClient(base_url=local.base_url, token=local.token) as fly:
        assert await fly.wait_machine("my-app", local.created[0], state="destroyed", timeout_s=30)


async def test_what_keeps_a_machine_from_being_found_is_said_once(
    local: LocalFly, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often its machine is looked for."""
    monkeypatch.setattr("flaude._run.driver.jitter", lambda _seconds: 0.01)
    local.faults.add(Fault("create_machine", DropBefore()), Fault("list_machines", Answer(503)))
    heard: list[Event] = []
    timeouts = Timeouts(patience=0.2, retry=0.1, destroy=2)
    await run(local, timeouts=timeouts, retries=0, rate_limits=None, on_event=heard.append)
    assert local.requests["list_machines", 503] > 2
    notices = [event.text for event in heard if isinstance(event, Notice)]
    assert len([text for text in notices if text.startswith("looking for machine")]) == 1


async def test_what_was_surely_not_done_is_no_leftover(local: LocalFly) -> None:
    """A create that was refused every time leaves nothing to worry about."""
    local.faults.add(Fault("create_machine", Answer(429, "resource_exhausted: rate limit exceeded")))
    batch = await run(local, timeouts=Timeouts(patience=1, retry=0.5), retries=0)
    assert kinds(batch) == [FailureKind.API]
    assert batch.leftovers == [] and local.created == []


@pytest.mark.parametrize("answer", [Answer(429, "rate limit"), Answer(503)], ids=["429", "503"])
async def test_a_create_whose_machine_cannot_be_seen(local: LocalFly, answer: Answer) -> None:
    """A name that is taken after a lost answer is ours, maybe: what cannot be looked at is looked for, and named."""
    local.faults.add(Fault("create_machine", DropAfter(), times=1), Fault("get_machine", answer, times=40))
    batch = await run(local, timeouts=Timeouts(retry=1, patience=2, destroy=3), retries=0)
    assert kinds(batch) == [FailureKind.API]
    assert [leftover.machine_id for leftover in batch.leftovers] == local.created
    assert len(local.created) == 1


async def test_a_lost_create_and_then_a_refusal(local: LocalFly) -> None:
    """That Fly has no room now does not mean that it had none for the create before, whose answer was lost."""
    local.faults.add(
        Fault("create_machine", DropAfter(), times=1),
        Fault("create_machine", NO_ROOM, times=1),
    )
    batch = await run(local)
    assert batch.all_succeeded and kinds(batch) == [None], "the machine that was there is the run's"
    local.faults.clear()
    local.faults.add(
        Fault("create_machine", DropAfter(), times=1),
        Fault("create_machine", NO_ROOM, times=1),
        Fault("list_machines", Answer(403, "unauthorized"), times=1),
    )
    batch = await run(local)
    assert batch.all_succeeded and kinds(batch) == [None], "a list that is refused is asked for again"
    assert len(local.created) == 2 and local.alive == 0


async def test_waiting_for_ones_turn_is_no_failure(local: LocalFly) -> None:
    """A create that has waited for Fly's rate limit costs nothing until then, and is not given up at its first blip."""
    local.faults.add(Fault("create_machine", Answer(503), after=5, times=2))
    executor = ConcurrentExecutor("my-app", fly=local, timeouts=Timeouts(retry=0.1, patience=2.5), retries=0)
    config = MachineConfig(claude_code_oauth_token=TOKEN, prompt="::say done")
    batch = await executor.run_batch([ExecutionRequest(config)] * 6)
    assert batch.all_succeeded, batch
    times = [result.run_result.times for result in batch.results if result.run_result]
    waits = [(one.create - one.queued).total_seconds() for one in times if one.create and one.queued]
    assert len(waits) == 6 and max(waits) > 2, "the wait is no part of the machine's time"


async def test_an_outage_at_the_very_beginning_is_waited_out(local: LocalFly) -> None:
    """The first call of all is as patient as those of a run, and what it ends in has a failure's kind."""
    local.faults.add(Fault("get_app", Answer(503), times=3))
    assert (await run(local, timeouts=Timeouts(retry=0.2))).all_succeeded
    local.faults.add(Fault("get_app", Answer(503)))
    batch = await run(local, timeouts=Timeouts(retry=0.2, patience=0.5))
    failure = batch.results[0].failure
    assert failure is not None and (failure.kind, failure.phase) == (FailureKind.API, Phase.QUEUED)
    assert failure.retryable and "503" in failure.message


async def test_a_guest_that_is_never_reached(local: LocalFly) -> None:
    """An exec that finds no machine, though Fly shows one that runs, does not last longer than a boot may."""
    local.faults.add(Fault("exec_machine", Answer(404, "not_found: machine not found")))
    with anyio.fail_after(40):
        batch = await run(local, timeouts=Timeouts(boot=3), retries=0)
    assert kinds(batch) == [FailureKind.BOOT_TIMEOUT]
    assert batch.leftovers == []


async def test_a_blip_longer_than_a_call_is_waited_out(local: LocalFly) -> None:
    """An outage longer than the retries of a single call, at every step, does not end the run."""
    actions = ("create_machine", "wait_machine", "exec_machine")
    local.faults.add(*(Fault(action, DropBefore(), times=5) for action in actions))
    local.faults.add(Fault("exec_machine", Answer(500), after=1, times=5))
    batch = await run(local, timeouts=Timeouts(retry=0.3))
    assert batch.all_succeeded, batch
    assert len(local.created) == 1


async def test_an_exec_that_never_answers(local: LocalFly) -> None:
    """A call that hangs is given up by itself and sent again; the guest takes the same job once."""
    local.faults.add(Fault("exec_machine", Hang(), times=1), Fault("exec_machine", Hang(), after=3, times=1))
    batch = await run(local, timeouts=Timeouts(request=1))
    assert batch.all_succeeded, batch
    assert len(local.created) == 1


NO_WAY_IN = Fault("exec_machine", Answer(400, "invalid_argument: no"))
"""Without its ack a guest does not exit by itself: its machine needs the delete."""


async def test_a_slow_delete_is_waited_for(local: LocalFly) -> None:
    """That a delete was accepted does not mean that it is done: the run ends when the machine has."""
    local.faults.add(NO_WAY_IN, Fault("delete_machine", SlowDelete(3)))
    batch = await run(local)
    assert kinds(batch) == [FailureKind.API] * 3
    assert local.alive == 0 and batch.leftovers == []
    assert local.faults.struck["delete_machine", "SlowDelete"] == 3


async def test_a_delete_that_outlasts_the_patience_is_named(machines: Machines) -> None:
    """A machine that is not gone in time is told by an event, by its attempt and by the batch's `leftovers`."""
    heard: list[Event] = []
    async with machines(faults=[NO_WAY_IN, Fault("delete_machine", SlowDelete(4))]) as fly:
        batch = await run(fly, timeouts=Timeouts(destroy=1), retries=0, on_event=heard.append)
        assert [event.confirmed for event in heard if isinstance(event, Destroyed)] == [False]
        (result,) = batch.results
        assert result.run_result is not None
        assert not result.run_result.destroyed and not result.attempts[0].gone
        assert [leftover.machine_id for leftover in batch.leftovers] == fly.created
        async with FlyClient(base_url=fly.base_url, token=fly.token) as client:
            assert await client.wait_machine("my-app", fly.created[0], state="destroyed", timeout_s=30)


async def test_a_new_machine_that_nobody_knows_yet_is_destroyed(machines: Machines) -> None:
    """A 404 just after the create does not mean that the machine is gone: a batch that stops then leaves nothing."""
    unknown = Answer(404, "not_found: machine not found")

    def watch(event: Event) -> None:
        if isinstance(event, PhaseBegan) and event.phase is Phase.BOOT:
            tasks.cancel_scope.cancel()

    async with machines(boot_s=1) as fly:
        fly.faults.add(*(Fault(action, unknown, times=2) for action in ("delete_machine", "get_machine")))
        executor = ConcurrentExecutor("my-app", fly=fly, on_event=watch)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(executor.run_one, MachineConfig(claude_code_oauth_token=TOKEN, prompt="x"))
        assert len(fly.created) == 1
        async with FlyClient(base_url=fly.base_url, token=fly.token) as client:
            assert await client.list_machines("my-app") == []


@pytest.mark.parametrize(
    "before", ["bad request: stdin ", "x" * (500 - len(TOKEN) // 2)], ids=["whole", "where a long text is cut"]
)
async def test_an_echoed_secret_goes_no_further(local: LocalFly, caplog: pytest.LogCaptureFixture, before: str) -> None:
    """An answer that shows our own request, secrets and all, shows them to nobody else, nor half of them."""
    caplog.set_level("DEBUG")
    local.faults.add(Fault("exec_machine", Answer(400, before + TOKEN)))
    batch = await run(local)
    failure = batch.results[0].failure
    assert failure is not None and failure.kind is FailureKind.API and "[redacted" in failure.message
    for text in (repr(batch), str(batch.results[0].error), caplog.text):
        assert TOKEN[: len(TOKEN) // 2] not in text


async def test_a_secret_in_a_blip_is_not_logged(local: LocalFly, caplog: pytest.LogCaptureFixture) -> None:
    """What a gateway says of a call that is repeated goes through the filter before it is logged."""
    caplog.set_level("DEBUG")
    local.faults.add(Fault("exec_machine", Answer(502, f"bad gateway, the request was {TOKEN}"), times=1))
    assert (await run(local)).all_succeeded
    assert "the request was [redacted]" in caplog.text and TOKEN not in caplog.text


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"more": -1}, "retries.more"),
        ({"more": True}, "retries.more"),
        ({"wait": -1}, "retries.wait"),
        ({"kinds": ["no_such_kind"]}, "retries.kinds"),
        ({"kinds": 3}, "retries.kinds"),
    ],
    ids=["negative", "no number", "wait", "unknown kind", "no kinds"],
)
def test_bad_retries_name_the_field(fields: dict[str, Any], named: str) -> None:
    """Retries that make no sense are an error that names the field."""
    with pytest.raises(ConfigError, match=named):
        Retries(**fields)


@pytest.mark.parametrize("retries", ["2", 1.5, -1], ids=["text", "fraction", "negative"])
def test_bad_arguments_name_the_field(retries: Any) -> None:
    """So are the executor's."""
    with pytest.raises(ConfigError, match="retries"):
        ConcurrentExecutor("my-app", retries=retries)
    with pytest.raises(ConfigError, match="max_auth_failures"):
        ConcurrentExecutor("my-app", max_auth_failures=-1)


async def test_an_attempts_name_stays_a_name(local: LocalFly) -> None:
    """A name of the greatest length is cut for the attempts after the first."""
    local.faults.add(Fault("create_machine", NO_ROOM, times=1))
    executor = ConcurrentExecutor("my-app", fly=local, retries=SOON, timeouts=AT_ONCE)
    result = await executor.run_one(MachineConfig(claude_code_oauth_token=TOKEN, prompt="::say x"), name="n" * 63)
    assert result.success
    assert result.attempts[1].name == "n" * 60 + "-a2"


async def test_a_stop_ends_the_wait_for_another_attempt(local: LocalFly) -> None:
    """A batch that is cancelled makes no further attempts."""
    local.faults.add(Fault("create_machine", NO_ROOM))

    def watch(event: Event) -> None:
        if isinstance(event, Retried) and event.attempt == 1:
            tasks.cancel_scope.cancel()

    executor = ConcurrentExecutor("my-app", fly=local, retries=Retries(wait=3600), on_event=watch, timeouts=AT_ONCE)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(executor.run_one, MachineConfig(claude_code_oauth_token=TOKEN, prompt="x"))
    assert local.requests["create_machine", 409] == 1


async def test_a_machine_that_nobody_knows_yet_is_waited_for(local: LocalFly) -> None:
    """A machine that is not known just after its create is waited for, and not replaced."""
    unknown = Answer(404, "not_found: machine not found")
    local.faults.add(Fault("wait_machine", unknown, times=1), Fault("get_machine", unknown, times=1))
    assert kinds(await run(local)) == [None]
    assert len(local.created) == 1


async def test_an_outage_is_no_slow_boot(local: LocalFly) -> None:
    """What an outage took is added to the time that a machine may take to boot."""
    not_running = Answer(412, "failed_precondition: machine not running")
    local.faults.add(Fault("wait_machine", Answer(503), times=5), Fault("exec_machine", not_running, times=1))
    batch = await run(local, timeouts=Timeouts(boot=2.5, retry=0.05), retries=0)
    assert batch.all_succeeded, batch


async def test_a_first_call_over_the_rate_limit_is_waited_out(local: LocalFly) -> None:
    """That Fly has no time for the first call of all is no failure either."""
    local.faults.add(Fault("get_app", Answer(429, "resource_exhausted: rate limit exceeded"), times=4))
    assert (await run(local, timeouts=Timeouts(retry=0.1))).all_succeeded


async def test_a_lost_create_and_then_a_limit(local: LocalFly) -> None:
    """A create whose answer was lost may have been done, though every later one was turned away."""
    local.faults.add(
        Fault("create_machine", DropAfter(), times=1),
        Fault("create_machine", Answer(429, "resource_exhausted: rate limit exceeded")),
    )
    batch = await run(local, timeouts=Timeouts(patience=1, retry=0.5), retries=0)
    assert kinds(batch) == [FailureKind.API]
    assert [attempt.machine_id for attempt in batch.results[0].attempts] == local.created and local.alive == 0


async def test_a_lost_create_and_then_somebody_elses_machine(local: LocalFly) -> None:
    """While a machine that is not ours has the name, none of ours was made: there is no leftover."""
    spec = {"image": "x", "init": {"exec": ["sleep", "600"]}, "restart": {"policy": "no"}}
    local.faults.add(Fault("create_machine", DropBefore(), after=1, times=1))
    async with FlyClient(base_url=local.base_url, token=local.token) as fly:
        theirs = await fly.create_machine("my-app", name="db", config=spec)
        result = await ConcurrentExecutor("my-app", fly=local).run_one(
            MachineConfig(claude_code_oauth_token=TOKEN, prompt="x"), name="db"
        )
        assert result.failure is not None and result.failure.kind is FailureKind.CREATE_REFUSED
        assert result.attempts[0].gone
        await fly.delete_machine("my-app", theirs.id)
        assert await fly.wait_machine("my-app", theirs.id, state="destroyed")
