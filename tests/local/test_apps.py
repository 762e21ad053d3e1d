from __future__ import annotations

import httpx2
import pytest
from tests.local.conftest import Api, error, opened

from flaude.local import Quirks


async def test_create_get_list_and_delete(plain: Api) -> None:
    """An app can be made, read, listed and deleted; then it is a 404 with Fly's words."""
    client = plain.client
    reply = await client.post("/v1/apps", json={"name": "new-app", "org_slug": "acme", "network": "own"})
    assert reply.status_code == 201 and reply.json()["id"] == "new-app"
    assert reply.headers["fly-request-id"]
    app = (await client.get("/v1/apps/new-app")).json()
    assert (app["name"], app["organization"]["slug"], app["network"]) == ("new-app", "acme", "own")
    apps = (await client.get("/v1/apps", params={"org_slug": "acme"})).json()
    assert ([app["name"] for app in apps["apps"]], apps["total_apps"]) == (["new-app"], 1)
    assert (await client.delete("/v1/apps/new-app")).status_code == 202
    gone = await client.get("/v1/apps/new-app")
    assert error(gone) == (404, 'Could not find App "new-app"')


async def test_a_young_app_is_a_404_for_machines() -> None:
    """It can be read, and for a while nothing can be made or listed in it, `wait` or not; one that was there can."""
    async with opened(quirks=Quirks(young_app_s=600)) as api:
        body = {"app_name": "new-app", "org_slug": "personal"}
        assert (await api.client.post("/v1/apps", json=body, params={"wait": "true"})).status_code == 201
        assert (await api.client.get("/v1/apps/new-app")).status_code == 200
        machine = {"config": {"image": "x"}}
        assert error(await api.client.post("/v1/apps/new-app/machines", json=machine)) == (404, "app not found")
        assert error(await api.client.get("/v1/apps/new-app/machines")) == (404, "app not found")
        assert (await api.client.delete("/v1/apps/new-app")).status_code == 202
        await api.create()
        assert len(api.fly.created) == 1
    async with opened(quirks=Quirks(young_app_s=0)) as api:
        await api.client.post("/v1/apps", json=body)
        assert (await api.client.get("/v1/apps/new-app/machines")).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"name": "x-1"}, 400, "org_slug is required"),
        ({"name": "my-app", "org_slug": "personal"}, 422, "Validation failed: Name has already been taken"),
        ({"app_name": "My App", "org_slug": "personal"}, 422, "Validation failed: Name under 63 chars"),
        ({"name": "x" * 64, "org_slug": "personal"}, 422, "Validation failed: Name under 63 chars"),
        ({"name": "x", "org_slug": "personal", "network": "2fast"}, 422, "Validation failed: Network"),
    ],
)
async def test_refused_apps(plain: Api, body: dict[str, str], status: int, text: str) -> None:
    """An app without organization, with a taken name or with a bad one is refused with Fly's words."""
    reply = await plain.client.post("/v1/apps", json=body)
    assert error(reply)[0] == status and text in error(reply)[1]
    if "taken" in text:
        assert reply.json()["status"] == "name_taken"


async def test_apps_of_others(plain: Api) -> None:
    """They are a 403, and their names are taken (Fly's Go client, AppNameAvailable)."""
    async with opened(taken=["theirs"]) as api:
        assert error(await api.client.get("/v1/apps/theirs"))[0] == 403
        body = {"name": "theirs", "org_slug": "personal"}
        assert (await api.client.post("/v1/apps", json=body)).json()["status"] == "name_taken"


async def test_lists_of_apps_have_pages(plain: Api) -> None:
    """As many apps as are asked for, and where the next ones begin."""
    for name in ("b", "a"):
        await plain.client.post("/v1/apps", json={"name": name, "org_slug": "personal"})
    pages, cursor = list[list[str]](), ""
    while len(pages) < 5:
        query = {"org_slug": "personal", "limit": "2", **({"cursor": cursor} if cursor else {})}
        page = (await plain.client.get("/v1/apps", params=query)).json()
        pages.append([app["name"] for app in page["apps"]])
        if not (cursor := page.get("next_cursor", "")):
            break
    assert pages == [["a", "b"], ["my-app"]]
    assert (await plain.client.get("/v1/apps", params={"org_slug": "personal", "limit": "0"})).status_code == 400


async def test_an_app_with_machines_is_deleted_with_force_only(plain: Api) -> None:
    """Deleting an app with force destroys its machines; without force it is refused."""
    await plain.started()
    assert error(await plain.call("DELETE", ""))[0] == 412
    assert (await plain.call("DELETE", "", force="true")).status_code == 202
    assert (await plain.call("GET", "/machines")).status_code == 404


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Bearer {}", 200),
        ("FlyV1 fm2_other,{}", 200),
        ("Bearer {}x", 401),
        ("Basic {}", 401),
        ("", 401),
    ],
)
async def test_tokens(plain: Api, header: str, status: int) -> None:
    """The token is taken as Bearer and as FlyV1, alone or among others; any other is a 401 that does not repeat it."""
    headers = {"Authorization": header.format(plain.fly.token)}
    async with httpx2.AsyncClient(base_url=plain.fly.base_url, headers=headers) as client:
        reply = await client.get("/v1/apps/my-app")
    assert reply.status_code == status
    assert plain.fly.token not in reply.text


async def test_unknown_paths_and_bad_bodies(plain: Api) -> None:
    """What is not served is a 404, what is no JSON a 400."""
    assert (await plain.call("GET", "/volumes")).status_code == 404
    reply = await plain.client.post("/v1/apps", content=b"{nonsense")
    assert error(reply)[0] == 400 and "not JSON" in error(reply)[1]
    assert (await plain.client.post("/v1/apps", json=[1])).status_code == 400


async def test_limits_answer_429() -> None:
    """With limits on, the fourth create at once is a 429; every (action, status) is counted."""
    async with opened(limits=True) as api:
        replies = [await api.call("POST", "/machines", {"config": {"image": "x"}}) for _ in range(4)]
        assert [reply.status_code for reply in replies] == [200, 200, 200, 429]
        assert error(replies[-1])[1] == "resource_exhausted: rate limit exceeded"
        assert api.fly.requests["create_machine", 200] == 3
        assert api.fly.requests["create_machine", 429] == 1
        assert len(api.fly.created) == 3
