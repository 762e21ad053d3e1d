from __future__ import annotations

import json

import pytest
from tests.providers.fly.proxy import Proxy, Trouble

from flaude import (
    ConfigError,
    FlyError,
    InvalidRequestError,
    NameTakenError,
    NoCapacityError,
    NotAllowedError,
    NotReadyError,
    RateLimitedError,
    UnreachableError,
)
from flaude._providers.fly import FlyClient
from flaude._providers.fly.failures import failure
from flaude._providers.http import Answer

MACHINES = "/apps/my-app/machines"


def told(status: int, body: object, **headers: str) -> FlyError:
    """The error that an answer means."""
    content = body if isinstance(body, str) else json.dumps(body)
    return failure(Answer(status, headers, content.encode()), "POST", MACHINES, lambda text: text)


@pytest.mark.parametrize("status", [301, 302, 304, 307, 308])
async def test_a_redirect_is_told_once(far: FlyClient, net: Proxy, status: int) -> None:
    """A redirect names the two places of a wrong address, and is not followed or repeated."""
    net.troubles = [Trouble("answer", status, "", (("location", f"{net.base_url}/v1/apps/my-app"),))] * 9
    with pytest.raises(UnreachableError, match="base_url= or FLY_FLAPS_BASE_URL") as caught:
        await far.get_app("my-app")
    assert caught.value.status == status
    assert net.seen == [("GET", "/v1/apps/my-app")]


@pytest.mark.parametrize("token", ["fm2_canaryone", "FlyV1 fm2_canaryone,fm2_canarytwo", "Bearer fo1_canaryone"])
@pytest.mark.parametrize("filler", ["", "x" * 460])
async def test_an_echoed_token_is_not_told(net: Proxy, token: str, filler: str) -> None:
    """A gateway that shows us our own headers does not bring the token into the error, not even a piece of it."""
    net.troubles = [Trouble("answer", 400, f"<pre>{filler} Authorization: {token}</pre>")]
    async with FlyClient(base_url=net.base_url, token=token) as client:
        with pytest.raises(InvalidRequestError, match="Authorization") as caught:
            await client.get_app("my-app")
    error = caught.value
    shown = str(error) + repr(error) + error.fly_text + str(vars(error)) + repr(error.__context__)
    assert "canary" not in shown and "[token" in error.fly_text


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (409, {"error": "no capacity"}, NoCapacityError),
        (409, {"error": "no capacity", "status": "machine_locked"}, NotReadyError),
        (409, {"error": "anything", "status": "insufficient_capacity"}, NoCapacityError),
        (422, {"error": "anything", "status": "volume_placement_capacity"}, NoCapacityError),
        (409, "insufficient memory available", NoCapacityError),
        (400, {"error": "no capacity"}, InvalidRequestError),
        (412, {"error": "insufficient resources"}, NotReadyError),
        (422, {"error": "insufficient cpus"}, InvalidRequestError),
        (503, {"error": "no capacity"}, UnreachableError),
        (500, {"error": "no capacity"}, UnreachableError),
        (500, {"error": "no capacity", "status": "insufficient_capacity"}, UnreachableError),
        (409, {"error": "no capacity", "status": 409}, NoCapacityError),
    ],
)
def test_capacity(status: int, body: object, error: type[FlyError]) -> None:
    """The code outranks the text, a text counts with 409 alone, and a 500 is never about room."""
    assert type(told(status, body)) is error


TAKEN = 'unique machine name violation, machine ID 148e21 already exists with name "x"'


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (409, {"error": TAKEN}, NameTakenError),
        (422, {"error": "Validation failed: Name has already been taken"}, NameTakenError),
        (422, {"error": "x", "status": "name_taken"}, NameTakenError),
        (422, {"error": "machine name already taken"}, NameTakenError),
        (409, {"error": "already_exists: already taken"}, NameTakenError),
        (400, {"error": TAKEN}, InvalidRequestError),
        (412, {"error": TAKEN}, NotReadyError),
        (500, {"error": "uniqueness constraint violated"}, UnreachableError),
        (503, {"error": "x", "status": "name_taken"}, UnreachableError),
    ],
)
def test_name_taken(status: int, body: object, error: type[FlyError]) -> None:
    """A name is taken when Fly says so with 409 or 422, and with no other status."""
    found = told(status, body)
    assert type(found) is error
    if isinstance(found, NameTakenError):
        assert found.machine_id == ("148e21" if body == {"error": TAKEN} else None)


PAYMENT = "To create more than 1 machine per app please add a payment method. https://fly.io/dashboard/me/billing"


@pytest.mark.parametrize("status", [402, 403, 422])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PAYMENT, ["payment method", "fly.io/dashboard/"]),
        ("Performance CPUs are not available", ["no performance CPUs", "shared-cpu-2x", "fly.io/dashboard/"]),
        ("performance-2x: not for you", ["no performance CPUs"]),
        ("not in your trial", ["free trial", "shared-cpu-2x", "fly.io/dashboard/"]),
    ],
)
def test_what_an_account_may_not_have(status: int, text: str, words: list[str]) -> None:
    """The three refusals say what to do, and are no fault of the token, whatever the status."""
    found = told(status, {"error": text})
    assert type(found) is InvalidRequestError and text in str(found)
    assert all(word in str(found) for word in words) and "token" not in str(found)


@pytest.mark.parametrize("name", ["trial-app", "my-trial", "registry.fly.io/trial:1", "performance-app", '"trial"'])
def test_a_name_is_no_limit_of_the_account(name: str) -> None:
    """An app or an image may be called like one."""
    assert "payment" not in str(told(422, {"error": f"{name} is not valid"}))
    assert type(told(403, {"error": f"{name} is not yours"})) is NotAllowedError


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_an_image_that_fly_does_not_get(status: int) -> None:
    """It is no word on the app or the token, whatever the registry's own refusal has made of the status."""
    found = told(status, {"error": "failed to get manifest ghcr.io/org/image:1: unauthorized"})
    assert type(found) is InvalidRequestError and "image=" in str(found)


@pytest.mark.parametrize("body", ["", "[" * 100_000, "[1]", "null", '"text"', '{"error": {"a": 1}}', "\x00\xff"])
def test_any_body_makes_an_error(body: str) -> None:
    """An error body may be anything at all."""
    assert type(told(400, body)) is InvalidRequestError


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ("1", 1.0),
        (" 30 ", 30.0),
        ("", None),
        ("1.5", None),
        ("-1", None),
        ("soon", None),
        ("1e3", None),
        ("9" * 10, None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_retry_after(asked: str, seconds: float | None) -> None:
    """Retry-After counts when it is a number of whole seconds."""
    error = told(429, {"error": "slow down"}, **{"retry-after": asked})
    assert isinstance(error, RateLimitedError) and error.retry_after_s == seconds


@pytest.mark.parametrize(
    "body",
    ["{}", "[null]", "[{}]", '[{"id": "1", "name": "sk-canary', '"sk-canary"', '{"id": "sk-canary"}', "<html>", ""],
)
async def test_a_list_that_is_none(net: Proxy, body: str) -> None:
    """A list of machines that is cut or no list is no answer, and what stood in it is not told."""
    net.troubles = [Trouble("answer", 200, body)]
    async with FlyClient(base_url=net.base_url, token="t", retry_for_s=0) as client:
        with pytest.raises(UnreachableError, match="cut, or not what") as caught:
            await client.list_machines("my-app")
    assert caught.value.status == 200
    assert "canary" not in str(caught.value) + str(vars(caught.value)) + repr(caught.value.__cause__)


async def test_a_null_list_is_empty(far: FlyClient, net: Proxy) -> None:
    """Go writes null for an empty list; a cut list is asked for again."""
    net.troubles = [Trouble("answer", 200, "null")]
    assert await far.list_machines("my-app") == []
    net.troubles = [Trouble("answer", 200, "[")]
    assert await far.list_machines("my-app") == []
    assert len(net.seen) == 3


@pytest.mark.parametrize(("body", "words"), [("machine is busy", "machine is busy"), (None, "None")])
async def test_a_start_refused_inside_a_200(far: FlyClient, net: Proxy, body: str | None, words: str) -> None:
    """Fly may refuse a start with status 200 and `status` "error"; it is no success and is not repeated."""
    net.troubles = [Trouble("answer", 200, json.dumps({"status": "error", "message": body}))]
    with pytest.raises(NotReadyError, match=words) as caught:
        await far.start_machine("my-app", "148e21")
    assert (caught.value.status, caught.value.fly_text, len(net.seen)) == (200, words, 1)


@pytest.mark.parametrize("body", ['{"status": "ok"}', '{"previous_state": "stopped"}', "", "null", "[]"])
async def test_a_start_that_is_not_refused(far: FlyClient, net: Proxy, body: str) -> None:
    """Every other 200 is a start."""
    net.troubles = [Trouble("answer", 200, body)]
    await far.start_machine("my-app", "148e21")
    assert len(net.seen) == 1


async def test_a_bad_token_never_leaves(net: Proxy) -> None:
    """A token that no header can carry fails before anything is sent."""
    with pytest.raises(ConfigError, match="token=") as caught:
        FlyClient(base_url=net.base_url, token="fm2_canary\nX-Other: 1")
    assert "canary" not in str(caught.value)
    assert net.seen == []
