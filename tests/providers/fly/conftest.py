from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from tests.providers.fly.proxy import Proxy, proxy

from flaude import NotFoundError
from flaude._providers.fly import FlyClient
from flaude.local import LocalFly

SLEEPER = {
    "image": "node:22-bookworm",
    "init": {"exec": ["python3", "-c", "import signal; signal.pause()"]},
    "restart": {"policy": "no"},
    "metadata": {"managed_by": "test", "flaude_batch": "b1"},
}


@pytest.fixture
async def fly(local: LocalFly) -> AsyncIterator[FlyClient]:
    """A client of the stand-in."""
    async with FlyClient(base_url=local.base_url, token=local.token) as client:
        yield client


@pytest.fixture
async def net(local: LocalFly) -> AsyncIterator[Proxy]:
    """A network that misbehaves as told."""
    async with proxy(local.base_url) as made:
        yield made


@pytest.fixture
async def far(local: LocalFly, net: Proxy) -> AsyncIterator[FlyClient]:
    """A client behind that network."""
    async with FlyClient(base_url=net.base_url, token=local.token, retry_for_s=3, timeout_s=5) as client:
        yield client


async def gone(fly: FlyClient, machine_id: str, app: str = "my-app") -> None:
    """Wait until it is."""
    with suppress(NotFoundError):
        assert await fly.wait_machine(app, machine_id, state="destroyed", timeout_s=20)
