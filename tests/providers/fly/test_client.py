"""The client against the stand-in, over a real socket; every exchange is checked against Fly's OpenAPI document."""

from __future__ import annotations

import inspect
import logging
from typing import Any

import anyio
import pytest
from tests.conftest import Machines
from tests.providers.fly.conftest import SLEEPER, gone
from tests.providers.fly.proxy import Proxy, Trouble, refusal

from flaude import (
    FlyError,
    InvalidRequestError,
    MachineLimitError,
    NameTakenError,
    NoCapacityError,
    NotAllowedError,
    NotFoundError,
    NotReadyError,
    RateLimitedError,
    UnreachableError,
)
from flaude._providers.fly import FlyClient
from flaude._providers.fly.calls import Call
from flaude._providers.fly.pacing import Pace
from flaude.local import LocalFly


async def test_every_call(fly: FlyClient) -> None:
    """Each method of the client does its work, and none is left out of this test."""
    calls: dict[str, Any] = {}

    async def call(method: str, /, *arguments: Any, **options: Any) -> Any:
        calls[method] = await getattr(fly, method)(*arguments, **options)
        return calls[method]

    await call("create_app", "other", org_slug="personal", network="other")
    assert (await call("get_app", "other")).network == "other"
    assert [(app.name, app.network) for app in await call("list_apps", "personal")][-1] == ("other", "other")
    machine = await call("create_machine", "other", name="one", config=SLEEPER, region="fra")
    assert (machine.name, machine.state, machine.region) == ("one", "created", "fra")
    assert await call("wait_machine", "other", machine.id, state="started", timeout_s=20)
    assert (await call("get_machine", "other", machine.id)).metadata["managed_by"] == "test"
    done = await call("exec_machine", "other", machine.id, ["echo", "text"], stdin="any", timeout_s=5)
    assert (done.exit_code, done.stdout) == (0, "text\n")
    assert await call("count_machines", "personal") == 1
    for metadata, count in (({"flaude_batch": "b1"}, 1), ({"flaude_batch": "b2"}, 0)):
        assert len(await call("list_machines", "other", metadata=metadata, state="started", region="fra")) == count
    changed = {**SLEEPER, "metadata": {"managed_by": "test", "new": "1"}}
    assert (await call("update_machine", "other", machine.id, config=changed)).config["metadata"]["new"] == "1"
    assert await fly.wait_machine("other", machine.id, state="started", timeout_s=20)
    await call("stop_machine", "other", machine.id, signal="SIGKILL", timeout_s=5)
    assert await fly.wait_machine("other", machine.id, state="stopped", timeout_s=20)
    event = (await fly.get_machine("other", machine.id)).exit_event
    assert event is not None and event.requested_stop and event.exited_at is not None
    await call("start_machine", "other", machine.id)
    assert await fly.wait_machine("other", machine.id, state="started", timeout_s=20)
    await call("signal_machine", "other", machine.id, "SIGTERM")
    await call("delete_machine", "other", machine.id)
    assert await fly.wait_machine("other", machine.id, state="destroyed", timeout_s=20)
    assert len(await fly.list_machines("other", include_deleted=True)) == 1
    ours = {"managed_by": "test"}
    assert await call("machine_states", "other", metadata=ours, include_deleted=True) == {machine.id: "destroyed"}
    assert await fly.machine_states("other", metadata=ours) == {}
    assert await call("count_machines", "personal") == 0
    asked = Call("get_app", "other", "GET", "/apps/other")
    await call("turn", asked)
    assert (await call("answer", asked)).status == 200
    await call("delete_app", "other", force=True)
    assert (await fly.answer(asked)).status == 404  # an answer too
    with pytest.raises(NotFoundError):
        await fly.get_app("other")
    public = {name for name, _ in inspect.getmembers(FlyClient, inspect.iscoroutinefunction) if name[0] != "_"}
    assert public == set(calls)


async def test_refusals_are_told_apart(local: LocalFly, fly: FlyClient) -> None:
    """What a caller can do decides the error's class; it has method, path, status and Fly's text."""
    with pytest.raises(NotFoundError, match="ensure_app") as caught:
        await fly.get_app("nobody")
    assert (caught.value.method, caught.value.path, caught.value.status) == ("GET", "/apps/nobody", 404)
    assert "Could not find App" in caught.value.fly_text and caught.value.request_id
    with pytest.raises(NameTakenError):
        await fly.create_app("my-app")
    with pytest.raises(InvalidRequestError):
        await fly.create_app("Not A Name")
    with pytest.raises(InvalidRequestError):
        await fly.create_machine("my-app", name="x", config={**SLEEPER, "guest": {"cpus": 1}})
    with pytest.raises(NotFoundError):
        await fly.get_machine("my-app", "5683000000000d")
    await fly.delete_machine("my-app", "5683000000000d")
    machine = await fly.create_machine("my-app", name="one", config=SLEEPER)
    with pytest.raises(NameTakenError) as taken:
        await fly.create_machine("my-app", name="one", config={**SLEEPER, "metadata": {"managed_by": "other"}})
    assert taken.value.machine_id == machine.id
    assert await fly.wait_machine("my-app", machine.id, state="started")
    assert not await fly.wait_machine("my-app", machine.id, state="stopped", timeout_s=1)
    with pytest.raises(UnreachableError) as late:
        await fly.exec_machine("my-app", machine.id, ["sleep", "30"], timeout_s=1)
    assert late.value.status == 408
    await fly.stop_machine("my-app", machine.id, signal="SIGKILL")
    assert await fly.wait_machine("my-app", machine.id, state="stopped")
    with pytest.raises(NotReadyError):
        await fly.exec_machine("my-app", machine.id, ["true"])
    await fly.delete_machine("my-app", machine.id)
    await gone(fly, machine.id)
    async with FlyClient(base_url=local.base_url, token="wrong") as stranger:
        with pytest.raises(NotAllowedError, match="FLY_API_TOKEN"):
            await stranger.get_app("my-app")


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (refusal(422, "could not find a candidate host"), InvalidRequestError),
        (Trouble("answer", 422, '{"error":"no host","status":"insufficient_capacity"}'), NoCapacityError),
        (Trouble("answer", 412, '{"error":"full","status":"volume_placement_capacity"}'), NoCapacityError),
        (refusal(409, "aborted: insufficient IPs available to fulfill request"), NoCapacityError),
        (refusal(409, "aborted: could not reserve resource for machine: insufficient CPUs"), NoCapacityError),
        (refusal(409, "aborted: no capacity"), NoCapacityError),
        (
            refusal(422, "Your organization has reached its machine limit. Please contact billing@fly.io"),
            MachineLimitError,
        ),
        (refusal(403, "organization has reached its MACHINE LIMIT"), MachineLimitError),
        (refusal(500, "organization has reached its machine limit"), UnreachableError),
        (refusal(409, "aborted: machine update failed due to concurrent update"), NotReadyError),
        (
            Trouble("answer", 409, '{"status":"error","message":"lease currently held by x","code":"invalid"}'),
            NotReadyError,
        ),
        (refusal(403, "not yours"), NotAllowedError),
        (Trouble("answer", 400, "<html>"), InvalidRequestError),
        (Trouble("answer", 400, ""), InvalidRequestError),
        (Trouble("answer", 302, "", (("location", "http://127.0.0.1:1/"),)), UnreachableError),
    ],
)
async def test_fly_texts_are_understood(far: FlyClient, net: Proxy, trouble: Trouble, error: type[FlyError]) -> None:
    """Fly's documented refusals, and broken ones, become the error that a caller can act on."""
    net.troubles = [trouble] * 30
    with pytest.raises(FlyError) as caught:
        await far.create_machine("my-app", name="x", config=SLEEPER)
    assert type(caught.value) is error
    assert caught.value.status == trouble.status


@pytest.mark.parametrize(
    "trouble",
    [
        Trouble("drop"),
        Trouble("lose"),
        Trouble("half"),
        refusal(500, "oops"),
        refusal(502, "bad gateway"),
        refusal(503, "later"),
        refusal(429, "resource_exhausted: rate limit exceeded"),
        Trouble("answer", 200, "{ not json"),
    ],
    ids=lambda trouble: f"{trouble.kind}-{trouble.status}",
)
async def test_blips_are_repeated(local: LocalFly, far: FlyClient, net: Proxy, trouble: Trouble) -> None:
    """Dropped connections, 5xx, 429 and half bodies are repeated; a create makes one machine all the same."""
    net.troubles = [trouble, trouble]
    machine = await far.create_machine("my-app", name="only", config=SLEEPER)
    assert local.created == [machine.id]
    net.troubles = [trouble]
    assert (await far.get_machine("my-app", machine.id)).name == "only"
    net.troubles = [trouble]
    done = await far.exec_machine("my-app", machine.id, ["echo", "hi"], retry=True)
    assert done.stdout == "hi\n"
    net.troubles = [trouble]
    await far.delete_machine("my-app", machine.id)
    await gone(far, machine.id)


async def test_a_lost_create_that_is_not_ours_is_not_adopted(local: LocalFly, fly: FlyClient) -> None:
    """The machine behind a 409 is taken only when its metadata contains all of ours."""
    machine = await fly.create_machine("my-app", name="one", config=SLEEPER)
    again = await fly.create_machine("my-app", name="one", config={**SLEEPER, "metadata": {"managed_by": "test"}})
    assert again.id == machine.id
    for metadata in ({}, {"managed_by": "test", "flaude_batch": "b2"}):
        with pytest.raises(NameTakenError):
            await fly.create_machine("my-app", name="one", config={**SLEEPER, "metadata": metadata})
    assert local.created == [machine.id]
    await fly.delete_machine("my-app", machine.id)
    await gone(fly, machine.id)


async def test_what_may_not_be_repeated_is_not(local: LocalFly, fly: FlyClient, far: FlyClient, net: Proxy) -> None:
    """An exec whose answer is lost is not run again, unless the caller allows it."""
    machine = await fly.create_machine("my-app", name="one", config=SLEEPER)
    assert await fly.wait_machine("my-app", machine.id, state="started")
    net.troubles = [Trouble("lose")]
    with pytest.raises(UnreachableError):
        await far.exec_machine("my-app", machine.id, ["true"])
    assert len(net.seen) == 1
    await fly.delete_machine("my-app", machine.id)
    await gone(fly, machine.id)


async def test_retries_end(far: FlyClient, net: Proxy) -> None:
    """A call is repeated for its time, and then says what was wrong."""
    net.troubles = [refusal(503, "down for good")] * 50
    with anyio.fail_after(15), pytest.raises(UnreachableError, match="down for good") as caught:
        await far.get_app("my-app")
    assert caught.value.status == 503 and 1 < len(net.seen) < 30


async def test_retry_after_is_honoured(far: FlyClient, net: Proxy) -> None:
    """When Fly says how long to wait, that is how long; here longer than the call has."""
    net.troubles = [refusal(429, "slow down", **{"retry-after": "1"})]
    began = anyio.current_time()
    await far.get_app("my-app")
    assert anyio.current_time() - began >= 0.9
    assert len(net.seen) == 2
    net.troubles = [refusal(429, "slow down")] * 50
    with pytest.raises(RateLimitedError):
        await far.get_app("my-app")


async def test_no_server_is_unreachable() -> None:
    """An address where nobody listens is unreachable, and the error shows the address and no token."""
    async with FlyClient(base_url="http://127.0.0.1:1", token="fm2_canary", retry_for_s=0.5) as client:
        with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1") as caught:
            await client.get_app("my-app")
    chain = [repr(caught.value), repr(caught.value.__cause__), str(caught.value.__context__)]
    assert "fm2_canary" not in "".join(chain)


async def test_a_token_is_never_told(
    local: LocalFly, net: Proxy, far: FlyClient, caplog: pytest.LogCaptureFixture
) -> None:
    """No log record and no error has the token, whatever goes wrong."""
    caplog.set_level(logging.DEBUG)
    net.troubles = [Trouble("drop"), refusal(500, "x"), refusal(401, "no"), refusal(401, "no")]
    with pytest.raises(NotAllowedError) as caught:
        await far.get_app("my-app")
    assert local.token not in caplog.text + repr(caught.value) + str(caught.value.__dict__)
    assert "GET /apps/my-app" in caplog.text


async def test_pace(machines: Machines) -> None:
    """With Fly's limits on, bursts of creates and reads are paced so that not one is refused."""
    async with machines(limits=True) as strict:
        async with FlyClient(base_url=strict.base_url, token=strict.token) as client:
            began = anyio.current_time()
            found: list[str] = []

            async def one(number: int) -> None:
                machine = await client.create_machine("my-app", name=f"m{number}", config=SLEEPER)
                found.append(machine.id)

            async with anyio.create_task_group() as tasks:
                for number in range(6):
                    tasks.start_soon(one, number)
            assert anyio.current_time() - began >= 3.5  # two at once, then one a second
            async with anyio.create_task_group() as tasks:
                for _ in range(12):
                    tasks.start_soon(client.get_machine, "my-app", found[0])
                for machine_id in found:
                    tasks.start_soon(client.delete_machine, "my-app", machine_id)
            for machine_id in found:
                await gone(client, machine_id)
        assert [key for key in strict.requests if key[1] == 429] == []


async def test_gone_machines_are_forgotten() -> None:
    """The pace keeps no bucket of a machine that nobody has asked for in a while."""
    now = 0.0
    pace = Pace(clock=lambda: now)
    for number in range(1000):
        await pace.wait("get_machine", f"machine-{number}")
        now += 1
    assert len(pace) < 70


async def test_the_pace_is_flys() -> None:
    """Two at once and then one a second, for each action and machine."""
    pace = Pace()
    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(pace.wait, "exec_machine", "a")
            tasks.start_soon(pace.wait, "exec_machine", "b")
            tasks.start_soon(pace.wait, "get_machine", "a")
    # The third of each has to wait for its turn.
    assert anyio.current_time() - began > 0.9
