from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest
from tests.conftest import needs
from tests.support.openapi import check_exchange

from flaude.local import LocalFly

IDLE = ["sleep", "600"]


def config(*argv: str, **fields: Any) -> dict[str, Any]:
    """A machine's config that runs `argv` once."""
    return {"image": "x", "init": {"exec": list(argv or IDLE)}, "restart": {"policy": "no"}, **fields}


def file(path: str, content: str, **fields: Any) -> dict[str, Any]:
    """An entry of `config.files`."""
    return {"guest_path": path, "raw_value": base64.b64encode(content.encode()).decode(), **fields}


class Api:
    """The stand-in's app `my-app` over a real socket."""

    def __init__(self, fly: LocalFly, client: httpx2.AsyncClient) -> None:
        self.fly = fly
        self.client = client

    async def call(self, method: str, path: str, body: Any = None, **query: Any) -> httpx2.Response:
        """One call; `path` is what follows `/v1/apps/my-app`."""
        return await self.client.request(method, f"/v1/apps/my-app{path}", json=body, params=query)

    async def create(self, *argv: str, name: str = "", **fields: Any) -> str:
        """The id of a new machine."""
        reply = await self.call("POST", "/machines", {"name": name, "config": config(*argv, **fields)})
        assert reply.status_code == 200, reply.text
        return str(reply.json()["id"])

    async def started(self, *argv: str, **fields: Any) -> str:
        """The id of a new machine that has started."""
        machine = await self.create(*argv, **fields)
        await self.reach(machine, "started")
        return machine

    async def reach(self, machine: str, state: str) -> None:
        """Wait until a machine is in a state."""
        reply = await self.call("GET", f"/machines/{machine}/wait", state=state, timeout=20)
        assert reply.status_code == 200, reply.text

    async def get(self, machine: str) -> dict[str, Any]:
        """The machine as the API shows it."""
        reply = await self.call("GET", f"/machines/{machine}")
        assert reply.status_code == 200, reply.text
        shown: dict[str, Any] = reply.json()
        return shown

    async def exec(self, machine: str, *argv: str, **fields: Any) -> dict[str, Any]:
        """The answer of an exec, with the zeros that were left out."""
        reply = await self.call("POST", f"/machines/{machine}/exec", {"command": list(argv), **fields})
        assert reply.status_code == 200, reply.text
        return {"exit_code": 0, "exit_signal": 0, "stdout": "", "stderr": "", **reply.json()}

    async def appears(self, machine: str, name: str) -> str:
        """Wait until a file of the machine holds something; `name` is without a leading slash."""
        path = anyio.Path(self.fly.machine_folder(machine) / name)
        with anyio.fail_after(10):
            while not (await path.exists() and (text := await path.read_text())):
                await self.get(machine)
        return text

    async def exit_event(self, machine: str) -> dict[str, Any]:
        """The `exit_event` of the newest exit."""
        events = (await self.get(machine))["events"]
        found: dict[str, Any] = next(event for event in events if event["type"] == "exit")["request"]["exit_event"]
        return found


def error(reply: httpx2.Response) -> tuple[int, str]:
    """Status and text of a refusal."""
    return reply.status_code, reply.json()["error"]


Open = Callable[..., AbstractAsyncContextManager[Api]]


@asynccontextmanager
async def opened(**options: Any) -> AsyncIterator[Api]:
    """A stand-in with `my-app`, whose whole traffic is checked against Fly's OpenAPI file, and a client for it."""
    settings = {"apps": ["my-app"], "box": "plain", "on_exchange": check_exchange, **options}
    async with LocalFly(**settings) as fly:
        headers = {"Authorization": f"Bearer {fly.token}"}
        async with httpx2.AsyncClient(base_url=fly.base_url, headers=headers, timeout=70) as client:
            yield Api(fly, client)


@pytest.fixture(params=["bubblewrap", "plain"])
def boxed(request: pytest.FixtureRequest) -> Open:
    """Opens a stand-in with each kind of box."""

    @asynccontextmanager
    async def open_(**options: Any) -> AsyncIterator[Api]:
        opening = opened(box=request.param, **options)
        try:
            api = await opening.__aenter__()
        except RuntimeError as reason:
            needs("a bubblewrap box", str(reason), there=False)
            raise
        try:
            yield api
        finally:
            await opening.__aexit__(None, None, None)

    return open_


@pytest.fixture
async def api(boxed: Open) -> AsyncIterator[Api]:
    """A stand-in with each kind of box."""
    async with boxed() as api:
        yield api


@pytest.fixture
async def plain() -> AsyncIterator[Api]:
    """A stand-in with plain boxes, where the box makes no difference."""
    async with opened() as api:
        yield api
