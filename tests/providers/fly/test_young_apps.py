"""Apps that there are, and that Fly answers with 404 for a while; creates that are refused after a lost answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import TOKEN, Machines
from tests.providers.fly.conftest import SLEEPER, gone

from flaude import (
    ConcurrentExecutor,
    InvalidRequestError,
    MachineConfig,
    NotAllowedError,
    NotFoundError,
    UnreachableError,
)
from flaude._providers.fly import FlyClient
from flaude._providers.fly.young_apps import YOUNG_S, Sightings, denies_the_app, pause_s
from flaude.local import Answer, DropAfter, DropBefore, Fault, Hook, LocalFly, Quirks, SlowDelete

NO_APP = "app not found"
NO_ROW = "internal: failed to get app: sql: no rows in result set"


@pytest.fixture
async def fly(local: LocalFly) -> AsyncIterator[FlyClient]:
    """A client that does not wait for Fly's rate limits."""
    async with FlyClient(base_url=local.base_url, token=local.token, rate_limits=None) as client:
        yield client


@pytest.mark.parametrize(
    ("status", "text", "denied"),
    [
        (404, NO_APP, True),
        (404, "not_found: app not found", True),
        (404, 'could not find app "my-app"', True),
        (404, NO_ROW, True),
        (500, NO_ROW, True),
        (500, NO_APP, False),
        (500, "internal: failed to get app: connection refused", False),
        (502, NO_ROW, False),
        (404, "not_found: machine not found", False),
        (403, NO_APP, False),
    ],
)
def test_what_says_that_there_is_no_app(status: int, text: str, denied: bool) -> None:
    """The texts that were seen do; a machine that is not there, and a server that fails, say nothing of the app."""
    assert denies_the_app(status, text) is denied


def test_an_app_is_young_for_a_minute() -> None:
    """Counted from when it was first seen, and anew when it was made anew; an app that is gone is not known."""
    seen = Sightings()
    assert not seen.is_known("a") and not seen.is_young("a", 0)
    seen.shown("a", 10)
    seen.shown("a", 50)
    assert seen.is_young("a", 10 + YOUNG_S - 1) and not seen.is_young("a", 10 + YOUNG_S)
    seen.made("a", 100)
    assert seen.is_young("a", 100 + YOUNG_S - 1) and not seen.is_young("a", 100 + YOUNG_S)
    seen.gone("a")
    assert not (seen.is_known("a") or seen.is_young("a", 101))


def test_an_app_may_be_hidden_while_it_is_ours_and_young_or_never_shown() -> None:
    """One that somebody else has made is not, however young it is."""
    seen = Sightings()
    seen.shown("theirs", 0)
    assert not seen.may_be_hidden("theirs", 1) and not seen.may_be_hidden("nobody", 1)
    seen.made("a", 0)
    assert seen.may_be_hidden("a", 10 * YOUNG_S)
    seen.shown("a", 1)
    assert seen.may_be_hidden("a", YOUNG_S - 1) and not seen.may_be_hidden("a", YOUNG_S)
    seen.gone("a")
    assert not seen.may_be_hidden("a", 2)


def test_denials_are_counted_from_the_first() -> None:
    """Each sort of call by itself, until it is answered, and anew when nobody has tried for a minute."""
    seen = Sightings()
    assert [seen.denied("create", "a", now) for now in (5, 35, 64, 70)] == [0, 30, 59, 65]
    assert seen.denied("list", "a", 71) == 0
    seen.answered("create", "a")
    assert seen.denied("create", "a", 72) == 0
    assert seen.denied("create", "a", 72 + YOUNG_S) == 0


@given(st.floats(0, 1e6))
def test_pauses(denied_s: float) -> None:
    """None is too short for Fly's rate limits to be spent on it, and none is so long that a run waits for nothing."""
    assert 0.2 <= pause_s(denied_s) <= 2.0


async def test_machines_in_an_app_that_was_made_just_now(local: LocalFly, fly: FlyClient) -> None:
    """A create and a list wait until Fly knows the app; the create makes one machine."""
    await fly.create_app("new-app")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fly.list_machines, "new-app")
        machine = await fly.create_machine("new-app", name="one", config=SLEEPER)
    assert local.created == [machine.id]
    assert local.requests["create_machine", 404] > 0 and local.requests["list_machines", 404] > 0
    assert local.requests["list_machines", 200] == 1
    await fly.delete_machine("new-app", machine.id)
    await gone(fly, machine.id, "new-app")


async def test_an_app_that_another_process_has_made(local: LocalFly, fly: FlyClient) -> None:
    """A client that has never seen the app asks for it, once, and then waits too."""
    async with FlyClient(base_url=local.base_url, token=local.token) as other:
        await other.create_app("new-app")
    machine = await fly.create_machine("new-app", name="one", config=SLEEPER)
    assert local.created == [machine.id]
    assert local.requests["get_app", 200] == 1
    await fly.delete_machine("new-app", machine.id)
    await gone(fly, machine.id, "new-app")


@pytest.mark.parametrize(("status", "text"), [(404, NO_ROW), (500, NO_ROW), (404, NO_APP)])
async def test_every_text_is_waited_out(local: LocalFly, fly: FlyClient, status: int, text: str) -> None:
    """It has surely made nothing, so that no machine is looked for."""
    local.faults.add(Fault("create_machine", Answer(status, text), times=3))
    machine = await fly.create_machine("my-app", name="one", config=SLEEPER)
    assert local.requests["create_machine", status] == 3 and local.created == [machine.id]
    assert local.requests["list_machines", 200] == 0
    await fly.delete_machine("my-app", machine.id)
    await gone(fly, machine.id)


async def test_an_app_that_is_never_known(local: LocalFly, fly: FlyClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a minute it is an error that says what Fly says, and nothing of making an app that there is."""
    monkeypatch.setattr("flaude._providers.fly.young_apps.YOUNG_S", 1)
    local.faults.add(Fault("create_machine", Answer(404, NO_APP)))
    with anyio.fail_after(20), pytest.raises(NotFoundError, match="Fly shows the app my-app, and says for") as caught:
        await fly.create_machine("my-app", name="one", config=SLEEPER)
    assert caught.value.fly_text == NO_APP and caught.value.status == 404 and NO_APP in str(caught.value)
    assert "ensure_app" not in str(caught.value) and not caught.value.may_have_been_done
    refused = local.requests["create_machine", 404]
    with pytest.raises(NotFoundError, match="Fly shows the app my-app"):
        await fly.create_machine("my-app", name="two", config=SLEEPER)
    assert local.requests["create_machine", 404] == refused + 1, "who comes later does not wait as long again"
    assert local.created == []


async def test_an_app_that_is_gone(local: LocalFly, fly: FlyClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an app that was there for longer than a minute, a 404 is believed when Fly does not show it either."""
    async with FlyClient(base_url=local.base_url, token=local.token) as other:
        await fly.get_app("my-app")
        await other.delete_app("my-app")
    monkeypatch.setattr("flaude._providers.fly.young_apps.YOUNG_S", 0)
    for call in (fly.list_machines("my-app"), fly.create_machine("my-app", name="one", config=SLEEPER)):
        with pytest.raises(NotFoundError, match="app"):
            await call
    assert local.requests["list_machines", 404] == local.requests["create_machine", 404] == 1


async def test_an_app_that_never_was(local: LocalFly, fly: FlyClient) -> None:
    """It is an error at once, with what to do."""
    with pytest.raises(NotFoundError, match="ensure_app"):
        await fly.create_machine("nobody", name="one", config=SLEEPER)
    assert local.requests["create_machine", 404] == local.requests["get_app", 404] == 1


async def test_who_waits_for_an_app_can_be_stopped(local: LocalFly, fly: FlyClient) -> None:
    """Nothing was made: the create is left at once, and no machine comes later."""
    local.faults.add(Fault("create_machine", Answer(404, NO_APP)))
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:

            def stop(_path: str) -> None:
                tasks.cancel_scope.cancel()

            local.faults.add(Fault("get_app", Hook(after=stop)))
            await fly.create_machine("my-app", name="one", config=SLEEPER)
    assert local.created == []


async def test_a_lost_create_in_an_app_that_is_then_a_404(local: LocalFly, fly: FlyClient) -> None:
    """The machine that was made is found by the next call that Fly understands."""
    local.faults.add(Fault("create_machine", DropAfter(), times=1))
    local.faults.add(Fault("create_machine", Answer(404, NO_APP), times=2))
    machine = await fly.create_machine("my-app", name="one", config=SLEEPER)
    assert local.created == [machine.id] and local.requests["create_machine", 404] == 2
    await fly.delete_machine("my-app", machine.id)
    await gone(fly, machine.id)


async def test_an_app_that_is_not_deleted_at_once(local: LocalFly, fly: FlyClient) -> None:
    """A 404 is not "gone" while Fly shows the app."""
    local.faults.add(Fault("delete_app", Answer(404, NO_APP), times=2))
    await fly.delete_app("my-app")
    assert local.requests["delete_app", 404] == 2 and local.requests["delete_app", 202] == 1
    await fly.delete_app("my-app")
    assert local.requests["delete_app", 404] == 3, "of an app that is gone it is"


# --- a refusal after a create that was not answered ---


@pytest.mark.parametrize("text", ["machine name already taken", "Validation failed: whatever Fly may call it"])
async def test_a_422_after_a_lost_create(local: LocalFly, fly: FlyClient, text: str) -> None:
    """It may mean the machine that the create before it has made: that one is found by its metadata, and taken."""
    local.faults.add(Fault("create_machine", DropAfter(), times=1))
    local.faults.add(Fault("create_machine", Answer(422, text)))
    machine = await fly.create_machine("my-app", name="one", config=SLEEPER)
    assert local.created == [machine.id] and local.requests["create_machine", 422] == 1
    local.faults.clear()
    await fly.delete_machine("my-app", machine.id)
    await gone(fly, machine.id)


async def test_a_409_without_an_id_after_a_lost_create(local: LocalFly, fly: FlyClient) -> None:
    """Likewise, where Fly does not say which machine has the name, and the first lists do not have it."""
    local.faults.add(Fault("create_machine", DropAfter(), times=1))
    local.faults.add(Fault("create_machine", Answer(409, "already_exists: already taken")))
    local.faults.add(Fault("list_machines", Answer(200, body="[]"), times=1))
    machine = await fly.create_machine("my-app", name="one", config=SLEEPER)
    assert local.created == [machine.id]
    local.faults.clear()
    await fly.delete_machine("my-app", machine.id)
    await gone(fly, machine.id)


async def test_a_422_after_a_create_that_was_not_done(
    local: LocalFly, fly: FlyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When no list has it, the refusal is believed; whether the one before was done is not known."""
    monkeypatch.setattr("flaude._providers.fly.creating._LIST_LAGS_S", 0.5)
    local.faults.add(Fault("create_machine", DropBefore(), times=1))
    local.faults.add(Fault("create_machine", Answer(422, "no")))
    with pytest.raises(InvalidRequestError) as caught:
        await fly.create_machine("my-app", name="one", config=SLEEPER)
    assert caught.value.may_have_been_done and local.requests["list_machines", 200] > 0 and local.created == []


async def test_a_422_is_believed_at_once_where_nothing_was_lost(local: LocalFly, fly: FlyClient) -> None:
    """No list is asked for."""
    local.faults.add(Fault("create_machine", Answer(422, "no")))
    with pytest.raises(InvalidRequestError) as caught:
        await fly.create_machine("my-app", name="one", config=SLEEPER)
    assert not caught.value.may_have_been_done and local.requests["list_machines", 200] == 0


# --- what is sent ---


async def test_what_makes_an_app_and_a_machine(machines: Machines) -> None:
    """An app has its name by both of Fly's words for it, and is waited for; a machine gets no secret of the app."""
    seen: list[Any] = []
    async with machines(on_exchange=seen.append, quirks=Quirks(young_app_s=0)) as local:
        async with FlyClient(base_url=local.base_url, token=local.token) as fly:
            await fly.create_app("new-app")
            machine = await fly.create_machine("my-app", name="one", config=SLEEPER)
            await fly.delete_machine("my-app", machine.id)
            await gone(fly, machine.id)
        made, created = seen[:2]
        assert made.query == {"wait": "true"}
        assert made.request == {"name": "new-app", "app_name": "new-app", "org_slug": "personal"}
        assert created.request == {"name": "one", "config": SLEEPER, "skip_secrets": True}, json.dumps(created.request)


async def test_an_app_that_fly_does_not_answer_for(local: LocalFly) -> None:
    """Where an app that nobody has seen cannot be asked for, the 404 stands."""
    local.faults.add(Fault("create_machine", Answer(404, NO_APP)), Fault("get_app", Answer(503, "later")))
    async with FlyClient(base_url=local.base_url, token=local.token, retry_for_s=0) as fly:
        with pytest.raises(NotFoundError):
            await fly.create_machine("my-app", name="one", config=SLEEPER)
        with pytest.raises(UnreachableError):
            await fly.get_app("my-app")


# --- an app that there is, and that Fly denies for a moment ---

DENIED = Answer(404, NO_APP)


def deny(local: LocalFly, *actions: str) -> Hook:
    """From then on the next call of each sort finds no app."""

    def begin(_path: str) -> None:
        for action in actions:
            local.faults.add(Fault(action, DENIED, times=1))

    return Hook(before=begin)


async def test_a_run_whose_app_is_denied_for_a_moment(local: LocalFly, monkeypatch: pytest.MonkeyPatch) -> None:
    """That there is no such app is no word on a machine in it: its run goes on, and is not repeated."""
    monkeypatch.setattr("flaude._run.driver.UNKNOWN_S", 0.0)
    local.faults.add(Fault("exec_machine", deny(local, "exec_machine", "get_machine"), times=1))
    executor = ConcurrentExecutor("my-app", fly=local, rate_limits=None)
    result = await executor.run_one(MachineConfig(claude_code_oauth_token=TOKEN, prompt="::say a\n::say b"))
    assert result.success and len(local.created) == 1
    assert local.requests["exec_machine", 404] == 1


async def test_a_machine_in_an_app_that_is_denied_is_not_taken_for_gone(
    local: LocalFly, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a machine is destroyed, such an answer to any of the calls does not end its destruction."""
    monkeypatch.setattr("flaude._run.driver.UNKNOWN_S", 0.0)
    denied = deny(local, "delete_machine", "wait_machine", "get_machine", "list_machines")
    local.faults.add(Fault("delete_machine", denied, times=1))
    executor = ConcurrentExecutor("my-app", fly=local, rate_limits=None)
    local.faults.add(Fault("delete_machine", SlowDelete(1.0)))
    result = await executor.run_one(MachineConfig(claude_code_oauth_token=TOKEN, prompt="::say done"))
    assert result.success and result.attempts[-1].gone and local.alive == 0


async def test_a_lost_create_is_not_forgotten_when_the_token_is_refused(local: LocalFly, fly: FlyClient) -> None:
    """Whatever Fly answers after a create whose answer was lost, the error says that there may be a machine."""
    await fly.get_app("my-app")
    for effect in (DropAfter(), DENIED):
        local.faults.add(Fault("create_machine", effect, times=1))
    local.faults.add(Fault("create_machine", Answer(401, "unauthorized")))
    with pytest.raises(NotAllowedError) as caught:
        await fly.create_machine("my-app", name="one", config=SLEEPER)
    assert caught.value.may_have_been_done and len(local.created) == 1
    local.faults.clear()
    await fly.delete_machine("my-app", local.created[0])
    await gone(fly, local.created[0])


async def test_an_app_that_is_denied_is_deleted_all_the_same(local: LocalFly, fly: FlyClient) -> None:
    """One that was made just now, and that Fly cannot show either, is not taken for gone."""
    await fly.create_app("new-app")
    local.faults.add(Fault("delete_app", DENIED, times=1))
    local.faults.add(Fault("get_app", Answer(503), times=1))
    await fly.delete_app("new-app")
    assert local.requests["delete_app", 404] > 0 and local.requests["delete_app", 202] == 1
