from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.local.conftest import Api, config, opened

# What may be seen after what, as Fly's docs draw it; anything may become destroying.
NEXT = {
    "created": {"started"},
    "started": {"started", "stopping", "stopped", "starting", "restarting", "replacing"},
    "stopping": {"stopped", "starting", "started"},
    "stopped": {"starting", "started"},
    "starting": {"started", "stopping", "stopped", "restarting", "replacing"},
    "restarting": {"starting", "started", "stopping", "stopped", "replacing"},
    "replacing": {"starting", "started", "stopping", "stopped", "restarting"},
    "destroying": {"destroyed"},
    "destroyed": set[str](),
}

CALLS: dict[str, tuple[str, str, Any]] = {
    "start": ("POST", "/start", None),
    "stop": ("POST", "/stop", {"signal": "SIGKILL"}),
    "restart": ("POST", "/restart?signal=SIGKILL", None),
    "kill": ("POST", "/signal", {"signal": "SIGKILL"}),
    "exec": ("POST", "/exec", {"command": ["true"]}),
    "update": ("POST", "", {"config": config()}),
    "delete": ("DELETE", "", None),
    "wait": ("GET", "/wait?state=settled&timeout=5", None),
    "list": ("GET", "/events", None),
}
EXPECTED = {200, 404, 412}


@settings(max_examples=8, deadline=None)
@given(calls=st.lists(st.sampled_from(sorted(CALLS)), min_size=1, max_size=12), restarts=st.booleans())
async def test_whatever_is_called_states_and_events_keep_their_rules(calls: list[str], *, restarts: bool) -> None:
    """Calls in any order meet known statuses and never a 500; starts and exits alternate; destroyed is final."""
    policy = {"policy": "on-failure", "max_retries": 2} if restarts else {"policy": "no"}
    async with opened(on_exchange=None) as api:
        machine = await api.create(restart=policy)
        for name in calls:
            method, path, body = CALLS[name]
            reply = await api.client.request(method, f"/v1/apps/my-app/machines/{machine}{path}", json=body)
            assert reply.status_code in EXPECTED, (name, reply.text)
            shown = await api.get(machine)
            assert shown["state"] in NEXT
            assert 0 <= api.fly.alive <= 1
        await api.call("DELETE", f"/machines/{machine}", force="true")
        await api.reach(machine, "destroyed")
        assert api.fly.alive == 0 and api.fly.peak_alive <= 1
        await check_events(api, machine)


async def check_events(api: Api, machine: str) -> None:
    """Starts and exits alternate, times run forward, the first event is the launch and the last the destruction."""
    events = (await api.call("GET", f"/machines/{machine}/events", limit=50)).json()[::-1]
    assert [event["timestamp"] for event in events] == sorted(event["timestamp"] for event in events)
    assert len({event["id"] for event in events}) == len(events)
    assert (events[0]["type"], events[-1]["status"]) == ("launch", "destroyed")
    lives = [event["type"] for event in events if event["status"] in ("started", "stopped")]
    assert lives == ["start", "exit"] * (len(lives) // 2)


async def test_states_follow_each_other_as_fly_draws_them() -> None:
    """A machine that is stopped, started, restarted and destroyed shows only transitions that Fly has."""
    async with opened() as api:
        machine = await api.create()
        seen = [(await api.get(machine))["state"]]
        for name, until in (("wait", "started"), ("stop", "stopped"), ("start", "started"), ("restart", "started")):
            method, path, body = CALLS[name]
            await api.client.request(method, f"/v1/apps/my-app/machines/{machine}{path}", json=body)
            seen.append((await api.get(machine))["state"])
            await api.reach(machine, until)
            seen.append((await api.get(machine))["state"])
        await api.call("DELETE", f"/machines/{machine}", force="true")
        seen.append((await api.get(machine))["state"])
        await api.reach(machine, "destroyed")
        seen.append((await api.get(machine))["state"])
    for before, after in itertools.pairwise(seen):
        assert after in NEXT[before] | {before, "destroying", "destroyed"}, seen
