"""What the Docker daemon of the tests does, asked with the client library aiodocker."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiodocker
import pytest
from tests.support.docker_daemon import GATEWAY, DockerDaemon
from tests.support.docker_files import IMAGE
from tests.support.messages_api import Say, messages_api

MIB = 1 << 20

Containers = Callable[..., Awaitable[Any]]


@pytest.fixture
async def docker(docker_daemon: DockerDaemon) -> AsyncIterator[Any]:
    """A client of the daemon."""
    async with aiodocker.Docker(docker_daemon.url) as client:
        yield client


@pytest.fixture
async def started(docker: Any) -> AsyncIterator[Containers]:
    """Starts a container, which is removed after the test: one that only sleeps unless the test says what it does."""
    async with AsyncExitStack() as afterwards:

        async def start(*argv: str, labels: dict[str, str] | None = None, **host: Any) -> Any:
            config = {
                "Image": host.pop("image", IMAGE),
                "Cmd": argv or ("sleep", "600"),
                "Labels": labels or {},
                "Env": host.pop("environment", []),
                "HostConfig": {"Init": True, **host},
            }
            container = await docker.containers.create(config)
            if not host.get("AutoRemove"):
                afterwards.push_async_callback(container.delete, force=True)
            await container.start()
            return container

        yield start


async def said(container: Any) -> tuple[int, str]:
    """Wait until a container has ended; its exit code, and what it has printed."""
    done = await container.wait()
    return done["StatusCode"], "".join(await container.log(stdout=True, stderr=True))


@pytest.mark.parametrize(
    "argv",
    [
        ("python3", "-c", "import sys; sys.exit(sys.version_info < (3, 9))"),
        ("git", "--version"),
        ("sh", "-c", "test $(id -u) = 0 && test -s /etc/ssl/certs/ca-certificates.crt"),
    ],
)
async def test_the_image_has_what_the_guest_needs(started: Containers, argv: tuple[str, ...]) -> None:
    """A container has Python, git and certificates, and whoever starts in it is root."""
    code, text = await said(await started(*argv, NetworkMode="none"))
    assert code == 0, text


async def test_a_container_over_its_memory_is_killed(started: Containers) -> None:
    """The limit of memory is kept: who takes more is killed, and Docker says why."""
    container = await started("python3", "-c", "bytearray(300 << 20)", Memory=64 * MIB)
    code, _ = await said(container)
    state = (await container.show())["State"]
    assert code == 137 and state["OOMKilled"]


async def test_an_exec_takes_a_long_input(started: Containers) -> None:
    """An exec hears 1 MiB on its stdin, and answers on stdout and stderr apart, with its exit code."""
    container = await started(NetworkMode="none")
    data = bytes(range(256)) * 4096
    program = (
        "import hashlib, sys; data = sys.stdin.buffer.read(1 << 20); print(hashlib.sha256(data).hexdigest(), end='');"
        "print('heard', file=sys.stderr, end=''); sys.exit(3)"
    )
    execution = await container.exec(["python3", "-c", program], stdin=True)
    heard = {1: b"", 2: b""}
    async with execution.start() as stream:
        await stream.write_in(data)
        while message := await stream.read_out():
            heard[message.stream] += message.data
    assert heard == {1: hashlib.sha256(data).hexdigest().encode(), 2: b"heard"}
    assert (await execution.inspect())["ExitCode"] == 3


async def test_containers_are_found_by_their_labels(started: Containers, docker: Any) -> None:
    """A list can be asked for with a label's value, and has what the labels say."""
    ours = await started(labels={"flaude.test": "ours"}, NetworkMode="none")
    await started(labels={"flaude.test": "theirs"}, NetworkMode="none")
    found = await docker.containers.list(all=True, filters={"label": ["flaude.test=ours"]})
    assert [each.id for each in found] == [ours.id] and found[0]["Labels"]["flaude.test"] == "ours"


async def test_a_container_removes_itself(started: Containers, docker: Any) -> None:
    """With AutoRemove a container that has ended is gone; who asked to hear of that hears its exit code."""
    container = await started("sh", "-c", "sleep 0.5; exit 7", AutoRemove=True, NetworkMode="none")
    done = await container.wait(condition="removed")
    with pytest.raises(aiodocker.DockerError) as caught:
        await docker.containers.get(container.id)
    assert done["StatusCode"] == 7 and caught.value.status == 404


async def test_without_a_network_there_is_nobody_to_reach(started: Containers) -> None:
    """A container in the network `none` has its own loopback and no more."""
    code, text = await said(await started("cat", "/proc/net/dev", NetworkMode="none"))
    assert code == 0 and text.count(":") == 1 and "lo:" in text


@pytest.mark.parametrize("network", ["default", "host"])
async def test_a_container_reaches_a_server_of_this_computer(
    started: Containers, docker_daemon: DockerDaemon, network: str
) -> None:
    """What listens on this computer's 127.0.0.1 is reached while a test has it so, and not any longer."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello from outside")
        writer.close()

    host = "127.0.0.1" if network == "host" else GATEWAY
    async with await asyncio.start_server(greet, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        program = f"import socket; print(socket.create_connection(('{host}', {port}), 5).recv(99))"
        async with docker_daemon.reaching(port):
            _, inside = await said(await started("python3", "-c", program, NetworkMode=network))
        _, later = await said(await started("python3", "-c", program, NetworkMode=network))
    assert "hello from outside" in inside and "ConnectionRefusedError" in later


async def test_the_real_cli_runs_in_a_container(
    started: Containers, docker_daemon: DockerDaemon, claude_bin: Path
) -> None:
    """The image with the real Claude Code CLI runs it, with the scripted Messages API outside."""
    image = await asyncio.to_thread(docker_daemon.claude_image)
    async with messages_api(lambda _prompt: [Say("hello from the model")]) as api:
        port = int(api.base_url.rpartition(":")[2])
        environment = [
            f"ANTHROPIC_BASE_URL=http://{GATEWAY}:{port}",
            "ANTHROPIC_API_KEY=sk-ant-test",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1",
        ]
        argv = ("claude", "-p", "hi", "--output-format", "json")
        async with docker_daemon.reaching(port):
            container = await started(*argv, image=image, environment=environment)
            code, text = await said(container)
    assert code == 0 and json.loads(text)["result"] == "hello from the model", text
