from __future__ import annotations

import errno
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from tests.local.conftest import opened

from flaude.local import Delay, Exchange, Fault, LocalFly, Quirks


async def test_it_is_there_inside_of_its_block_only() -> None:
    """Inside the block it answers at base_url; after it nobody does, and its numbers can still be read."""
    async with opened(token="a-token") as api:
        fly = api.fly
        assert (fly.token, fly.created, fly.alive, fly.peak_alive) == ("a-token", [], 0, 0)
        assert fly.base_url.startswith("http://127.0.0.1:")
        assert (await api.call("GET", "")).status_code == 200
        assert "plain" in repr(fly)
    async with httpx2.AsyncClient() as client:
        with pytest.raises(httpx2.ConnectError):
            await client.get(f"{fly.base_url}/v1/apps/my-app")
    assert fly.requests["get_app", 200] == 1
    with pytest.raises(RuntimeError, match="outside"):
        _ = LocalFly().alive


async def test_the_blocks_own_error_comes_out_as_it_is() -> None:
    """An error raised inside the block leaves it unwrapped."""
    with pytest.raises(KeyError, match="mine"):
        async with LocalFly(box="plain"):
            raise KeyError("mine")


@pytest.mark.parametrize("port", [None, 65536])
async def test_a_port_that_cannot_be_had_is_an_oserror(port: int | None) -> None:
    """A port that is taken, or that is none, is an OSError, and nothing stays behind."""
    async with opened() as api:
        taken = int(api.fly.base_url.rpartition(":")[2])
        with pytest.raises(OSError) as caught:  # noqa: PT011  # the number tells more than the text
            async with LocalFly(box="plain", port=port or taken):
                pass
    assert caught.value.errno == (errno.EADDRINUSE if port is None else errno.EINVAL)


async def test_on_exchange_sees_every_answered_request() -> None:
    """Every exchange is shown with path, query, both bodies and status, refused ones too."""
    seen: list[Exchange] = []
    async with opened(on_exchange=seen.append) as api:
        await api.call("GET", "/machines", **{"metadata.a": "b", "state": ["created", "started"]})
        await api.call("POST", "/machines", {"config": {}})
    assert seen[0] == Exchange(
        "GET", "/v1/apps/my-app/machines", {"metadata.a": "b", "state": "created,started"}, None, 200, []
    )
    assert (seen[1].request, seen[1].status) == ({"config": {}}, 400)


async def test_what_on_exchange_raises_is_raised_at_the_end() -> None:
    """A complaint of on_exchange does not change the answer, and fails the block."""

    def complain(exchange: Exchange) -> None:
        raise AssertionError(exchange.path)

    with pytest.raises(ExceptionGroup) as caught:
        async with opened(on_exchange=complain) as api:
            assert (await api.call("GET", "")).status_code == 200
    assert caught.group_contains(AssertionError, match="/v1/apps/my-app")


async def test_leaving_sends_away_who_still_waits() -> None:
    """A long poll does not hold up the end: it is answered with 503."""
    replies: list[httpx2.Response] = []
    async with anyio.create_task_group() as tasks:
        fly = LocalFly(box="plain", apps=["my-app"], boot_s=60.0)
        headers = {"Authorization": f"Bearer {fly.token}"}
        async with httpx2.AsyncClient(headers=headers, timeout=70) as client:

            async def call(method: str, path: str, **arguments: Any) -> None:
                replies.append(await client.request(method, f"{fly.base_url}/v1/apps/my-app{path}", **arguments))

            async with fly:
                await call("POST", "/machines", json={"config": {"image": "x"}})
                tasks.start_soon(call, "GET", f"/machines/{fly.created[0]}/wait")
                # On the same connection pool: when this one is answered, the poll has arrived before it.
                await call("GET", "")
                await anyio.wait_all_tasks_blocked()
                leaving = anyio.current_time()
            assert anyio.current_time() - leaving < 10
            await anyio.wait_all_tasks_blocked()
    assert sorted(reply.status_code for reply in replies) == [200, 200, 503]


async def test_no_machine_sees_the_folders_of_others(tmp_path: Path) -> None:
    """Two stand-ins side by side share nothing."""
    async with opened(folder=tmp_path / "a") as one, opened(folder=tmp_path / "b") as two:
        machine = await one.create()
        assert (await two.call("GET", f"/machines/{machine}")).status_code == 404
        assert one.fly.base_url != two.fly.base_url and one.fly.token != two.fly.token


async def test_answers_have_the_present_time() -> None:
    """`Date` goes with the clock, however long it serves: `flaude doctor` compares it with its own."""
    async with opened(faults=[Fault("get_app", Delay(2.1), times=1)]) as api:
        began = datetime.now(UTC)
        await api.call("GET", "")
        reply = await api.call("GET", "")
        assert parsedate_to_datetime(reply.headers["date"]) > began


async def test_a_token_that_lives_for_a_while() -> None:
    """It is refused when its time is over, as its successor lets in, in the words that users saw."""
    async with LocalFly(apps=["my-app"], box="simulated", quirks=Quirks(token_lives_s=1.5)) as fly:

        async def asked(token: str) -> tuple[int, str]:
            async with httpx2.AsyncClient(base_url=fly.base_url) as client:
                reply = await client.get("/v1/apps/my-app", headers={"Authorization": f"FlyV1 {token}"})
            return reply.status_code, reply.json().get("error", "")

        over = (401, "verify: invalid token: missing third-party discharge tokens")
        first = fly.token
        assert (await asked(first))[0] == 200
        with anyio.fail_after(10):
            while (told := await asked(first))[0] == 200:
                pass
        assert told == over
        second = fly.renew_token()
        assert second == fly.token != first and (await asked(second))[0] == 200 and await asked(first) == over
        assert await asked("local-of-nobody") == (401, "Authenticate: token validation error")
    with pytest.raises(RuntimeError, match="async with"):
        LocalFly().renew_token()
