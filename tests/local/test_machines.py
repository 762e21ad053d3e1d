from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.local.conftest import Api, config, error, file, opened

from flaude.local import Fault, NoCapacity, Quirks


async def test_create_answers_created(plain: Api) -> None:
    """A create answers 200 with the whole machine in state `created`, and it starts by itself."""
    reply = await plain.call("POST", "/machines", {"name": "m1", "region": "lhr", "config": config()})
    machine = reply.json()
    assert (reply.status_code, machine["state"], machine["name"]) == (200, "created", "m1")
    assert (machine["region"], machine["config"]["image"]) == ("lhr", "x")
    assert [(event["type"], event["status"]) for event in machine["events"]] == [("launch", "created")]
    await plain.reach(machine["id"], "started")
    assert plain.fly.created == [machine["id"]]
    assert (plain.fly.alive, plain.fly.peak_alive) == (1, 1)


async def test_a_living_name_is_taken(plain: Api) -> None:
    """A second machine of the same name is a 409 that names the first; a destroyed one's name is free at once."""
    first = await plain.create(name="m1")
    again = await plain.call("POST", "/machines", {"name": "m1", "config": config()})
    text = f'already_exists: unique machine name violation, machine ID {first} already exists with name "m1"'
    assert error(again) == (409, text)
    await plain.call("DELETE", f"/machines/{first}", force="true")
    await plain.reach(first, "destroyed")
    assert await plain.create(name="m1") != first


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"image": ""}, "config.image is required"),
        ({"guest": {"cpus": 1, "memory_mb": 256}}, "invalid config.guest.cpu_kind"),
        ({"guest": {"cpu_kind": "shared", "cpus": 5, "memory_mb": 2560}}, "invalid config.guest.cpus"),
        (
            {"guest": {"cpu_kind": "shared", "cpus": 4, "memory_mb": 512}},
            "invalid config.guest.memory_mb, minimum required 1024 MiB",
        ),
        (
            {"guest": {"cpu_kind": "shared", "cpus": 1, "memory_mb": 4096}},
            "invalid config.guest.memory_mb, cannot exceed 2048 MiB",
        ),
        ({"guest": {"cpu_kind": "shared", "cpus": 1, "memory_mb": 300}}, "invalid config.guest.memory_mb"),
        ({"env": {"A": 1}}, "config.env must map strings to strings"),
        ({"metadata": "x"}, "config.metadata must be an object"),
        ({"init": {"exec": "sleep 1"}}, "config.init.exec must be a list"),
        ({"files": [{"guest_path": "job/in", "raw_value": ""}]}, "not an absolute path"),
        ({"files": [{"guest_path": "/job/../../in", "raw_value": ""}]}, "not an absolute path"),
        ({"files": [{"guest_path": "/job/in", "raw_value": "%%"}]}, "not base64"),
        ({"stop_config": {"signal": "SIGNONE"}}, "signal"),
        ({"rootfs": {"size_gb": 0}}, "config.rootfs.size_gb"),
        ({"rootfs": 8}, "config.rootfs must be an object"),
    ],
)
async def test_refused_configs(plain: Api, changes: dict[str, Any], text: str) -> None:
    """A config that Fly refuses is a 400 that says why, and no machine is made."""
    reply = await plain.call("POST", "/machines", {"config": {**config(), **changes}})
    assert error(reply)[0] == 400 and text in error(reply)[1]
    assert plain.fly.created == []


async def test_performance_cpus_are_not_for_everybody() -> None:
    """A create and an update with them are a 422 where the organization may not have them; shared ones are made."""
    async with opened(quirks=Quirks(performance_cpus=False)) as api:
        dear = {"config": config(guest={"cpu_kind": "performance", "cpus": 1, "memory_mb": 2048})}
        assert (await api.call("POST", "/machines", dear)).status_code == 422 and api.fly.created == []
        machine = await api.started(guest={"cpu_kind": "shared", "cpus": 2, "memory_mb": 4096})
        assert (await api.call("POST", f"/machines/{machine}", dear)).status_code == 422
    async with opened() as api:
        assert (await api.call("POST", "/machines", dear)).status_code == 200


@pytest.mark.parametrize(
    ("region", "chosen"),
    [("", "iad"), ("fra", "fra"), ("lhr,eu", "lhr"), ("eu", "ams"), ("any", "iad"), ("zzz", ""), ("lhr,zzz", "")],
)
async def test_regions(plain: Api, region: str, chosen: str) -> None:
    """A region is a code, an alias, a comma list or `any`; an unknown one is refused by name."""
    reply = await plain.call("POST", "/machines", {"region": region, "config": config()})
    if chosen:
        assert reply.json()["region"] == chosen
    else:
        assert error(reply)[0] == 400 and "zzz" in error(reply)[1]


async def test_list_filters(plain: Api) -> None:
    """The list filters by metadata (all must match), state and region; destroyed ones are shown only when asked."""
    a = await plain.started(metadata={"batch": "1", "n": "a"})
    b = await plain.started(metadata={"batch": "1", "n": "b"})
    await plain.call("POST", f"/machines/{b}/stop", {})
    await plain.reach(b, "stopped")
    c = await plain.started(metadata={"batch": "2"})
    await plain.call("DELETE", f"/machines/{c}", force="true")
    await plain.reach(c, "destroyed")

    async def listed(**query: str) -> list[str]:
        return [machine["id"] for machine in (await plain.call("GET", "/machines", **query)).json()]

    assert await listed() == [a, b]
    assert await listed(include_deleted="true") == [a, b, c]
    assert await listed(**{"metadata.batch": "1"}) == [a, b]
    assert await listed(**{"metadata.batch": "1", "metadata.n": "b"}) == [b]
    assert await listed(**{"metadata.none": "1"}) == []
    assert await listed(state="started") == [a]
    assert await listed(state="started,stopped") == [a, b]
    assert await listed(region="lhr") == []
    (summary,) = (await plain.call("GET", "/machines", summary="true", state="started")).json()
    assert summary["id"] == a and not summary.keys() & {"config", "events", "checks", "host_status"}


async def test_metadata_changes_without_a_new_version(plain: Api) -> None:
    """Metadata is read and changed by key and as a whole, without a new version."""
    machine = await plain.started(metadata={"a": "1", "b": "2"})
    path, version = f"/machines/{machine}/metadata", (await plain.get(machine))["instance_id"]
    assert (await plain.call("GET", path)).json() == {"a": "1", "b": "2"}
    assert (await plain.call("POST", f"{path}/c", {"value": "3"})).status_code == 204
    assert (await plain.call("GET", f"{path}/c")).json() == {"value": "3"}
    assert (await plain.call("DELETE", f"{path}/a")).status_code == 204
    assert (await plain.call("GET", f"{path}/a")).status_code == 404
    assert (await plain.call("PUT", path, {"metadata": {"b": "", "d": "4"}})).status_code == 204
    assert (await plain.call("GET", path)).json() == {"c": "3", "d": "4"}
    stale = await plain.call("PATCH", path, {"metadata": {"e": "5"}, "machine_version": "0" * 26})
    assert stale.status_code == 412
    shown = await plain.get(machine)
    assert (shown["instance_id"], shown["config"]["metadata"]) == (version, {"c": "3", "d": "4"})


async def test_update_runs_the_new_config(api: Api) -> None:
    """An update replaces the config, gives a new version and starts the process anew with an empty disk."""
    machine = await api.started(files=[file("/opt/flaude/old", "old")])
    before = await api.get(machine)
    await api.exec(machine, "sh", "-c", "echo left > /opt/flaude/old")
    reply = await api.call(
        "POST",
        f"/machines/{machine}",
        {"config": config(files=[file("/opt/flaude/new", "new")]), "current_version": before["instance_id"]},
    )
    assert reply.status_code == 200 and reply.json()["instance_id"] != before["instance_id"]
    await api.reach(machine, "started")
    assert (await api.exec(machine, "cat", "/opt/flaude/new"))["stdout"] == "new"
    assert not (api.fly.machine_folder(machine) / "opt/flaude/old").exists()
    versions = (await api.call("GET", f"/machines/{machine}/versions")).json()
    assert [version["version"] for version in versions] == [reply.json()["instance_id"], before["instance_id"]]
    assert (await api.exit_event(machine))["requested_stop"] is True
    late = await api.call(
        "POST", f"/machines/{machine}", {"config": config(), "current_version": before["instance_id"]}
    )
    assert error(late) == (409, "aborted: machine update failed due to concurrent update")


async def test_a_destroyed_machine_can_be_read_for_a_while() -> None:
    """A destroyed machine is read as `destroyed`, with its events, and after a while it is a 404."""
    async with opened(remember_s=60.0) as api:
        machine = await api.create("sh", "-c", "exit 3", auto_destroy=True)
        await api.reach(machine, "destroyed")
        shown = await api.get(machine)
        assert shown["state"] == "destroyed"
        assert (await api.exit_event(machine))["exit_code"] == 3
        events = (await api.call("GET", f"/machines/{machine}/events", limit=2)).json()
        assert events == shown["events"][:2]
    async with opened(remember_s=0.0) as api:
        machine = await api.create("true", auto_destroy=True)
        waited = await api.call("GET", f"/machines/{machine}/wait", state="destroyed", timeout=20)
        assert waited.status_code in (200, 404)
        assert error(await api.call("GET", f"/machines/{machine}")) == (404, "not_found: machine not found")
        assert (await api.call("GET", "/machines", include_deleted="true")).json() == []


async def test_a_full_region(plain: Api) -> None:
    """With `NoCapacity` a create goes to the next region that it allows, and is refused when there is none."""
    plain.fly.faults.add(Fault("create_machine", NoCapacity(["iad", "ewr"])))

    async def asked(region: str) -> tuple[str, str, str]:
        reply = (await plain.call("POST", "/machines", {"region": region, "config": config()})).json()
        return reply.get("region", ""), reply.get("error", ""), reply.get("status", "")

    full = ("", "could not find a candidate host", "insufficient_capacity")
    assert await asked("iad") == await asked("ewr,iad") == await asked("") == full
    assert [(await asked(region))[0] for region in ("iad,lhr", "us", "any")] == ["lhr", "dfw", "ams"]
    plain.fly.faults.clear()
    plain.fly.faults.add(Fault("create_machine", NoCapacity()))
    assert await asked("any") == full
    with pytest.raises(ValueError, match="regions: "):
        NoCapacity("iad")
    with pytest.raises(ValueError, match="effect: "):
        Fault("get_machine", NoCapacity())


async def test_the_machine_limit() -> None:
    """All machines of all apps of an organization count, stopped ones too, destroyed ones not; it can be changed."""
    async with opened(apps=["my-app", "other"], quirks=Quirks(machine_limit=2, young_app_s=0)) as api:
        first = await api.create(name="one")
        rests = {"name": "rests", "config": config(), "skip_launch": True}
        assert (await api.client.post("/v1/apps/other/machines", json=rests)).status_code == 200
        text = "Your organization has reached its machine limit. Please contact billing@fly.io"
        assert error(await api.call("POST", "/machines", {"name": "two", "config": config()})) == (422, text)
        assert error(await api.call("POST", "/machines", {"name": "one", "config": config()})) == (422, text)
        await api.client.post("/v1/apps", json={"app_name": "far", "org_slug": "another"})
        elsewhere = await api.client.post("/v1/apps/far/machines", json={"config": config()})
        assert elsewhere.status_code == 200, "another organization has a limit of its own"
        await api.call("DELETE", f"/machines/{first}", force="true")
        await api.reach(first, "destroyed")
        await api.create(name="two")
        assert error(await api.call("POST", "/machines", {"config": config()})) == (422, text)
        api.fly.quirks = replace(api.fly.quirks, machine_limit=None)
        await api.create(name="three")
