"""A Fly token that dies in the middle of the work: a blip at first, and never the end of a healthy run."""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.conftest import TOKEN, Machines
from tests.providers.fly.conftest import SLEEPER
from tests.support.openapi import check_exchange

from flaude import (
    BatchLeftError,
    BatchResult,
    ConcurrentExecutor,
    ExecutionRequest,
    FailureKind,
    MachineConfig,
    NotAllowedError,
    Timeouts,
    TokenExpiredError,
    ensure_app,
    reap,
)
from flaude._model.settings import ExecutorSettings
from flaude._providers.fly import FlyClient
from flaude._recovery.records import BatchState, state_of
from flaude.cli.carrying_out import Shown, carry_out
from flaude.events import AssistantText, Detached, Event, Finished, Notice, StopRequested
from flaude.journal import Journal, MemoryJournal, SqliteJournal
from flaude.journal.entries import CANCEL, ControlRequest
from flaude.local import Answer, DropAfter, DropBefore, Exchange, Fault, Hook, LocalFly, Quirks

IMPATIENT = Timeouts(patience=1.5, orphan=60, retry=1, destroy=2, grace=0.5, request=5)
REFUSED = Answer(401, "verify: invalid token: missing third-party discharge tokens")
LATER = Timeouts(patience=30, orphan=60, retry=1, request=5)


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Claude Code, in the environment, where `resume` finds them again."""
    monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", TOKEN)


@pytest.fixture
async def fly(machines: Machines) -> AsyncIterator[LocalFly]:
    """A stand-in whose agents may write where the test says."""
    async with machines(box="plain", quirks=Quirks(young_app_s=0)) as opened:
        yield opened


@pytest.fixture
async def journal() -> AsyncIterator[Journal]:
    """A journal that is open for the whole test."""
    async with MemoryJournal() as opened:
        yield opened


def requests(*prompts: str) -> list[ExecutionRequest]:
    """Requests for the scripted agent, with their numbers as tags."""
    return [ExecutionRequest(MachineConfig(prompt=prompt), tag=str(number)) for number, prompt in enumerate(prompts)]


def executor(local: LocalFly, **options: Any) -> ConcurrentExecutor:
    """An executor without rate limits, so that only what is tested takes time."""
    return ConcurrentExecutor("my-app", **{"fly": local, "rate_limits": None, **options})


def waits_for(path: Path) -> str:
    """A prompt whose agent goes on until a file is there."""
    return f"::say begun\n::shell until [ -e {path} ]; do sleep 0.05; done\n::say ended"


class Dies:
    """Takes events; when so many agents have begun, the token is refused from then on."""

    def __init__(self, fly: LocalFly, agents: int) -> None:
        self._fly = fly
        self._left = agents
        self.seen: list[Event] = []

    def __call__(self, event: Event) -> None:
        """Take an event."""
        self.seen.append(event)
        if isinstance(event, AssistantText) and event.text == "begun":
            self._left -= 1
            if self._left == 0:
                self._fly.renew_token()

    @property
    def notices(self) -> list[str]:
        """What was said of the token."""
        return [event.text for event in self.seen if isinstance(event, Notice) and "token" in event.text]


def renewing(fly: LocalFly) -> Callable[[str], None]:
    """For a hook: the token is another one from then on."""

    def renew(_path: str) -> None:
        fly.renew_token()

    return renew


@pytest.mark.parametrize("seed", range(4))
async def test_one_401_in_fifty_calls(seed: int) -> None:
    """Single refusals, at whatever call they come, change nothing about any run, and nobody is told of them."""
    notices: list[str] = []

    def watch(event: Event) -> None:
        if isinstance(event, Notice):
            notices.append(event.text)

    faults = [Fault("*", REFUSED, chance=0.02)]
    many = Quirks(machine_limit=None)
    async with LocalFly(apps=["my-app"], box="simulated", faults=faults, seed=seed, quirks=many) as fly:
        batch = await executor(fly, on_event=watch).run_batch(requests(*["::say here"] * 40))
        assert sum(count for (_, status), count in fly.requests.items() if status == 401) > 0
        assert batch.all_succeeded, [result.failure for result in batch.results]
        assert len(fly.created) == 40 and not batch.leftovers and not notices


@pytest.mark.parametrize("action", ["get_app", "create_machine", "wait_machine", "exec_machine", "delete_machine"])
async def test_one_401_at_the_first_of_each_call(fly: LocalFly, action: str) -> None:
    """Also the very first call of its kind may be refused once."""
    fly.faults.add(Fault(action, REFUSED, times=1))
    batch = await executor(fly).run_batch(requests("::say here"))
    assert batch.all_succeeded, batch.results[0].failure
    assert len(fly.created) == 1


async def test_left_and_resumed(fly: LocalFly, journal: Journal, tmp_path: Path) -> None:
    """The token dies for good while four agents work: the batch is left, and resume collects all, paid once."""
    go_on, starts = tmp_path / "go-on", tmp_path / "starts"
    prompts = [f"::shell echo {number} >> {starts}\n{waits_for(go_on)}" for number in range(4)]
    dies = Dies(fly, 4)
    with anyio.fail_after(30):
        with pytest.raises(BatchLeftError, match="flaude resume") as caught:
            await executor(fly, journal=journal, on_event=dies, timeouts=IMPATIENT).run_batch(requests(*prompts))
    left = caught.value
    assert isinstance(left.__cause__, TokenExpiredError) and left.batch.results == []
    assert {one.machine_id for one in left.leftovers} == set(fly.created) and fly.alive == 4
    assert len([event for event in dies.seen if isinstance(event, Detached)]) == 4
    assert len(dies.notices) == 1 and "waiting 1.5 s at most" in dies.notices[0]
    go_on.touch()
    batch = await executor(fly, journal=journal).resume(left.batch.id)
    assert [result.run_result and result.run_result.text for result in batch.results] == ["ended"] * 4
    assert batch.all_succeeded and len(fly.created) == 4 and not batch.leftovers
    assert sorted(starts.read_text().split()) == ["0", "1", "2", "3"]


async def test_without_a_journal(fly: LocalFly) -> None:
    """It ends as `api` after the patience, what had no machine gets none, and the machine is named."""
    dies = Dies(fly, 1)
    with anyio.fail_after(30):
        batch = await executor(fly, on_event=dies, timeouts=IMPATIENT, max_concurrency=1).run_batch(
            requests("::say begun\n::silent", "::say never")
        )
    assert [result.failure and result.failure.kind for result in batch.results] == [FailureKind.API] * 2
    assert "not launched" in str(batch.results[1].failure) and "has worked so far" in batch.stopped_by
    assert [one.machine_id for one in batch.leftovers] == fly.created and len(fly.created) == 1
    assert len(dies.notices) <= 3, dies.notices
    assert (await reap("my-app", fly=fly, all=True, settle=0)).destroyed


def flyctl_writes(folder: Path, token: str) -> None:
    """The file as flyctl writes it."""
    folder.mkdir(exist_ok=True)
    (folder / "config.yml").write_text(f"access_token: {token}\nlast_login: 2026-01-01T00:00:00Z\n")


@pytest.fixture
def flyctl(fly: LocalFly, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of flyctl, with the token that is valid now."""
    folder = tmp_path / "flyctl"
    flyctl_writes(folder, fly.token)
    monkeypatch.setenv("FLY_CONFIG_DIR", str(folder))
    return folder


async def test_flyctl_renews_its_file(fly: LocalFly, flyctl: Path, tmp_path: Path) -> None:
    """A batch with the token of flyctl's file goes on as soon as flyctl has written another one."""
    go_on, old = tmp_path / "go-on", fly.token
    dies = Dies(fly, 3)
    refusals = 0

    async def renewed(event: Event) -> None:
        nonlocal refusals
        dies(event)
        if isinstance(event, Notice) and event.text.startswith("waiting"):
            refusals += 1
            await anyio.to_thread.run_sync(flyctl_writes, flyctl, fly.token)
            await anyio.to_thread.run_sync(go_on.touch)

    batch = await executor(fly, fly=None, base_url=fly.base_url, on_event=renewed, timeouts=LATER).run_batch(
        requests(*[waits_for(go_on)] * 3)
    )
    assert batch.all_succeeded, [result.failure for result in batch.results]
    assert refusals == 1 and "`fly`" in dies.notices[0] and len(fly.created) == 3
    assert fly.token != old


async def test_it_dies_while_machines_are_created(fly: LocalFly, flyctl: Path) -> None:
    """Launches wait for a token that works: no create is thrown away, no run fails, and each has one machine."""
    seen: list[Event] = []

    async def watch(event: Event) -> None:
        seen.append(event)
        if isinstance(event, Notice) and "token" in event.text:
            refused.append(fly.requests["create_machine", 401])
            await anyio.to_thread.run_sync(flyctl_writes, flyctl, fly.token)

    refused: list[int] = []
    fly.faults.add(Fault("create_machine", Hook(after=renewing(fly)), times=1))
    batch = await executor(fly, fly=None, base_url=fly.base_url, on_event=watch, timeouts=LATER).run_batch(
        requests(*["::say here"] * 6)
    )
    assert batch.all_succeeded, [result.failure for result in batch.results]
    assert len(fly.created) == 6 and len(refused) == 1
    assert all(len(result.attempts) == 1 for result in batch.results)


@pytest.mark.parametrize("status", [401, 403])
async def test_one_call_is_refused(fly: LocalFly, journal: Journal, status: int) -> None:
    """While the token works for other calls, one that is refused ends its own run, and the batch goes on."""
    seen: list[Event] = []

    def watch(event: Event) -> None:
        seen.append(event)
        if isinstance(event, Finished):
            fly.faults.clear()

    fly.faults.add(Fault("exec_machine", Answer(status, "not for you"), after=1))
    with anyio.fail_after(30):
        batch = await executor(
            fly, journal=journal, on_event=watch, timeouts=IMPATIENT, max_concurrency=1, retries=0
        ).run_batch(requests("::say here", "::say here"))
    first, second = batch.results
    assert first.failure is not None and first.failure.kind is FailureKind.API and second.success
    assert "accepts the token for other calls" in first.failure.message and "not for you" in first.failure.message
    assert not batch.leftovers and not batch.stopped_by and fly.alive == 0
    assert not any(isinstance(event, Detached) for event in seen)


async def test_a_delete_that_is_refused(fly: LocalFly, journal: Journal) -> None:
    """While the token works for other calls, a machine that may not be destroyed is named, and no batch is left."""
    fly.faults.add(Fault("delete_machine", REFUSED, after=1))
    quick = Timeouts(patience=1.5, orphan=60, retry=1, destroy=1.5, request=5)
    # The first agent ends when its machine is gone: the client has seen a delete that works.
    with anyio.fail_after(30):
        batch = await executor(fly, journal=journal, timeouts=quick, max_concurrency=1).run_batch(
            requests("::say one", "::say two")
        )
    assert batch.all_succeeded and not batch.stopped_by
    assert [one.machine_id for one in batch.leftovers] == fly.created[1:]
    fly.faults.clear()
    await reap("my-app", fly=fly, all=True, settle=0)


async def test_left_before_it_had_a_machine(fly: LocalFly, journal: Journal) -> None:
    """A create that was refused has made nothing: no machine is named, and resume creates it."""
    fly.faults.add(Fault("create_machine", REFUSED), Fault("get_app", REFUSED, after=1))
    with anyio.fail_after(20), pytest.raises(BatchLeftError) as caught:
        await executor(fly, journal=journal, timeouts=IMPATIENT).run_batch(requests("::say here"))
    assert caught.value.leftovers == () and fly.created == []
    assert "No machine of the batch is running. With a token that works" in str(caught.value)
    fly.faults.clear()
    batch = await executor(fly, journal=journal).resume(caught.value.batch.id)
    assert batch.all_succeeded and len(fly.created) == 1


@pytest.mark.parametrize("largest", [None, 20_000])
@pytest.mark.parametrize("lost", [DropBefore(), DropAfter()])
async def test_left_while_a_create_is_unanswered(
    machines: Machines, journal: Journal, lost: DropBefore | DropAfter, largest: int | None
) -> None:
    """The machine that may live is named; resume takes it for its own, though there is no room beside it."""
    many = Quirks(young_app_s=0, machine_limit=1, largest_create_body=largest)
    async with machines(box="plain", quirks=many) as fly:
        fly.faults.add(Fault("get_app", REFUSED, after=1), Fault("list_machines", REFUSED))
        fly.faults.add(Fault("create_machine", lost, after=int(largest is not None), times=1))
        fly.faults.add(Fault("create_machine", REFUSED, after=int(largest is not None)))
        with anyio.fail_after(20), pytest.raises(BatchLeftError) as caught:
            await executor(fly, journal=journal, timeouts=IMPATIENT).run_batch(requests("::say here"))
        (machine,) = caught.value.leftovers
        assert machine.name and not machine.machine_id and fly.alive == isinstance(lost, DropAfter)
        fly.faults.clear()
        batch = await executor(fly, journal=journal).resume(caught.value.batch.id)
        assert batch.all_succeeded, batch.results[0].failure
        assert len(fly.created) == 1 and not batch.leftovers


async def test_left_with_a_machine_to_destroy(fly: LocalFly, journal: Journal) -> None:
    """Its work is here, and the machine may live: resume confirms its end, and the result is what it was."""
    fly.faults.add(Fault("delete_machine", Hook(before=renewing(fly)), times=1))
    fly.faults.add(Fault("wait_machine", REFUSED, after=1), Fault("get_machine", REFUSED))
    fly.faults.add(Fault("get_app", REFUSED, after=1), Fault("delete_machine", REFUSED))
    with anyio.fail_after(20), pytest.raises(BatchLeftError) as caught:
        await executor(fly, journal=journal, timeouts=IMPATIENT).run_batch(requests("::say here"))
    assert [one.machine_id for one in caught.value.leftovers] == fly.created
    fly.faults.clear()
    batch = await executor(fly, journal=journal).resume(caught.value.batch.id)
    run = batch.results[0].run_result
    assert batch.all_succeeded and run is not None and run.text == "here" and run.destroyed
    assert len(fly.created) == 1


async def test_stopped_while_it_is_refused(fly: LocalFly, journal: Journal) -> None:
    """Who wants the end gets it: nothing is left for resume to go on with, and the machine is named."""
    dies = Dies(fly, 1)
    ended: list[BatchResult] = []

    def watch(event: Event) -> None:
        dies(event)
        if isinstance(event, Notice) and "token" in event.text:
            tasks.cancel_scope.cancel()
        if isinstance(event, Finished):
            ended.append(BatchResult([event.result]))

    patient = Timeouts(patience=20, orphan=60, destroy=1, grace=0.5, collect=0.5, request=5, retry=1)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            batch = executor(fly, journal=journal, on_event=watch, timeouts=patient)
            tasks.start_soon(batch.run_batch, requests("::say begun\n::silent"))
    (result,) = ended[0].results
    assert result.failure is not None and result.failure.kind in (FailureKind.CANCELLED, FailureKind.API)
    assert [one.machine_id for one in ended[0].leftovers] == fly.created
    (entry,) = await journal.batches()
    assert entry.counts.open == 0
    await reap("my-app", fly=fly, all=True, settle=0)


async def test_a_cancelled_run_does_not_end_the_others(fly: LocalFly, journal: Journal) -> None:
    """A run that was cancelled cannot be left, and ends by itself; one that waits for its place is left for resume."""
    short = Timeouts(patience=0.5, orphan=60, destroy=0.5, grace=0.5, collect=0.5, request=5, retry=1)
    ended: list[BatchResult] = []

    async def watch(event: Event) -> None:
        if isinstance(event, AssistantText) and event.text == "begun":
            await journal.ask(event.batch, ControlRequest(CANCEL, 0))
        if isinstance(event, StopRequested):
            fly.renew_token()
        if isinstance(event, Finished):
            ended.append(BatchResult([event.result]))

    running = executor(fly, journal=journal, on_event=watch, timeouts=short, max_concurrency=1)
    with anyio.fail_after(30), pytest.raises(BatchLeftError) as caught:
        await running.run_batch(requests("::say begun\n::silent", "::say yes"))
    (result,) = caught.value.batch.results
    assert result.failure is not None and result.failure.kind is FailureKind.CANCELLED
    assert [one.machine_id for one in ended[0].leftovers] == fly.created
    batch = await executor(fly, journal=journal).resume(caught.value.batch.id)
    assert [one.success for one in batch.results] == [False, True] and len(fly.created) == 2
    await reap("my-app", fly=fly, all=True, settle=0)


async def test_it_dies_while_shards_are_made(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    """The apps are made with the token that comes after it."""
    refused: list[str] = []

    def watch(exchange: Exchange) -> None:
        check_exchange(exchange)
        if exchange.status == 401:
            refused.append(exchange.path)
            if len(refused) == 6:
                monkeypatch.setenv("FLY_API_TOKEN", local.token)

    async with machines(box="simulated", on_exchange=watch) as local:
        monkeypatch.setenv("FLY_API_TOKEN", local.token)
        local.faults.add(Fault("create_app", Hook(after=renewing(local)), times=1))
        running = executor(local, fly=None, base_url=local.base_url, shards=3, timeouts=LATER)
        with anyio.fail_after(30):
            batch = await running.run_batch(requests("::say a", "::say b", "::say c"))
    assert batch.all_succeeded and len(refused) >= 6, [result.error for result in batch.results]


async def test_reap_spares_whom_it_could_not_ask(fly: LocalFly) -> None:
    """A guest that could not be asked, because the token was refused, is nobody's: its machine stays."""
    async with FlyClient(base_url=fly.base_url, token=fly.token) as client:
        ours = {**SLEEPER, "metadata": {"managed_by": "flaude", "flaude_batch": "b1", "flaude_expires_at": "1"}}
        await client.create_machine("my-app", name="one", config=ours)
        fly.faults.add(Fault("exec_machine", REFUSED), Fault("get_app", REFUSED, after=1))
        report = await reap("my-app", fly=fly, settle=0)
        assert [one.action for one in report.machines] == ["failed"] and "has worked so far" in report.machines[
            0
        ].reason
        assert fly.alive == 1
        fly.faults.clear()
        await reap("my-app", fly=fly, all=True, settle=0)


async def test_a_refused_token_at_resume(fly: LocalFly, journal: Journal, tmp_path: Path) -> None:
    """From the start it is a plain error; the batch stays as it was, for the next resume."""
    go_on = tmp_path / "go-on"
    launched = await executor(fly, journal=journal).launch(requests(waits_for(go_on)))
    fly.faults.add(Fault("*", REFUSED))
    for method in ("resume", "cancel"):
        with anyio.fail_after(10), pytest.raises(NotAllowedError) as caught:
            await getattr(executor(fly, journal=journal), method)(launched.id)
        assert not isinstance(caught.value, TokenExpiredError)
    fly.faults.clear()
    go_on.touch()
    assert (await executor(fly, journal=journal).resume(launched.id)).all_succeeded


async def test_it_dies_while_resume_goes_on(fly: LocalFly, journal: Journal, tmp_path: Path) -> None:
    """A batch can be left again and again: nothing is paid twice."""
    go_on, starts = tmp_path / "go-on", tmp_path / "starts"
    prompt = f"::shell echo once >> {starts}\n{waits_for(go_on)}"
    launched = await executor(fly, journal=journal).launch(requests(prompt))
    for _ in range(2):
        running = executor(fly, journal=journal, timeouts=IMPATIENT)
        fly.faults.add(Fault("exec_machine", REFUSED, after=1), Fault("get_app", REFUSED, after=1))
        with anyio.fail_after(30), pytest.raises(BatchLeftError):
            await running.resume(launched.id)
        fly.faults.clear()
    go_on.touch()
    batch = await executor(fly, journal=journal).resume(launched.id)
    assert batch.all_succeeded and starts.read_text().split() == ["once"] and len(fly.created) == 1


async def test_ensure_app_hears_of_it_at_once(fly: LocalFly) -> None:
    """What is asked once, by somebody who waits, is not waited out for minutes."""
    fly.faults.add(Fault("get_app", Hook(after=renewing(fly)), times=1))
    with anyio.fail_after(10), pytest.raises(TokenExpiredError):
        await ensure_app("my-app", shards=2, fly=fly)


@pytest.mark.parametrize("number", [None, signal.SIGINT, signal.SIGTERM])
async def test_what_the_command_says(
    fly: LocalFly, tmp_path: Path, capsys: pytest.CaptureFixture[str], number: signal.Signals | None
) -> None:
    """How the batch was left and what to do, no token, and exit code 3 because machines may be alive.

    Also when a signal ends the command at that moment.
    """
    go_on = tmp_path / "go-on"
    settings = ExecutorSettings("my-app", timeouts=IMPATIENT, output_dir=tmp_path, rate_limits=None)
    died = fly.token
    async with SqliteJournal(tmp_path / "state") as journal:

        async def work(_from_the_command: ConcurrentExecutor) -> BatchResult:
            running = executor(fly, journal=journal, on_event=watch, timeouts=IMPATIENT)
            return await running.run_batch(requests(waits_for(go_on)))

        dies = Dies(fly, 1)

        def watch(event: Event) -> None:
            dies(event)
            if isinstance(event, Detached) and number is not None:
                signal.raise_signal(number)

        shown = Shown(plain=True)
        with anyio.fail_after(30):
            code = await carry_out(work, settings, [], 1, shown, journal=journal, begins=False)
        err = capsys.readouterr().err
        (entry,) = await journal.batches()
        assert code == 3 and f"flaude resume {entry.id}" in err
        assert "1 machine of the batch may be running, and will stop by itself in about 58.5 s." in err
        assert state_of(entry, datetime.now(UTC)) is BatchState.LEFT
        go_on.touch()
        assert (await executor(fly, journal=journal).resume(entry.id)).all_succeeded
    kept = b"".join(file.read_bytes() for file in (tmp_path / "state").rglob("*") if file.is_file())
    for canary in (died, fly.token, TOKEN):
        assert canary not in err and canary.encode() not in kept


async def test_no_token_in_logs(fly: LocalFly, journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG either: neither the tokens of Fly, nor the credentials, nor the prompt."""
    caplog.set_level(logging.DEBUG, logger="flaude")
    died = fly.token
    with anyio.fail_after(30), pytest.raises(BatchLeftError) as caught:
        await executor(fly, journal=journal, on_event=Dies(fly, 1), timeouts=IMPATIENT).run_batch(
            requests("::say begun\n::silent")
        )
    text = caplog.text + repr(caught.value) + str(caught.value) + repr(caught.value.__cause__)
    for canary in (died, fly.token, TOKEN, "::silent"):
        assert canary not in text
    await executor(fly, journal=journal).cancel(caught.value.batch.id)
