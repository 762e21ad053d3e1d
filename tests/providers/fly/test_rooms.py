"""How many calls are under way at once, against the stand-in with simulated machines."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import suppress

import anyio
import pytest

from flaude import NotFoundError
from flaude._providers import http
from flaude._providers.fly import FlyClient
from flaude._providers.fly.sending import ConnectionQuotas
from flaude.local import Fault, Hook, LocalFly, Quirks

CONFIG = {"image": "any"}


async def test_those_who_wait_leave_room(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Where connections are few, calls that wait do not take all of them: others are answered, and it is told once."""
    monkeypatch.setattr(http, "_most_connections", lambda: 4)
    async with (
        LocalFly(apps=["my-app"], box="simulated", boot_s=30) as local,
        FlyClient(base_url=local.base_url, token=local.token, rate_limits=None) as fly,
    ):
        made = [await fly.create_machine("my-app", name=f"m{n}", config=CONFIG) for n in range(6)]

        async def wait(machine_id: str) -> None:
            with suppress(NotFoundError):
                await fly.wait_machine("my-app", machine_id, state="started")

        async with anyio.create_task_group() as tasks:
            for machine in made:
                tasks.start_soon(wait, machine.id)
            await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(10):
                for machine in made:
                    await fly.delete_machine("my-app", machine.id)
            tasks.cancel_scope.cancel()
    assert len([record for record in caplog.records if "more runs than connections" in record.message]) == 1


async def test_no_storm() -> None:
    """However many calls are wanted at once, only so many are under way."""
    under_way, crowd, go = 0, anyio.Event(), anyio.Event()

    async def arrives(_path: str) -> None:
        nonlocal under_way
        under_way += 1
        if under_way == 64:
            crowd.set()
        await go.wait()

    async with (
        LocalFly(apps=["my-app"], box="simulated", faults=[Fault("get_app", Hook(before=arrives))]) as local,
        FlyClient(base_url=local.base_url, token=local.token, rate_limits=None) as fly,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(300):
            tasks.start_soon(fly.get_app, "my-app")
        await crowd.wait()
        await anyio.wait_all_tasks_blocked()
        assert under_way == 64
        go.set()
    assert local.requests["get_app", 200] == 300


async def test_a_create_that_has_no_room_has_not_begun() -> None:
    """Creates that wait for others have not had their turn, can be cancelled, and have all their time afterwards."""
    begun, go = 0, anyio.Event()

    async def begins() -> None:
        nonlocal begun
        begun += 1

    async def waits(_path: str) -> None:
        await go.wait()

    async with (
        LocalFly(apps=["my-app"], box="simulated", faults=[Fault("create_machine", Hook(before=waits))]) as local,
        FlyClient(base_url=local.base_url, token=local.token, rate_limits=None) as fly,
        anyio.create_task_group() as tasks,
    ):

        async def create(name: str) -> None:
            await fly.create_machine("my-app", name=name, config=CONFIG, on_turn=begins)

        for n in range(16):
            tasks.start_soon(create, f"m{n}")
        await anyio.wait_all_tasks_blocked()
        with anyio.move_on_after(0.1) as scope:
            await create("late")
        go.set()  # first of all: they cannot be cancelled
        assert scope.cancelled_caught and begun == 16


async def test_many_apps_make_machines_at_once() -> None:
    """Fly takes longer than a second for a machine, and 64 apps make one a second each: so many are made at once."""
    under_way, crowd = 0, anyio.Event()

    async def arrives(_path: str) -> None:
        nonlocal under_way
        under_way += 1
        if under_way == 64:
            crowd.set()
        await crowd.wait()

    faults = [Fault("create_machine", Hook(before=arrives))]
    async with (
        LocalFly(apps=["my-app"], box="simulated", faults=faults, quirks=Quirks(machine_limit=None)) as local,
        FlyClient(base_url=local.base_url, token=local.token, rate_limits=1000, timeout_s=5, retry_for_s=0) as fly,
        anyio.create_task_group() as tasks,
    ):
        for n in range(64):
            tasks.start_soon(lambda name: fly.create_machine("my-app", name=name, config=CONFIG), f"m{n}")
    assert len(local.created) == 64


async def test_what_others_take_is_not_a_creates_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a create may take is not spent on waiting for others, after which Fly would be said not to answer."""
    monkeypatch.setattr(http, "_most_connections", lambda: 8)  # one of them for creates
    loop, ahead = asyncio.get_running_loop(), 0.0
    own_time = loop.time
    monkeypatch.setattr(loop, "time", lambda: own_time() + ahead)

    async def takes_long(_path: str) -> None:
        nonlocal ahead
        ahead += 40

    faults = [Fault("create_machine", Hook(before=takes_long))]
    async with (
        LocalFly(apps=["my-app"], box="simulated", faults=faults) as local,
        FlyClient(base_url=local.base_url, token=local.token, rate_limits=None, timeout_s=60, retry_for_s=0) as fly,
        anyio.create_task_group() as tasks,
    ):
        for n in range(3):
            tasks.start_soon(lambda name: fly.create_machine("my-app", name=name, config=CONFIG), f"m{n}")
    assert len(local.created) == 3


@pytest.mark.parametrize("limited", [True, False])
@pytest.mark.parametrize("connections", [16, 128, 896, 65536])
def test_there_is_a_connection_for_each_call_under_way(connections: int, limited: bool) -> None:
    """However few files may be opened, the rooms together have as many places, and most are for those who wait."""
    rooms = ConnectionQuotas.of(connections, limited=limited)
    assert sum(rooms) == connections
    assert rooms.waiting >= connections * 5 // 8


async def test_those_who_wait_share_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The more calls want to wait than there are connections, the shorter each should: all have their turn in time."""
    monkeypatch.setattr(http, "_most_connections", lambda: 4)  # two of them for those who wait
    async with (
        LocalFly(apps=["my-app"], box="simulated", boot_s=30) as local,
        FlyClient(base_url=local.base_url, token=local.token, rate_limits=None) as fly,
        anyio.create_task_group() as tasks,
    ):
        machine = await fly.create_machine("my-app", name="m", config=CONFIG)
        assert fly.share == 1
        for _ in range(8):
            tasks.start_soon(lambda: fly.wait_machine("my-app", machine.id, state="started"))
        await anyio.wait_all_tasks_blocked()
        assert fly.share == 2 / 8
        tasks.cancel_scope.cancel()


def test_the_command_takes_all_files_it_may_open() -> None:
    """The command raises the soft limit of open files as far as it may, and never lowers it."""
    code = (
        "import resource as r; from flaude.cli.process import allow_open_files as allow;"
        "r.setrlimit(r.RLIMIT_NOFILE, (256, 2048)); allow();"
        "print(r.getrlimit(r.RLIMIT_NOFILE)); allow(); print(r.getrlimit(r.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["(2048, 2048)"] * 2
