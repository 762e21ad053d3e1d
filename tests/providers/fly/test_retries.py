from __future__ import annotations

import logging
import socket

import anyio
import pytest
from tests.providers.fly.conftest import SLEEPER, gone
from tests.providers.fly.proxy import Proxy, Trouble, proxy, refusal

from flaude import (
    FlyError,
    InvalidRequestError,
    NameTakenError,
    NoCapacityError,
    NotFoundError,
    NotReadyError,
    RateLimitedError,
    UnreachableError,
)
from flaude._providers.fly import FlyClient
from flaude._providers.fly.retries import may_repeat
from flaude._providers.http import NoAnswerError
from flaude.local import LocalFly


def caused(cause: Exception) -> UnreachableError:
    """No answer, because of `cause`."""
    error = UnreachableError("x")
    error.__cause__ = cause
    return error


def describe(error: Exception) -> str:
    """Its class, its status and what caused it."""
    return f"{type(error).__name__} {getattr(error, 'status', None)} {error.__cause__ or ''}"


@pytest.mark.parametrize(
    ("error", "if_harmless", "if_not"),
    [
        (RateLimitedError("x", status=429), True, True),
        (UnreachableError("x", status=503), True, False),
        (UnreachableError("x", status=200), True, False),
        (UnreachableError("x", status=408), True, False),
        (UnreachableError("x", status=302), False, False),
        (caused(NoAnswerError("lost", sent=True)), True, False),
        (caused(NoAnswerError("never sent", sent=False)), True, True),
        (NotReadyError("x", status=409), False, False),
        (NoCapacityError("x", status=409), False, False),
        (NameTakenError("x", status=409), False, False),
        (NotFoundError("x", status=404), False, False),
        (InvalidRequestError("x", status=400), False, False),
        (ValueError("x"), False, False),
    ],
    ids=lambda value: describe(value) if isinstance(value, Exception) else "",
)
def test_may_repeat(error: Exception, if_harmless: bool, if_not: bool) -> None:
    """What was turned away or never sent may always be sent again, a lost answer only when that does no harm."""
    assert may_repeat(error, harmless=True, takes_time=False) is if_harmless
    assert may_repeat(error, harmless=False, takes_time=False) is if_not


def test_408_is_an_answer_to_what_waits() -> None:
    """408 says to a call that waits for something that its time is over."""
    assert not may_repeat(UnreachableError("x", status=408), harmless=True, takes_time=True)
    assert may_repeat(UnreachableError("x", status=503), harmless=True, takes_time=True)


async def test_retry_after_is_the_wait(far: FlyClient, net: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    """The wait is what Fly asks for to the second; one that nobody can read counts as none."""
    caplog.set_level(logging.INFO, logger="flaude.fly")
    net.troubles = [refusal(429, "slow down", **{"retry-after": "1"})]
    await far.get_app("my-app")
    net.troubles = [refusal(429, "slow down", **{"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"})]
    await far.get_app("my-app")
    waits = [record.args[2] for record in caplog.records if isinstance(record.args, tuple) and len(record.args) == 4]
    assert waits[0] == 1.0 and isinstance(waits[1], float) and waits[1] < 1.0 and len(waits) == 2
    assert len(net.seen) == 4


async def test_a_retry_after_that_is_too_long(far: FlyClient, net: Proxy) -> None:
    """When Fly asks for more time than the call has left, the call ends at once and says for how much."""
    net.troubles = [refusal(429, "slow down", **{"retry-after": "600"})] * 5
    with anyio.fail_after(20), pytest.raises(RateLimitedError, match="slow down") as caught:
        await far.get_app("my-app")
    assert caught.value.retry_after_s == 600.0
    assert len(net.seen) == 1


async def test_without_time_nothing_is_repeated(local: LocalFly, net: Proxy) -> None:
    """`retry_for_s=0` means one attempt."""
    net.troubles = [refusal(503, "later")]
    async with FlyClient(base_url=net.base_url, token=local.token, retry_for_s=0) as client:
        with pytest.raises(UnreachableError):
            await client.get_app("my-app")
    assert len(net.seen) == 1


@pytest.mark.parametrize(
    ("trouble", "retry", "attempts"),
    [
        (Trouble("drop"), False, 1),
        (Trouble("lose"), False, 1),
        (Trouble("half"), False, 1),
        (refusal(503, "later"), False, 1),
        (refusal(429, "slow down"), False, 2),
        (Trouble("lose"), True, 2),
        (Trouble("half"), True, 2),
        (refusal(503, "later"), True, 2),
    ],
    ids=lambda value: f"{value.kind}-{value.status}" if isinstance(value, Trouble) else str(value),
)
async def test_exec_is_repeated_when_it_may_be(
    fly: FlyClient, far: FlyClient, net: Proxy, trouble: Trouble, retry: bool, attempts: int
) -> None:
    """A command that may have run is run again only with `retry`; one that was turned away always is."""
    machine = await fly.create_machine("my-app", name="one", config=SLEEPER)
    assert await fly.wait_machine("my-app", machine.id, state="started", timeout_s=20)
    net.troubles = [trouble]
    error: FlyError | None = None
    try:
        done = await far.exec_machine("my-app", machine.id, ["echo", "hi"], retry=retry)
        assert done.stdout == "hi\n"
    except FlyError as caught:
        error = caught
    assert len(net.seen) == attempts
    assert (type(error) is UnreachableError) == (attempts == 1)
    await fly.delete_machine("my-app", machine.id)
    await gone(fly, machine.id)


class _Until(logging.Handler):
    """Tells when a text is logged."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.logged = anyio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self.text in record.getMessage():
            self.logged.set()


async def test_exec_waits_for_a_connection(
    local: LocalFly, fly: FlyClient, caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> None:
    """A refused connection cannot have run anything: the command is sent when somebody listens, and runs once."""
    caplog.set_level(logging.INFO)
    refused = _Until("attempt 2")
    logging.getLogger("flaude.fly").addHandler(refused)
    request.addfinalizer(lambda: logging.getLogger("flaude.fly").removeHandler(refused))
    machine = await fly.create_machine("my-app", name="one", config=SLEEPER)
    assert await fly.wait_machine("my-app", machine.id, state="started", timeout_s=20)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # not listening: it refuses
        port = held.getsockname()[1]
        async with (
            FlyClient(base_url=f"http://127.0.0.1:{port}", token=local.token) as client,
            anyio.create_task_group() as tasks,
        ):
            outputs: list[str] = []

            async def run() -> None:
                outputs.append((await client.exec_machine("my-app", machine.id, ["echo", "hi"])).stdout)
                tasks.cancel_scope.cancel()

            with anyio.fail_after(40):
                tasks.start_soon(run)
                await refused.logged.wait()
                held.close()
                async with proxy(local.base_url, port=port) as net:
                    await anyio.sleep_forever()
    assert outputs == ["hi\n"] and len(net.seen) == 1
    await fly.delete_machine("my-app", machine.id)
    await gone(fly, machine.id)


def held_by(machine_id: str) -> Trouble:
    """Fly's refusal of a name that a machine has."""
    return refusal(409, f'unique machine name violation, machine ID {machine_id} already exists with name "only"')


async def test_a_holder_that_is_gone(local: LocalFly, far: FlyClient, net: Proxy) -> None:
    """When the machine that has the name is not to be found, the create is sent again, and makes one machine."""
    net.troubles = [held_by("5683000000000d")]
    machine = await far.create_machine("my-app", name="only", config=SLEEPER)
    assert local.created == [machine.id]
    create, read = ("POST", "/v1/apps/my-app/machines"), ("GET", "/v1/apps/my-app/machines/5683000000000d")
    assert net.seen == [create, read, create]
    await far.delete_machine("my-app", machine.id)
    await gone(far, machine.id)


async def test_a_holder_that_is_not_visible_yet(local: LocalFly, far: FlyClient, net: Proxy) -> None:
    """Our own machine may not be readable at once; it is adopted when it is, and no second one is made."""
    net.troubles = [Trouble("lose"), Trouble("pass"), refusal(404, "machine not found")]
    machine = await far.create_machine("my-app", name="only", config=SLEEPER)
    assert local.created == [machine.id]
    assert [method for method, _ in net.seen] == ["POST", "POST", "GET", "POST", "GET"]
    await far.delete_machine("my-app", machine.id)
    await gone(far, machine.id)


@pytest.mark.parametrize(
    "troubles",
    [[Trouble("silence")] * 9, [held_by("5683000000000d"), refusal(404, "not found")] * 9],
    ids=["silence", "a ghost"],
)
async def test_a_create_ends(local: LocalFly, net: Proxy, troubles: list[Trouble]) -> None:
    """A create that gets no answer that counts ends in its time and says that the machine may be there."""
    net.troubles = troubles
    async with FlyClient(base_url=net.base_url, token=local.token, retry_for_s=1, timeout_s=1) as client:
        with anyio.fail_after(20), pytest.raises(UnreachableError) as caught:
            await client.create_machine("my-app", name="only", config=SLEEPER)
    assert (caught.value.method, caught.value.path) == ("POST", "/apps/my-app/machines")
    assert caught.value.may_have_been_done
    assert local.created == []


async def test_a_proxy_is_not_for_this_computer(local: LocalFly, net: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HTTP_PROXY names never sees a call to 127.0.0.1 or localhost, nor the token in it."""
    net.troubles = [Trouble("answer", 502)] * 9
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, net.base_url)
    for base_url in (local.base_url, local.base_url.replace("127.0.0.1", "localhost")):
        async with FlyClient(base_url=base_url, token=local.token, retry_for_s=0) as client:
            assert (await client.get_app("my-app")).name == "my-app"
    assert net.seen == []


async def test_a_proxy_is_for_elsewhere(net: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call to another computer goes to the proxy that HTTP_PROXY names."""
    net.troubles = [Trouble("answer", 200, '{"name": "my-app"}')]
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("http_proxy", net.base_url)
    async with FlyClient(base_url="http://api.example.com", token="t", retry_for_s=0) as client:
        assert (await client.get_app("my-app")).name == "my-app"
    assert net.seen == [("GET", "http://api.example.com/v1/apps/my-app")]


async def test_one_line_a_retry(far: FlyClient, net: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    """A retry is one line of the log: the call, the attempt, and the error before it."""
    caplog.set_level(logging.DEBUG)
    net.troubles = [refusal(503, "later")]
    await far.get_app("my-app")
    ours = [record.getMessage() for record in caplog.records if record.name == "flaude.fly"]
    assert len(ours) == 1 and "GET /apps/my-app: attempt 2" in ours[0] and "later" in ours[0]
