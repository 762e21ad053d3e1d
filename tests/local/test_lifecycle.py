from __future__ import annotations

import time
from typing import Any

import anyio
import pytest
from tests.local.conftest import Api, Open, config, error, opened

from flaude.local import Quirks


async def test_exit_event_is_whole(api: Api) -> None:
    """A command that ends leaves a stopped machine whose newest event is an exit with the whole exit_event."""
    machine = await api.create("sh", "-c", "exit 7")
    await api.reach(machine, "stopped")
    shown = await api.get(machine)
    assert [event["type"] for event in shown["events"]] == ["exit", "start", "launch"]
    assert shown["events"][0]["status"] == "stopped" and shown["events"][0]["request"]["restart_count"] == 0
    event = await api.exit_event(machine)
    told = {name: event[name] for name in ("exit_code", "signal", "oom_killed", "requested_stop", "restarting")}
    assert told == {
        "exit_code": 7,
        "signal": -1,
        "oom_killed": False,
        "requested_stop": False,
        "restarting": False,
    }
    assert {"exited_at", "guest_exit_code", "guest_signal", "error"} <= event.keys()
    assert api.fly.alive == 0


async def test_a_machine_without_its_program_dies_at_once(api: Api) -> None:
    """A command whose program is missing starts and dies at once, with the code of Fly's init."""
    machine = await api.create("no-such-program", auto_destroy=True)
    await api.reach(machine, "destroyed")
    assert (await api.exit_event(machine))["exit_code"] == 1


async def test_auto_destroy_leaves_no_stopped_machine(plain: Api) -> None:
    """With auto_destroy a wait for `stopped` ends with 404, as the machine leaves at once; its list is empty."""
    machine = await plain.create("sh", "-c", "read x < /dev/null; exit 1", auto_destroy=True)
    reply = await plain.call("GET", f"/machines/{machine}/wait", state="stopped", timeout=20)
    assert error(reply) == (404, "not_found: machine not found")
    assert (await plain.call("GET", "/machines")).json() == []


@pytest.mark.parametrize(
    ("restart", "code", "exits"),
    [
        ({"policy": "no"}, 3, 1),
        ({"policy": "on-failure", "max_retries": 2}, 3, 3),
        ({"policy": "on-failure", "max_retries": 2}, 0, 1),
        ({}, 3, 11),
    ],
)
async def test_restart_policies(plain: Api, restart: dict[str, Any], code: int, exits: int) -> None:
    """Only `no` never restarts: absent is on-failure with ten retries."""
    machine = await plain.create("sh", "-c", f"exit {code}", restart=restart)
    await plain.reach(machine, "stopped")
    events = (await plain.call("GET", f"/machines/{machine}/events", limit=50)).json()
    found = [event["request"] for event in events if event["type"] == "exit"]
    assert len(found) == exits
    assert [event["exit_event"]["restarting"] for event in found] == [False] + [True] * (exits - 1)
    assert found[0]["restart_count"] == exits - 1


async def test_always_restarts_instead_of_destroying(plain: Api) -> None:
    """Policy `always` restarts also after 0 and with auto_destroy."""
    machine = await plain.create("true", restart={"policy": "always"}, auto_destroy=True)
    with anyio.fail_after(20):
        while sum(event["type"] == "start" for event in (await plain.get(machine))["events"]) < 3:
            pass
    assert (await plain.get(machine))["state"] in ("started", "starting")


@pytest.mark.parametrize("seconds", ["0", "61", "1m1s"])
async def test_wait_outside_of_its_range(plain: Api, seconds: str) -> None:
    """A wait of less than 1 s or more than 60 s is a 400 with Fly's words."""
    machine = await plain.create()
    reply = await plain.call("GET", f"/machines/{machine}/wait", timeout=seconds)
    text = "invalid_argument: invalid WaitMachineRequest.Timeout: value must be inside range [1s, 1m0s]"
    assert error(reply) == (400, text)


async def test_wait_in_vain() -> None:
    """A wait that is not met in its time is a 408 with Fly's words."""
    async with opened(boot_s=30.0) as api:
        machine = await api.create()
        with anyio.fail_after(5):
            reply = await api.call("GET", f"/machines/{machine}/wait", state="started", timeout=1)
        text = "deadline_exceeded: machine failed to reach desired state, started, currently created"
        assert error(reply) == (408, text)
        assert error(await api.call("POST", f"/machines/{machine}/start")) == (
            412,
            "failed_precondition: unable to start machine from current state: 'created'",
        )
        exec_ = await api.call("POST", f"/machines/{machine}/exec", {"command": ["true"]})
        assert error(exec_) == (412, "failed_precondition: machine not running")


async def test_wait_takes_several_states_and_settled(plain: Api) -> None:
    """States may be repeated or stand in a comma list; `settled` is any resting state."""
    machine = await plain.started()
    for query in ({"state": ["stopped", "started"]}, {"state": "stopped,started"}, {"state": "settled"}, {}):
        reply = await plain.call("GET", f"/machines/{machine}/wait", **query)
        assert reply.json()["ok"] is True and reply.json()["state"] == "started"
        assert reply.json()["version"] == (await plain.get(machine))["instance_id"]
    missing = await plain.call("GET", f"/machines/{machine}/wait", instance_id="0" * 26)
    assert missing.status_code == 404
    assert (await plain.call("GET", "/machines/00000000000000/wait")).status_code == 404


@pytest.mark.parametrize(
    ("reaction", "code"),
    [("lambda *_: sys.exit(0)", 0), ("lambda *_: sys.exit(5)", 5), ("signal.SIG_IGN", 137)],
)
async def test_stop_asks_then_kills(api: Api, reaction: str, code: int) -> None:
    """A stop sends SIGINT and after its time kills; the exit event says that it was requested."""
    script = f"""if True:
        import signal, sys
        signal.signal(signal.SIGINT, {reaction})
        open("run/ready", "w").write("x")
        while True: signal.pause()
    """
    machine = await api.started("python3", "-c", script)
    await api.appears(machine, "run/ready")
    reply = await api.call("POST", f"/machines/{machine}/stop", {"timeout": "500ms"})
    assert (reply.status_code, reply.json()) == (200, {"ok": True})
    await api.reach(machine, "stopped")
    event = await api.exit_event(machine)
    assert (event["exit_code"], event["requested_stop"]) == (code, True)
    again = await api.call("POST", f"/machines/{machine}/stop", {})
    assert again.status_code == 200


LINGERS = "trap '' TERM; touch run/ready; echo x >run/ready; while :; do sleep 600; done"
SLOWLY = {"signal": "SIGTERM", "timeout": "300s"}


@pytest.mark.parametrize("kind", [True, False])
async def test_an_exec_into_a_machine_that_is_stopping(boxed: Open, kind: bool) -> None:
    """By the kinder reading it is done while the process lives; by the worse one it is refused as if nothing ran."""
    async with boxed(quirks=Quirks(exec_while_stopping=kind)) as api:
        machine = await api.started("sh", "-c", LINGERS, stop_config=SLOWLY)
        await api.appears(machine, "run/ready")
        await api.call("POST", f"/machines/{machine}/stop", {})
        assert (await api.get(machine))["state"] == "stopping"
        reply = await api.call("POST", f"/machines/{machine}/exec", {"command": ["echo", "there"]})
        assert reply.json().get("stdout") == "there\n" if kind else error(reply)[0] == 412
        assert error(await api.call("POST", f"/machines/{machine}/restart"))[0] == 412
        began = time.monotonic()
        await api.call("DELETE", f"/machines/{machine}", force="true")
        await api.reach(machine, "destroyed")
        again = await api.started("sh", "-c", LINGERS, stop_config=SLOWLY)
        await api.call("POST", f"/machines/{again}/stop", {})
    assert time.monotonic() - began < 30, "neither a delete by force nor the end of the server waits for a stop"


async def test_start_stop_start(api: Api) -> None:
    """A stopped machine starts again, with a fresh process."""
    machine = await api.started()
    await api.call("POST", f"/machines/{machine}/stop", {"signal": "SIGKILL"})
    await api.reach(machine, "stopped")
    assert api.fly.alive == 0
    reply = await api.call("POST", f"/machines/{machine}/start")
    assert (reply.status_code, reply.json()["previous_state"]) == (200, "stopped")
    await api.reach(machine, "started")
    assert (await api.exec(machine, "echo", "again"))["stdout"] == "again\n"
    assert [event["type"] for event in (await api.get(machine))["events"]].count("exit") == 1


async def test_restart_and_signal(plain: Api) -> None:
    """A restart ends the process and starts it anew; a signal (by name or number) reaches it."""
    machine = await plain.started()
    assert (await plain.call("POST", f"/machines/{machine}/restart", timeout="1s")).status_code == 200
    await plain.reach(machine, "started")
    assert (await plain.exit_event(machine))["requested_stop"] is True
    assert (await plain.call("POST", f"/machines/{machine}/signal", {"signal": "SIGTERM"})).status_code == 200
    await plain.reach(machine, "stopped")
    event = await plain.exit_event(machine)
    assert (event["exit_code"], event["signal"], event["requested_stop"]) == (143, 15, False)
    assert error(await plain.call("POST", f"/machines/{machine}/signal", {"signal": "SIGTERM"}))[0] == 412


async def test_skip_launch_rests_in_created(plain: Api) -> None:
    """With skip_launch a machine rests in `created` until it is started."""
    reply = await plain.call("POST", "/machines", {"skip_launch": True, "config": config()})
    machine = reply.json()["id"]
    assert (await plain.get(machine))["state"] == "created"
    started = await plain.call("POST", f"/machines/{machine}/start")
    assert started.json()["previous_state"] == "created"
    await plain.reach(machine, "started")


@pytest.mark.parametrize("word", ["force", "kill"])
async def test_delete_needs_force_while_it_runs(api: Api, word: str) -> None:
    """A running machine is destroyed with force (or kill) only; then it is gone, and a second delete is a 404."""
    machine = await api.started()
    refused = await api.call("DELETE", f"/machines/{machine}")
    assert error(refused) == (412, "failed_precondition: unable to destroy machine, not currently stopped")
    reply = await api.call("DELETE", f"/machines/{machine}", **{word: "true"})
    assert (reply.status_code, reply.json()) == (200, {"ok": True})
    await api.reach(machine, "destroyed")
    assert api.fly.alive == 0
    assert not api.fly.machine_folder(machine).exists()
    assert (await api.call("DELETE", f"/machines/{machine}", force="true")).status_code == 404
    assert (await api.call("POST", f"/machines/{machine}/start")).status_code == 404


async def test_delete_of_a_stopped_machine_and_of_one_that_boots() -> None:
    """Without force a stopped machine is destroyed, and one that is still `created`; the latter never starts."""
    async with opened(boot_s=30.0) as api:
        machine = await api.create()
        assert (await api.call("DELETE", f"/machines/{machine}")).status_code == 200
        await api.reach(machine, "destroyed")
        assert "start" not in [event["type"] for event in (await api.get(machine))["events"]]
    async with opened() as api:
        machine = await api.create("true")
        await api.reach(machine, "stopped")
        assert (await api.call("DELETE", f"/machines/{machine}")).status_code == 200
        await api.reach(machine, "destroyed")
