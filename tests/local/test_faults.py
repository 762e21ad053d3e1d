"""The stand-in misbehaves on request, and only then."""

from __future__ import annotations

from typing import Any

import anyio
import httpx2
import pytest
from tests.local.conftest import Api, Open, config, error, opened

from flaude.local import (
    Answer,
    Delay,
    Dies,
    DropAfter,
    DropBefore,
    Fault,
    Faults,
    FlyStops,
    Hang,
    Hook,
    HostGone,
    ListLag,
    SlowDelete,
    Truncate,
)
from flaude.local.faults import ACTIONS
from flaude.local.routes import SERVED

DROPPED = (httpx2.RemoteProtocolError, httpx2.ReadError)


async def test_an_answer_in_place_of_the_deed(plain: Api) -> None:
    """`Answer` is what is answered, in Fly's form or as it stands, and nothing is done."""
    plain.fly.faults.add(
        Fault("create_machine", Answer(503, "unavailable", retry_after=7), times=1),
        Fault("create_machine", Answer(500, body=""), times=1),
    )
    first = await plain.call("POST", "/machines", {"config": config()})
    assert error(first) == (503, "unavailable") and first.headers["retry-after"] == "7"
    second = await plain.call("POST", "/machines", {"config": config()})
    assert (second.status_code, second.content) == (500, b"")
    assert plain.fly.created == []
    await plain.create()
    assert len(plain.fly.created) == 1
    assert plain.fly.requests["create_machine", 503] == 1
    assert plain.fly.faults.struck["create_machine", "Answer"] == 2


async def test_drops_before_and_after_the_deed(plain: Api) -> None:
    """`DropBefore` closes the connection with nothing done, `DropAfter` with all done."""
    plain.fly.faults.add(Fault("create_machine", DropBefore(), times=1))
    with pytest.raises(DROPPED):
        await plain.create(name="one")
    assert plain.fly.created == []
    plain.fly.faults.add(Fault("create_machine", DropAfter(), times=1))
    with pytest.raises(DROPPED):
        await plain.create(name="one")
    assert len(plain.fly.created) == 1
    assert plain.fly.requests["create_machine", 0] == 2


async def test_half_an_answer(plain: Api) -> None:
    """`Truncate` does what was asked and sends half of the answer."""
    plain.fly.faults.add(Fault("create_machine", Truncate(), times=1))
    with pytest.raises(DROPPED):
        await plain.create()
    assert len(plain.fly.created) == 1


async def test_an_exec_that_never_answers(plain: Api) -> None:
    """`Hang` answers nothing, does nothing, and does not keep the stand-in from ending."""
    plain.fly.faults.add(Fault("exec_machine", Hang()))
    machine = await plain.started()
    with pytest.raises(httpx2.ReadTimeout):
        await plain.client.post(
            f"/v1/apps/my-app/machines/{machine}/exec", json={"command": ["touch", "/x"]}, timeout=0.3
        )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_expect_no_answer, plain, machine)
        with anyio.fail_after(10):
            while plain.fly.faults.struck["exec_machine", "Hang"] < 2:
                await plain.get(machine)
        tasks.cancel_scope.cancel()


async def _expect_no_answer(api: Api, machine: str) -> None:
    await api.exec(machine, "true")
    pytest.fail("a hung exec has answered")


async def test_delay(plain: Api) -> None:
    """`Delay` does it all the same, later; a client that has gone by then does not undo it."""
    plain.fly.faults.add(Fault("create_machine", Delay(0.5)))
    with pytest.raises(httpx2.ReadTimeout):
        await plain.client.post("/v1/apps/my-app/machines", json={"config": config()}, timeout=0.1)
    with anyio.fail_after(10):
        while not plain.fly.created:
            await plain.call("GET", "/machines")


async def test_hooks_see_the_world_before_and_after() -> None:
    """`Hook` calls plain and async functions with the path, before and after the deed."""
    seen: list[tuple[str, str, int]] = []
    async with opened() as api:

        def before(path: str) -> None:
            seen.append(("before", path, len(api.fly.created)))

        async def after(path: str) -> None:
            await anyio.lowlevel.checkpoint()
            seen.append(("after", path, len(api.fly.created)))

        api.fly.faults.add(Fault("create_machine", Hook(before=before, after=after)))
        await api.create()
    assert seen == [("before", "/v1/apps/my-app/machines", 0), ("after", "/v1/apps/my-app/machines", 1)]


async def test_what_a_hook_raises_is_raised_on_leaving() -> None:
    """A hook that fails spoils no answer, and is heard of when the block is left."""

    def fail(_path: str) -> None:
        raise KeyError("mine")

    with pytest.raises(ExceptionGroup) as caught:
        async with opened(faults=[Fault("get_app", Hook(after=fail))]) as api:
            assert (await api.call("GET", "")).status_code == 200
    assert caught.group_contains(KeyError, match="mine")


async def test_the_list_lags(plain: Api) -> None:
    """`ListLag` keeps young machines out of the list, and only out of it."""
    plain.fly.faults.add(Fault("list_machines", ListLag(3600), times=1))
    machine = await plain.create()
    assert (await plain.call("GET", "/machines")).json() == []
    assert (await plain.get(machine))["id"] == machine
    assert [shown["id"] for shown in (await plain.call("GET", "/machines")).json()] == [machine]


async def test_a_slow_delete(plain: Api) -> None:
    """`SlowDelete` accepts at once, and the process lives on as `destroying` for its time."""
    plain.fly.faults.add(Fault("delete_machine", SlowDelete(1.0)))
    machine = await plain.started()
    for _ in range(2):
        assert (await plain.call("DELETE", f"/machines/{machine}", force="true")).status_code == 200
    assert (await plain.get(machine))["state"] == "destroying"
    assert plain.fly.alive == 1
    await plain.reach(machine, "destroyed")
    assert plain.fly.alive == 0


@pytest.mark.parametrize("oom", [True, False])
async def test_a_machine_dies(plain: Api, oom: bool) -> None:
    """`Dies` kills the machine that the create made; its exit event tells why, and that nobody asked for it."""
    plain.fly.faults.add(Fault("create_machine", Dies(after_s=0.1, oom=oom), times=1))
    machine = await plain.create()
    await plain.reach(machine, "stopped")
    event = await plain.exit_event(machine)
    assert (event["oom_killed"], event["exit_code"], event["signal"]) == (oom, 137, 9)
    assert event["requested_stop"] is False
    assert (await plain.get(await plain.started()))["state"] == "started", "the next one lives"


async def test_fly_stops_a_machine(plain: Api) -> None:
    """`FlyStops` has the process hear the signal of its `stop_config`, and the exit event says that it was asked to."""
    script = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(5)); signal.pause()"
    plain.fly.faults.add(Fault("create_machine", FlyStops(after_s=1), times=1))
    machine = await plain.create("python3", "-c", script, stop_config={"signal": "SIGTERM", "timeout": "300s"})
    await plain.reach(machine, "stopped")
    event = await plain.exit_event(machine)
    assert (event["exit_code"], event["requested_stop"]) == (5, True)
    events = [(event["type"], event["source"]) for event in (await plain.get(machine))["events"]]
    assert events[:2] == [("exit", "flyd"), ("stop", "flyd")]


async def test_fly_stops_a_machine_that_does_not_listen(plain: Api) -> None:
    """It is killed at the end of its time, or of the fault's own."""
    plain.fly.faults.add(Fault("create_machine", FlyStops(after_s=1, timeout_s=0.2), times=1))
    ignores = ("sh", "-c", "trap '' TERM; while :; do sleep 600; done")
    machine = await plain.create(*ignores, stop_config={"signal": "SIGTERM", "timeout": "300s"})
    await plain.reach(machine, "stopped")
    assert (await plain.exit_event(machine))["signal"] == 9


async def test_a_machine_that_ends_before_it_would_die_has_its_own_exit(plain: Api) -> None:
    """What ends by itself was not killed."""
    plain.fly.faults.add(Fault("create_machine", Dies(after_s=600, oom=True)))
    machine = await plain.create("sh", "-c", "exit 3")
    await plain.reach(machine, "stopped")
    event = await plain.exit_event(machine)
    assert (event["exit_code"], event["oom_killed"]) == (3, False)


async def test_a_host_that_goes_and_comes_back(plain: Api) -> None:
    """While the host is gone the machine cannot be reached, its config is not told, and a delete is pending."""
    plain.fly.faults.add(Fault("create_machine", HostGone(back_s=1.5)))
    machine = await plain.create()
    with anyio.fail_after(10):
        while (shown := await plain.get(machine))["host_status"] == "ok":
            await anyio.lowlevel.checkpoint()
    assert "config" not in shown and shown["incomplete_config"]["image"] == "x"
    for method, path in (("POST", "exec"), ("GET", "wait?state=started&timeout=5"), ("POST", "stop")):
        body = {"command": ["true"]} if path == "exec" else None
        reply = await plain.client.request(method, f"/v1/apps/my-app/machines/{machine}/{path}", json=body)
        assert reply.status_code == 408, path
    assert (await plain.call("DELETE", f"/machines/{machine}", force="true")).status_code == 200
    assert (await plain.get(machine))["state"] == "destroying"
    assert plain.fly.alive == 1
    with anyio.fail_after(10):
        while (await plain.get(machine))["state"] != "destroyed":
            await anyio.lowlevel.checkpoint()


async def test_leaving_ends_even_what_a_fault_keeps(boxed: Open) -> None:
    """No fault keeps a process alive beyond the stand-in, nor the stand-in from ending."""
    async with boxed(
        faults=[
            Fault("create_machine", HostGone(), times=1),
            Fault("delete_machine", SlowDelete(3600)),
            Fault("wait_machine", Delay(3600), after=1),
        ]
    ) as api:
        gone = await api.create()
        slow = await api.started()
        with anyio.fail_after(10):
            while (await api.get(gone))["host_status"] == "ok":
                await anyio.lowlevel.checkpoint()
        for machine in (gone, slow):
            await api.call("DELETE", f"/machines/{machine}", force="true")
        fly = api.fly
        assert fly.alive == 2
    assert fly.alive == 0


async def test_what_a_stranger_asks_meets_no_fault(plain: Api) -> None:
    """A refused token is refused, whatever is to go wrong, and uses up no fault."""
    plain.fly.faults.add(Fault("*", Answer(500), times=1))
    stranger = await plain.client.get("/v1/apps/my-app", headers={"Authorization": "Bearer wrong"})
    assert stranger.status_code == 401
    assert (await plain.call("GET", "")).status_code == 500
    assert (await plain.call("GET", "")).status_code == 200


def test_by_count() -> None:
    """`after` lets requests pass, `times` ends it, and only requests of the action count."""
    faults = Faults()
    faults.add(Fault("get_machine", Answer(500), after=2, times=2))
    assert faults.strike("get_app") is None
    assert [faults.strike("get_machine") is not None for _ in range(6)] == [False, False, True, True, False, False]


def test_by_chance() -> None:
    """The same seed strikes the same requests, another seed others, and about as many as said."""

    def struck(seed: int) -> list[bool]:
        faults = Faults(seed)
        faults.add(Fault("*", DropBefore(), chance=0.3))
        return [faults.strike("get_app") is not None for _ in range(1000)]

    assert struck(1) == struck(1) != struck(2)
    assert 250 < sum(struck(1)) < 350


def test_the_first_that_fits_strikes() -> None:
    """One request meets one fault at most; cleared faults meet nobody."""
    faults = Faults()
    faults.add(Fault("*", Answer(500), times=1), Fault("get_app", Answer(503), times=1))
    answers = [faults.strike("get_app") for _ in range(3)]
    assert [answer.status for answer in answers if isinstance(answer, Answer)] == [500, 503]
    faults.add(Fault("*", Answer(500)))
    faults.clear()
    assert faults.strike("get_app") is None


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"action": "create_machines"}, "action"),
        ({"action": "get_app", "effect": Dies()}, "effect"),
        ({"action": "*", "effect": SlowDelete(1)}, "effect"),
        ({"times": 0}, "times"),
        ({"after": -1}, "after"),
        ({"chance": 1.5}, "chance"),
        ({"chance": float("nan")}, "chance"),
    ],
    ids=["action", "effect", "effect of everything", "times", "after", "chance", "no chance"],
)
def test_bad_faults_name_the_field(fields: dict[str, Any], named: str) -> None:
    """A fault that could never happen is an error that names its field."""
    with pytest.raises(ValueError, match=f"^{named}: "):
        Fault(**{"action": "get_app", "effect": DropBefore(), **fields})


@pytest.mark.parametrize(
    "make",
    [lambda: Delay(-1), lambda: ListLag(-1), lambda: Dies(-1), lambda: FlyStops(0, -1), lambda: Answer(42)],
    ids=["Delay", "ListLag", "Dies", "FlyStops", "Answer"],
)
def test_bad_effects_name_the_field(make: Any) -> None:
    """So is an effect with a time before now, or with no status."""
    with pytest.raises(ValueError, match=r"^(seconds|after_s|timeout_s|status): "):
        make()


def test_every_action_can_be_struck() -> None:
    """What can be struck is what is served."""
    assert {served.action for served in SERVED} == ACTIONS
