"""What a refused token means: a blip, another token, its end, or that it never was for this."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.conftest import Machines
from tests.providers.fly.conftest import SLEEPER
from tests.providers.fly.proxy import Proxy, Trouble, refusal

from flaude import ConfigError, FlyError, NotAllowedError, NoTokenError, TokenExpiredError, UnreachableError
from flaude._providers.fly import FlyClient
from flaude._providers.fly.connection import find_token_and_place
from flaude._providers.fly.tokens import Tokens
from flaude.local import Answer, DropAfter, Fault, LocalFly

REFUSED = Answer(401, "verify: invalid token: missing third-party discharge tokens")
Connect = Callable[..., FlyClient]


@pytest.fixture
async def local() -> AsyncIterator[LocalFly]:
    """A stand-in of which only the API is wanted."""
    async with LocalFly(apps=["my-app", "other"], box="simulated") as fly:
        yield fly


@pytest.fixture
def connect(local: LocalFly) -> Connect:
    """Makes clients of it, without its token when they are to find one themselves."""

    def client(**options: Any) -> FlyClient:
        settings = {"base_url": local.base_url, "token": local.token, "rate_limits": None, "retry_for_s": 2, **options}
        return FlyClient(**settings)

    return client


def write(folder: Path, text: str) -> None:
    """Flyctl's file."""
    folder.mkdir(exist_ok=True)
    (folder / "config.yml").write_text(text)


async def test_a_token_that_never_worked(connect: Connect, local: LocalFly) -> None:
    """It is refused at once, by an error that nobody waits out."""
    async with connect(token="fm2_canary_wrong") as client:
        with anyio.fail_after(5), pytest.raises(NotAllowedError) as caught:
            await client.get_app("my-app")
    assert not isinstance(caught.value, TokenExpiredError) and "canary" not in str(caught.value)
    assert local.requests["get_app", 401] == 2


async def test_a_token_that_has_worked(connect: Connect, local: LocalFly) -> None:
    """Its end is an error of its own, with Fly's words and the way to another one."""
    async with connect() as client:
        await client.get_app("my-app")
        local.renew_token()
        with pytest.raises(TokenExpiredError, match="fly tokens create deploy -a APP -x 24h") as caught:
            await client.list_machines("my-app")
    assert caught.value.status == 401 and "missing third-party discharge tokens" in caught.value.fly_text
    assert not caught.value.may_have_been_done and not caught.value.token_works


async def test_while_it_is_refused_hardly_anything_is_sent(connect: Connect, local: LocalFly) -> None:
    """A hundred calls, again and again: one asks whether it is accepted, the others hear what is known."""
    async with connect() as client:
        await client.get_app("my-app")
        local.renew_token()
        refused = 0

        async def call() -> None:
            nonlocal refused
            try:
                await client.list_machines("my-app")
            except TokenExpiredError:
                refused += 1

        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(call)
        assert refused == 50 and local.requests["list_machines", 401] == 50
        with pytest.raises(TokenExpiredError) as caught:
            await client.get_machine("my-app", "0000000000000a")
        unsent = caught.value
        assert (unsent.path, unsent.status, unsent.request_id) == ("/apps/my-app/machines/0000000000000a", None, "")
        for _ in range(50):
            await call()
        assert refused == 100 and local.requests["list_machines", 401] == 50
        assert local.requests["get_app", 401] <= 4 + (anyio.current_time() - began)


async def test_it_works_again(connect: Connect, local: LocalFly) -> None:
    """When Fly takes the same token again, calls go on as if nothing had been."""
    async with connect() as client:
        await client.get_app("my-app")
        local.faults.add(Fault("*", REFUSED))
        with pytest.raises(TokenExpiredError):
            await client.list_machines("my-app")
        local.faults.clear()
        with anyio.fail_after(10):
            while True:
                try:
                    await client.list_machines("my-app")
                except TokenExpiredError:
                    await anyio.lowlevel.checkpoint()
                else:
                    break
        assert (await client.get_app("my-app")).name == "my-app"


async def test_flyctls_file_is_read_again(
    connect: Connect, local: LocalFly, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it is half written, or away, at the moment of the refusal; a token from there is redacted as well."""
    monkeypatch.setattr("flaude._providers.fly.tokens._READ_AGAIN_S", 0.0)
    monkeypatch.setattr("flaude._providers.fly.access._ASK_AGAIN_S", 0.0)
    reads = list[type[Exception]]()

    def read(given: str | None, environ: Mapping[str, str]) -> tuple[str, str]:
        try:
            return find_token_and_place(given, environ)
        except (ConfigError, NoTokenError) as error:
            reads.append(type(error))
            raise

    monkeypatch.setattr("flaude._providers.fly.connection.find_token_and_place", read)
    write(tmp_path, f"access_token: {local.token}\n")
    monkeypatch.setenv("FLY_CONFIG_DIR", str(tmp_path))
    async with connect(token=None) as client:
        await client.get_app("my-app")
        new = local.renew_token()
        for broken in ("access_token: [", "access_token: 'fm2_a b'\n", ""):
            reads.clear()
            write(tmp_path, broken)
            with pytest.raises(TokenExpiredError, match="run any `fly` command"):
                await client.get_app("my-app")
            assert reads, "it was looked at"
        write(tmp_path, f"access_token: {new}\n")
        assert (await client.get_app("my-app")).name == "my-app"
        assert client.without_token(f"it is {new}") == "it is [token]"


async def test_the_environment_is_read_again(
    connect: Connect, local: LocalFly, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program may set it anew; one that was given as an argument stays what it is."""
    monkeypatch.setenv("FLY_API_TOKEN", local.token)
    given = local.token
    async with connect(token=None, retry_for_s=0) as found, connect(token=given, retry_for_s=0) as fixed:
        await found.get_app("my-app")
        await fixed.get_app("my-app")
        monkeypatch.setenv("FLY_API_TOKEN", local.renew_token())
        with anyio.fail_after(10):
            while True:
                try:
                    await found.get_app("my-app")
                    break
                except TokenExpiredError:
                    await anyio.lowlevel.checkpoint()
        with pytest.raises(TokenExpiredError):
            await fixed.get_app("my-app")


@pytest.mark.parametrize("dead", ["fm2_dead_canary", "fm2_dead_canary,fm2_discharge_canary"])
async def test_the_oauth_part_alone(machines: Machines, dead: str) -> None:
    """Of a list with both kinds the OAuth token is tried alone when the macaroons are refused from the start."""
    async with machines(box="simulated", token="fo1_alive_canary") as local:
        async with FlyClient(base_url=local.base_url, token=f"{dead},{local.token}", rate_limits=None) as client:
            for _ in range(3):
                assert (await client.get_app("my-app")).name == "my-app"
        assert local.requests["get_app", 401] == 1 and local.requests["get_app", 200] == 3


async def test_an_oauth_part_that_is_dead(machines: Machines) -> None:
    """It is tried, and the macaroons have their turn again."""
    both = "fm2_alive_canary,fo1_dead_canary"
    async with (
        machines(box="simulated", token="fm2_alive_canary") as local,
        FlyClient(base_url=local.base_url, token=both, rate_limits=None) as client,
    ):
        await client.get_app("my-app")
        local.faults.add(Fault("list_machines", REFUSED, times=1))
        assert await client.list_machines("my-app") == []


async def test_another_app_may_be_refused(connect: Connect, local: LocalFly) -> None:
    """While the token works, the 401 for something that it never worked for is a clear refusal, soon."""
    async with connect() as client:
        await client.get_app("my-app")
        local.faults.add(Fault("list_apps", REFUSED))
        with anyio.fail_after(5), pytest.raises(NotAllowedError) as caught:
            await client.list_apps("personal")
        assert not isinstance(caught.value, TokenExpiredError) and local.requests["list_apps", 401] == 2
        await client.get_app("my-app")


async def test_what_a_403_means(connect: Connect, local: LocalFly) -> None:
    """The token may not do this, unless it has done it before: then it is no longer what it was."""
    async with connect() as client:
        await client.get_app("my-app")
        local.faults.add(Fault("list_machines", Answer(403, "forbidden"), times=1))
        with pytest.raises(NotAllowedError) as caught:
            await client.list_machines("my-app")
        assert not isinstance(caught.value, TokenExpiredError) and local.requests["list_machines", 403] == 1
        await client.list_machines("my-app")
        local.faults.add(Fault("list_machines", Answer(403, "forbidden")))
        with pytest.raises(TokenExpiredError) as expired:
            await client.list_machines("my-app")
        assert expired.value.status == 403 and expired.value.token_works
        assert "accepts the token for other calls" in str(expired.value)
        await client.get_app("my-app")


async def test_a_create_that_was_refused_has_made_nothing(connect: Connect, local: LocalFly) -> None:
    """Nobody has to look for its machine, unless an attempt before was not answered."""
    async with connect() as client:
        await client.get_app("my-app")
        local.faults.add(Fault("*", REFUSED))
        with pytest.raises(TokenExpiredError) as caught:
            await client.create_machine("my-app", name="one", config=SLEEPER)
        assert not caught.value.may_have_been_done and local.created == []
        local.faults.clear()
    async with connect() as client:
        await client.get_app("my-app")
        local.faults.add(Fault("create_machine", DropAfter(), times=1), Fault("*", REFUSED))
        with pytest.raises(FlyError) as lost:
            await client.create_machine("my-app", name="two", config=SLEEPER)
        assert isinstance(lost.value, TokenExpiredError) and lost.value.may_have_been_done and len(local.created) == 1


def test_a_token_that_begins_like_another() -> None:
    """Of a longer one nothing is left when a shorter one is its beginning."""
    parts = [f"fm2_{'a' * length}" for length in range(8, 20)]
    tokens = Tokens(",".join(parts))
    assert tokens.redact(" ".join(parts)) == " ".join(["[token]"] * len(parts))


async def test_no_token_is_ever_told(
    net: Proxy, local: LocalFly, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the old one nor the new one, in logs, errors or reprs, also when a gateway shows us our own headers."""
    old, monkey = "fm2_canary_old_token", "fm2_canary_new_token"
    caplog.set_level(logging.DEBUG, logger="flaude")
    write(tmp_path, f"access_token: {old},fo1_canary_part\n")
    monkeypatch.setenv("FLY_CONFIG_DIR", str(tmp_path))
    told = f"your token: {old} and {monkey} and fo1_canary_part"
    app = Trouble("answer", 200, '{"name": "my-app"}')
    net.troubles = [app, *[refusal(401, told)] * 4, app, app, refusal(503, told)]
    async with FlyClient(base_url=net.base_url, rate_limits=None, retry_for_s=0) as client:
        await client.get_app("my-app")
        with pytest.raises(TokenExpiredError) as caught:
            await client.get_app("my-app")
        write(tmp_path, f"access_token: {monkey}\n")
        await anyio.sleep(1.1)
        await client.get_app("my-app")
        with pytest.raises(UnreachableError) as later:
            await client.get_app("my-app")
        seen = [repr(error) + str(error) + repr(error.__dict__) for error in (caught.value, later.value)]
        text = caplog.text + "".join(seen) + repr(client) + repr(vars(client))
    assert "[token]" in seen[0] and "[token]" in seen[1]
    assert "canary_old" not in text and "canary_part" not in text and "canary_new" not in seen[1]
