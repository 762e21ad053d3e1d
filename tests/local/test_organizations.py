from __future__ import annotations

from typing import Any

from tests.local.conftest import config, opened


async def test_the_machines_of_an_organization_are_listed_in_pages() -> None:
    """All of its apps' machines come, oldest change first, page by page, filtered, and without the machines' files."""
    async with opened(apps=["my-app", "other"], box="simulated") as api:

        async def listed(**query: Any) -> dict[str, Any]:
            reply = await api.client.get("/v1/orgs/personal/machines", params=query)
            assert reply.status_code == 200, reply.text
            answer: dict[str, Any] = reply.json()
            return answer

        first = await api.started(metadata={"batch": "1"})
        body = {"region": "lhr", "config": config()}
        second = (await api.client.post("/v1/apps/other/machines", json=body)).json()["id"]
        await api.client.get(f"/v1/apps/other/machines/{second}/wait")
        gone = await api.started()
        await api.call("DELETE", f"/machines/{gone}", force="true")
        await api.reach(gone, "destroyed")
        whole = await listed()
        assert [(machine["id"], machine["app_name"]) for machine in whole["machines"]] == [
            (first, "my-app"),
            (second, "other"),
        ]
        assert whole["machines"][0]["config"] == {"image": "x", "metadata": {"batch": "1"}}
        assert (whole["last_machine_id"], "next_cursor" in whole) == (second, False)
        page = await listed(limit=1, summary="true")
        assert [machine["id"] for machine in page["machines"]] == [first] and "config" not in page["machines"][0]
        rest = await listed(cursor=page["next_cursor"])
        assert [machine["id"] for machine in rest["machines"]] == [second]
        assert [machine["id"] for machine in (await listed(region="lhr"))["machines"]] == [second]
        assert {machine["id"] for machine in (await listed(include_deleted="true"))["machines"]} == {
            first,
            second,
            gone,
        }
        later = await listed(updated_after=page["machines"][0]["updated_at"])
        assert [machine["id"] for machine in later["machines"]] == [second]
        assert (await api.client.get("/v1/orgs/personal/machines", params={"updated_after": "x"})).status_code == 400
