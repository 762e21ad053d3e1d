"""The reaper takes what nobody owns, and nothing else."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from subprocess import CompletedProcess
from typing import Any

import anyio
import pytest
from tests.conftest import TOKEN, Machines
from tests.support.controller_process import COMMAND

from flaude import (
    ConcurrentExecutor,
    ConfigError,
    MachineConfig,
    NotAllowedError,
    NotFoundError,
    NotReadyError,
    ReapReport,
    Timeouts,
    reap,
)
from flaude._executor.ownership import decide, is_ours
from flaude._guest.client import SupervisorClient
from flaude._guest.messages import GuestState, StatusReply
from flaude._guest.program import prepare
from flaude._providers.fly import FlyClient, Machine
from flaude._providers.fly.destroy import destroy
from flaude._providers.fly.state_watcher import MachineStates
from flaude._run.job import build_job_message
from flaude._run.machine import machine_spec
from flaude._run.plan import new_pad
from flaude.events import Event, Output
from flaude.local import Answer, Fault, Hook, HostGone, ListLag, LocalFly

CONFIG = MachineConfig(claude_code_oauth_token=TOKEN, prompt="::silent")
Make = Callable[..., Awaitable[Machine]]


@pytest.fixture
async def client(local: LocalFly) -> AsyncIterator[FlyClient]:
    """A client, which destroys at the end what a test has left alive on purpose."""
    async with FlyClient(base_url=local.base_url, token=local.token) as fly:
        yield fly
        local.faults.clear()
        states = MachineStates(fly, "my-app", {"managed_by": "flaude"})
        for machine in await fly.list_machines("my-app"):
            # Until it is gone: one that has not yet begun to live may else do so afterwards.
            await destroy(fly, "my-app", machine.id, states=states, within_s=20, known_from=0, notice=lambda _: None)


@pytest.fixture
def orphan(client: FlyClient) -> Make:
    """Makes a machine with a job, whose controller is never heard of again."""

    async def make(batch: str = "b1", name: str = "orphan", orphan_s: float = 600) -> Machine:
        metadata = {"managed_by": "flaude", "flaude_batch": batch, "flaude_index": "0"}
        await prepare()
        pad = new_pad()
        spec = machine_spec(CONFIG, metadata=metadata, start_deadline_s=300, pad=pad)
        machine = await client.create_machine("my-app", name=name, config=spec)
        await client.wait_machine("my-app", machine.id, state="started")
        link = SupervisorClient(client, "my-app", machine.id)
        timeouts = Timeouts(patience=orphan_s / 2, orphan=orphan_s, grace=0.5)
        message = build_job_message(CONFIG, job_id="j", run_s=600, timeouts=timeouts, credentials={"A": TOKEN})
        while True:
            try:
                if await link.start(message, pad):
                    return machine
            except NotReadyError:
                continue  # it boots

    return make


async def state(client: FlyClient, machine: Machine) -> str:
    """The machine's state."""
    try:
        return (await client.get_machine("my-app", machine.id)).state
    except NotFoundError:
        return "destroyed"


def actions(report: ReapReport) -> dict[str, str]:
    """What was done to which machine."""
    return {machine.name: machine.action for machine in report.machines}


async def test_an_orphan_is_reaped(local: LocalFly, client: FlyClient, orphan: Make) -> None:
    """A machine whose controller is gone is destroyed, confirmed and named."""
    machine = await orphan()
    report = await reap("my-app", fly=local, pulled_within=0, settle=0.1)
    assert actions(report) == {"orphan": "destroyed"}
    assert report.machines[0].id == machine.id and "ago" in report.machines[0].reason
    assert await state(client, machine) == "destroyed"
    assert ReapReport.model_validate_json(report.model_dump_json()) == report


async def test_what_is_pulled_is_left_alone(local: LocalFly) -> None:
    """A run that goes on is not touched, unless all are asked for; then it ends as machine_lost."""
    under_way = anyio.Event()

    def watch(event: Event) -> None:
        if isinstance(event, Output):
            under_way.set()

    executor = ConcurrentExecutor("my-app", fly=local, on_event=watch)
    async with anyio.create_task_group() as tasks:
        results: list[Any] = []

        async def run() -> None:
            results.append(await executor.run_one(CONFIG, name="busy"))

        tasks.start_soon(run)
        await under_way.wait()
        assert actions(await reap("my-app", fly=local, settle=0.1)) == {"busy": "kept"}
        assert local.alive == 1
        assert actions(await reap("my-app", fly=local, all=True, settle=0.1)) == {"busy": "destroyed"}
    assert results[0].failure.kind == "machine_lost"


async def test_a_patient_controller_is_waited_for(local: LocalFly, client: FlyClient) -> None:
    """A machine tells for how long its controller bears a network that fails: for so long it is not an orphan."""
    silent = status("running", pulled_s_ago=900)
    kept: list[bool] = []

    async def watch(event: Event) -> None:
        if isinstance(event, Output) and not kept:
            shown = await client.get_machine("my-app", event.machine_id)
            kept.append(not decide(shown, silent, now=NOW).destroy)
            tasks.cancel_scope.cancel()

    config = MachineConfig(claude_code_oauth_token=TOKEN, prompt="::say hello\n::silent")
    for patience in (300.0, 1800.0):
        timeouts = Timeouts(patience=patience, orphan=3600, linger=3600, grace=1)
        executor = ConcurrentExecutor("my-app", fly=local, on_event=watch, timeouts=timeouts)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(executor.run_one, config)
        assert kept == [patience > 900], "the agent has printed, and so its machine was judged"
        kept.clear()


async def test_a_machine_that_is_not_ours_is_never_touched(local: LocalFly, client: FlyClient) -> None:
    """What flaude did not make stays, even with `all`, and is not in the report."""
    spec = {"image": "x", "init": {"exec": ["sleep", "600"]}, "restart": {"policy": "no"}}
    others = [
        await client.create_machine("my-app", name=f"other-{index}", config={**spec, "metadata": metadata})
        for index, metadata in enumerate([{}, {"managed_by": "terraform"}, {"flaude_batch": "b1"}])
    ]
    report = await reap("my-app", fly=local, all=True, settle=0.1)
    assert report.machines == ()
    assert {await state(client, machine) for machine in others} <= {"created", "started"}


async def test_only_the_batch(local: LocalFly, client: FlyClient, orphan: Make) -> None:
    """With a batch, machines of others stay."""
    await orphan(batch="b1", name="one")
    other = await orphan(batch="b2", name="two")
    report = await reap("my-app", fly=local, batch="b1", all=True, settle=0.1)
    assert actions(report) == {"one": "destroyed"}
    assert await state(client, other) == "started"


async def test_only_the_old(local: LocalFly, client: FlyClient, orphan: Make) -> None:
    """With a minimum age, younger machines stay, even with `all`."""
    machine = await orphan()
    assert (await reap("my-app", fly=local, older_than=timedelta(hours=2), all=True, settle=0.1)).machines == ()
    assert await state(client, machine) == "started"


async def test_a_dry_run_destroys_nothing(local: LocalFly, client: FlyClient, orphan: Make) -> None:
    """A dry run says what would be, and every machine is as before."""
    machine = await orphan()
    report = await reap("my-app", fly=local, pulled_within=0, dry_run=True, settle=0.1)
    assert actions(report) == {"orphan": "would_destroy"}
    assert await state(client, machine) == "started"


async def test_what_has_stopped_is_reaped(local: LocalFly, client: FlyClient) -> None:
    """A stopped machine of ours costs money and is nobody's."""
    spec = {"image": "x", "init": {"exec": ["true"]}, "restart": {"policy": "no"}, "metadata": {"managed_by": "flaude"}}
    machine = await client.create_machine("my-app", name="still", config=spec)
    await client.wait_machine("my-app", machine.id, state="stopped")
    report = await reap("my-app", fly=local, settle=0.1)
    assert actions(report) == {"still": "destroyed"}


async def test_a_list_that_lags_hides_nothing(local: LocalFly, orphan: Make) -> None:
    """An empty list is not believed at once."""
    await orphan()
    local.faults.add(Fault("list_machines", ListLag(3600), times=1))
    report = await reap("my-app", fly=local, all=True, settle=0.1)
    assert actions(report) == {"orphan": "destroyed"}


async def test_what_cannot_be_confirmed_is_failed(machines: Machines) -> None:
    """A machine on a host that is gone is named as not confirmed, and the others are reaped."""
    async with machines(faults=[Fault("create_machine", HostGone(back_s=6), times=1)]) as fly:
        spec = {"image": "x", "init": {"exec": ["sleep", "600"]}, "restart": {"policy": "no"}}
        async with FlyClient(base_url=fly.base_url, token=fly.token) as client:
            for name in ("gone", "good"):
                await client.create_machine("my-app", name=name, config={**spec, "metadata": {"managed_by": "flaude"}})
            with anyio.fail_after(10):
                while (await client.list_machines("my-app"))[0].host_status == "ok":
                    await anyio.lowlevel.checkpoint()
        report = await reap("my-app", fly=fly, all=True, destroy_within=3, settle=0.1)
        assert actions(report) == {"gone": "failed", "good": "destroyed"}
        assert "could not be confirmed" in report.failed[0].reason
        report = await reap("my-app", fly=fly, all=True, destroy_within=30, settle=0.1)
        assert actions(report) == {"gone": "destroyed"}


async def test_a_list_that_fails_loses_nothing(local: LocalFly, orphan: Make) -> None:
    """When the second list cannot be had, what was done is told, and that something may be missing."""
    await orphan()
    local.faults.add(Fault("list_machines", Answer(403, "forbidden"), after=1))
    report = await reap("my-app", fly=local, all=True, settle=0.1)
    local.faults.clear()
    assert actions(report) == {"orphan": "destroyed"}
    assert "list" in report.incomplete or "machines" in report.incomplete


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"batch": ""}, "batch"),
        ({"batch": "\udcff"}, "batch"),
        ({"older_than": -1}, "older_than"),
        ({"destroy_within": 0}, "destroy_within"),
        ({"destroy_within": float("inf")}, "destroy_within"),
    ],
    ids=["empty batch", "odd batch", "no age", "no time", "all time"],
)
async def test_bad_arguments_destroy_nothing(local: LocalFly, options: dict[str, Any], named: str) -> None:
    """An argument of no use is an error that names it; an empty batch, above all, does not mean every batch."""
    with pytest.raises(ConfigError, match=named):
        await reap("my-app", fly=local, all=True, **options)


async def test_one_odd_machine_keeps_no_other_alive(local: LocalFly, client: FlyClient) -> None:
    """Metadata that nobody understands cost nothing but a line in the report."""
    spec = {"image": "x", "init": {"exec": ["sleep", "600"]}, "restart": {"policy": "no"}}
    for name, expires in (("odd", "1" + "0" * 17), ("good", "1")):
        metadata = {"managed_by": "flaude", "flaude_expires_at": expires}
        env = {"FLAUDE_START_DEADLINE_S": "-60"}
        await client.create_machine("my-app", name=name, config={**spec, "env": env, "metadata": metadata})
    report = await reap("my-app", fly=local, settle=0.1)
    assert actions(report) == {"odd": "destroyed", "good": "destroyed"}


async def test_launches_that_go_on_are_told(local: LocalFly, client: FlyClient) -> None:
    """While machines keep coming the report does not claim to have seen all."""
    spec = {"image": "x", "init": {"exec": ["sleep", "600"]}, "metadata": {"managed_by": "flaude"}}

    async def launch(path: str) -> None:
        await client.create_machine("my-app", name=f"new-{len(local.created)}", config=spec)

    local.faults.add(Fault("list_machines", Hook(before=launch)))
    report = await reap("my-app", fly=local, all=True, settle=0.1)
    local.faults.clear()
    assert "keep coming" in report.incomplete
    assert set(actions(report).values()) == {"destroyed"}


async def test_asking_keeps_no_orphan_alive(local: LocalFly, client: FlyClient, orphan: Make) -> None:
    """The guest's status is no pull: an orphan that is asked all the time ends by its own clock."""
    machine = await orphan(orphan_s=1.5)
    link = SupervisorClient(client, "my-app", machine.id)
    assert (await link.status()).job_id == "j"
    with anyio.fail_after(20):
        while local.alive:
            await reap("my-app", fly=local, dry_run=True, settle=0)


async def test_a_missing_app_is_an_error(local: LocalFly) -> None:
    """An app that does not exist is an error and no empty report."""
    with pytest.raises(NotFoundError, match="no-such-app"):
        await reap("no-such-app", fly=local)


NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
PATIENT = {"metadata": {"managed_by": "flaude", "flaude_patience_s": "1800"}}


def status(state: GuestState, pulled_s_ago: float | None = None, waited_s: float = 3600) -> StatusReply:
    """What a guest says."""
    job_id = None if state == "waiting" else "j"
    return StatusReply(state=state, waited_s=waited_s, job_id=job_id, pulled_s_ago=pulled_s_ago)


def machine(**fields: Any) -> Machine:
    """A machine of ours that was created an hour ago and expires in one."""
    metadata = {"managed_by": "flaude", "flaude_expires_at": str(int((NOW + timedelta(hours=1)).timestamp()))}
    made = {"id": "m", "state": "started", "created_at": "2026-11-23T11:00:00Z", "config": {"metadata": metadata}}
    return Machine.model_validate(made | fields)


@pytest.mark.parametrize(
    ("shown", "guest", "destroy"),
    [
        (machine(), status("running", 0), False),
        (machine(), status("running", 329), False),
        (machine(), status("running", 331), True),
        (machine(), status("done", 331), True),
        (machine(config=PATIENT), status("running", 1829), False),
        (machine(config=PATIENT), status("running", 1831), True),
        (machine(), status("waiting"), True),
        (machine(), status("waiting", waited_s=300), False),
        (machine(), None, False),
        (machine(created_at="2026-11-23T11:59:00Z", state="created"), None, False),
        (machine(config={"metadata": {"flaude_expires_at": "1"}}), None, True),
        (machine(config={"metadata": {"flaude_expires_at": "soon"}}), None, True),
        (machine(config={"metadata": {}, "env": {"FLAUDE_START_DEADLINE_S": "7200"}}), None, False),
        (machine(created_at="yesterday"), None, False),
        (machine(state="stopped"), None, True),
        (machine(state="destroying"), None, True),
        (machine(state="a new word of Fly's"), status("running", 1), False),
        (machine(state=""), None, False),
        (machine(config={"metadata": {"flaude_expires_at": "1" + "0" * 17}}), None, True),
        (machine(config={}, incomplete_config={"metadata": {"flaude_expires_at": "1"}}), None, True),
    ],
    ids=[
        *("pulled now", "pulled lately", "not pulled", "done and not taken", "patient", "patience is over"),
        *("never given a job", "still to be given"),
        *("mute before its time", "booting", "mute after its time", "mute with no time", "long start deadline"),
        *("unknown age", "stopped", "destroying", "unknown state", "no state", "expires beyond all time", "host gone"),
    ],
)
def test_who_owns_what(shown: Machine, guest: StatusReply | None, destroy: bool) -> None:
    """A machine is owned while it is pulled or may still be given its job; with `all` that does not matter."""
    assert decide(shown, guest, now=NOW).destroy == destroy
    assert decide(shown, guest, now=NOW, all_=True).destroy


@pytest.mark.parametrize(
    ("metadata", "batch", "ours"),
    [
        ({"managed_by": "flaude", "flaude_batch": "b1"}, None, True),
        ({"managed_by": "flaude", "flaude_batch": "b1"}, "b1", True),
        ({"managed_by": "flaude", "flaude_batch": "b1"}, "b2", False),
        ({"managed_by": "terraform", "flaude_batch": "b1"}, "b1", False),
        ({"flaude_batch": "b1"}, None, False),
        ({}, None, False),
    ],
    ids=["any batch", "the batch", "another batch", "another owner", "no owner", "nothing"],
)
def test_what_is_ours(metadata: dict[str, str], batch: str | None, ours: bool) -> None:
    """What is ours is looked at here as well: an API that does not understand a filter lists everything."""
    assert is_ours(machine(config={"metadata": metadata}), batch) == ours


async def flaude(fly: LocalFly, *arguments: str, **environ: str) -> CompletedProcess[bytes]:
    """The command as a process of its own."""
    environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    environment |= {"FLY_FLAPS_BASE_URL": fly.base_url, "FLY_API_TOKEN": fly.token, "COLUMNS": "200", **environ}
    command = [sys.executable, COMMAND, *arguments]
    return await anyio.run_process(command, env=environment, check=False)


async def test_the_command_as_text(local: LocalFly, orphan: Make) -> None:
    """`flaude reap` says what it found and did, a line a machine; exit code 0 when all that had to go is gone."""
    name = "orphan-" + "x" * 50
    machine = await orphan(name=name)
    told = await flaude(local, "reap", "--app", "my-app", COLUMNS="40")
    assert told.returncode == 0, told.stderr
    assert name.encode() in told.stdout and machine.id.encode() in told.stdout, "cut, it would name nothing"
    assert b"my-app: 1 kept." in told.stdout
    told = await flaude(local, "reap", "--older-than", "0s", "--all", FLY_APP="my-app")
    assert b"my-app: 1 destroyed." in told.stdout
    assert b"No machine of flaude in my-app." in (await flaude(local, "reap", "--app", "my-app")).stdout
    told = await flaude(local, "reap", "--app", "my-app", "--older-than", "2h", "--batch", "b7")
    assert b"No machine of flaude in my-app of batch b7 that is older than 2:00:00." in told.stdout


async def test_the_command_as_json(local: LocalFly, orphan: Make) -> None:
    """With `--json` the report is all of stdout, and reads back as it was."""
    await orphan()
    told = await flaude(local, "reap", "--app", "my-app", "--all", "--dry-run", "--json")
    report = ReapReport.model_validate_json(told.stdout)
    assert report.dry_run and actions(report) == {"orphan": "would_destroy"}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--app", "no-such-app"], b"no-such-app"),
        (["--app", "Not An App"], b"app_name"),
        ([], b"--app"),
        (["--app", ""], b"--app"),
        (["--app", "my-app", "--batch", ""], b"batch"),
        (["--app", "my-app", "--destroy-within", "0s"], b"destroy_within"),
        (["--app", "my-app", "--destroy-within", "99999999999d"], b"--destroy-within"),
        (["--app", "my-app", "--older-than", "soon"], b"--older-than"),
    ],
    ids=["missing app", "no app's name", "no app", "empty app", "empty batch", "at once", "beyond time", "no time"],
)
async def test_wrong_input_is_exit_code_2(local: LocalFly, arguments: list[str], named: bytes) -> None:
    """Wrong input is exit code 2 and names what is wrong."""
    told = await flaude(local, "reap", *arguments, **({"FLY_APP": "another-app"} if arguments else {}))
    assert told.returncode == 2
    assert named in told.stdout + told.stderr


async def test_what_is_left_is_exit_code_1(machines: Machines) -> None:
    """A machine that could not be confirmed as gone is exit code 1."""
    async with machines(faults=[Fault("create_machine", HostGone(back_s=None))]) as fly:
        spec = {"image": "x", "init": {"exec": ["sleep", "20"]}, "restart": {"policy": "no"}}
        async with FlyClient(base_url=fly.base_url, token=fly.token) as client:
            await client.create_machine("my-app", name="gone", config={**spec, "metadata": {"managed_by": "flaude"}})
            with anyio.fail_after(10):
                while (await client.list_machines("my-app"))[0].host_status == "ok":
                    await anyio.lowlevel.checkpoint()
        told = await flaude(fly, "reap", "--app", "my-app", "--all", "--destroy-within", "3s")
        assert told.returncode == 1, told.stderr
        assert b"1 not confirmed as gone" in told.stdout
        with anyio.fail_after(30):
            while fly.alive:
                await reap("my-app", fly=fly, dry_run=True, settle=0)


SPEC = {"image": "x", "init": {"exec": ["sleep", "600"]}, "restart": {"policy": "no"}}
OURS = {**SPEC, "metadata": {"managed_by": "flaude"}}


def listed(machine: Machine, **fields: Any) -> Answer:
    """A list of one machine, whatever was asked for."""
    shown = {"id": machine.id, "name": machine.name, "state": "started", "created_at": machine.created_at, **fields}
    return Answer(200, body=json.dumps([shown]))


async def test_an_api_that_lists_everything(local: LocalFly, client: FlyClient) -> None:
    """One that does not understand a filter costs no machine that is not ours."""
    other = await client.create_machine("my-app", name="other", config=SPEC)
    local.faults.add(Fault("list_machines", listed(other, config={"metadata": {}}), times=2))
    assert (await reap("my-app", fly=local, all=True, settle=0)).machines == ()
    assert await state(client, other) != "destroyed"


async def test_a_machine_of_unknown_age_is_kept(local: LocalFly, client: FlyClient) -> None:
    """With a minimum age a machine whose age nobody knows stays, even with `all`, and is told."""
    odd = await client.create_machine("my-app", name="odd", config=OURS)
    local.faults.add(Fault("list_machines", listed(odd, created_at="", config=OURS), times=2))
    report = await reap("my-app", fly=local, all=True, older_than=3600, settle=0)
    assert actions(report) == {"odd": "kept"}
    assert await state(client, odd) != "destroyed"


async def test_an_app_that_cannot_be_listed_is_an_error(local: LocalFly) -> None:
    """And no empty report."""
    local.faults.add(Fault("list_machines", Answer(403, "forbidden")))
    with pytest.raises(NotAllowedError):
        await reap("my-app", fly=local, settle=0)


async def test_a_new_machine_that_nobody_knows_yet_is_reaped(local: LocalFly, client: FlyClient) -> None:
    """A 404 for a machine that was just made does not mean that it is gone."""
    await client.create_machine("my-app", name="new", config=OURS)
    unknown = Answer(404, "not_found: machine not found")
    local.faults.add(*(Fault(action, unknown, times=1) for action in ("delete_machine", "get_machine")))
    assert actions(await reap("my-app", fly=local, all=True, settle=0)) == {"new": "destroyed"}
    assert await client.list_machines("my-app") == []


async def test_what_was_not_seen_is_exit_code_1(local: LocalFly, client: FlyClient) -> None:
    """A list that could not be had is no success: something may have been missed."""
    await client.create_machine("my-app", name="one", config=OURS)
    local.faults.add(Fault("list_machines", Answer(403, "forbidden"), after=1))
    told = await flaude(local, "reap", "--app", "my-app", "--all")
    local.faults.clear()
    assert told.returncode == 1 and b"Not everything was seen" in told.stdout
