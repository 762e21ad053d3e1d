"""A real Docker daemon of the tests' own, one for all workers of a test session.

It listens on a unix socket alone. Its networks are in a namespace of its own, where a container reaches a server on
this computer's 127.0.0.1 once a test has it reached: see `DockerDaemon.reaching`.
"""

from __future__ import annotations

import asyncio
import fcntl
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

from tests.support.docker_api import ask
from tests.support.docker_files import CLAUDE_IMAGE, IMAGE, claude_program, image_tar, search_path
from tests.support.linux import call_libc

from flaude._model.config import TESTED_CLAUDE_CODE

_ROOT = Path(__file__).parents[2]
_PROGRAMS = ("dockerd", "containerd", "containerd-shim-runc-v2", "runc", "docker-init")
_CAP_SYS_ADMIN = 21
_CLONE_NEWNET = 0x40000000
_START_S = 120
_END_S = 60

GATEWAY = "172.17.0.1"
"""Where a container in the default network reaches what `DockerDaemon.reaching` has it reach."""


def available() -> str:
    """Why no daemon can be started here, or nothing when one can."""
    if sys.platform != "linux":
        return "this is no Linux"
    if os.geteuid() != 0:
        return "it runs as root alone"
    status = Path("/proc/self/status").read_text()
    capabilities = int(status.partition("CapEff:")[2].split()[0], 16)
    if not capabilities >> _CAP_SYS_ADMIN & 1:
        return "root may not mount here, as in a container without --privileged"
    missing = [program for program in _PROGRAMS if not shutil.which(program, path=search_path())]
    if missing:
        return f"there is no {', '.join(missing)}; run scripts/install-test-tools"
    if not image_tar():
        return "there is no image; run scripts/install-test-tools"
    cgroups = Path("/sys/fs/cgroup")
    memory = cgroups / "memory" if (cgroups / "memory").is_dir() else cgroups
    return "" if os.access(memory, os.W_OK) else f"{memory} is not writable"


@dataclass(frozen=True)
class DockerDaemon:
    """The daemon as one of its users has it."""

    folder: Path
    """Of the daemon; it is gone after the last user."""
    pid: int
    """Of its first process, as this computer counts; all others end with it."""

    @property
    def api(self) -> Path:
        """The unix socket that it listens on."""
        return self.folder / "docker.sock"

    @property
    def url(self) -> str:
        """The same as clients are told it."""
        return f"unix://{self.api}"

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask its API without a client; returns what the JSON of the answer says."""
        said = ask(self.api, method, path, body)
        return json.loads(said) if said else None

    def image(self) -> str:
        """The image of the tests: Debian with python3, git and certificates; whoever asks first imports it."""
        with self._missing(IMAGE) as missing:
            tar = image_tar()
            if missing and tar:
                repository, _, tag = IMAGE.partition(":")
                with tar.open("rb") as file:
                    ask(self.api, "POST", f"/images/create?fromSrc=-&repo={repository}&tag={tag}", file)
        return IMAGE

    def claude_image(self) -> str:
        """The same with the real Claude Code CLI at /usr/local/bin/claude; whoever asks first makes it."""
        base = self.image()
        with self._missing(CLAUDE_IMAGE) as missing:
            program = claude_program(TESTED_CLAUDE_CODE)
            if missing and program:
                dockerfile = f"FROM {base}\nCOPY claude /usr/local/bin/claude\n".encode()
                about_it = tarfile.TarInfo("Dockerfile")
                about_it.size = len(dockerfile)
                with os.fdopen(os.memfd_create("context"), "w+b") as context:
                    with tarfile.open(fileobj=context, mode="w") as tar:
                        tar.addfile(about_it, io.BytesIO(dockerfile))
                        tar.add(program, "claude")
                    context.seek(0)
                    ask(self.api, "POST", f"/build?t={CLAUDE_IMAGE}&networkmode=none", context)
        return CLAUDE_IMAGE

    @contextmanager
    def _missing(self, image: str) -> Iterator[bool]:
        with _locked(self.folder / f"{image}.lock"):
            tags = [tag for each in self.ask("GET", "/images/json") for tag in each["RepoTags"] or []]
            yield image not in tags

    @asynccontextmanager
    async def reaching(self, port: int) -> AsyncIterator[None]:
        """Have containers reach what listens on that port of this computer's 127.0.0.1, while the block runs.

        It is at the same port of `GATEWAY` for those in the default network, and of 127.0.0.1 for those in the network
        `host`.
        """
        async with AsyncExitStack() as servers:
            for listening in self._listening(port):
                await servers.enter_async_context(await asyncio.start_server(_relay_to(port), sock=listening))
            yield

    def _listening(self, port: int) -> list[socket.socket]:
        """Sockets that listen in the daemon's networks: a thread enters them to make the sockets, and ends."""
        made: Future[list[socket.socket]] = Future()

        def make() -> None:
            try:
                with Path(f"/proc/{self.pid}/ns/net").open() as namespace:
                    call_libc("setns", namespace.fileno(), _CLONE_NEWNET)
                made.set_result([socket.create_server((address, port)) for address in (GATEWAY, "127.0.0.1")])
            except OSError as error:
                made.set_exception(error)

        Thread(target=make).start()
        return made.result()


def _relay_to(port: int) -> Any:
    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
            writer.write_eof()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(pump(reader, to_writer), pump(to_reader, writer))
        finally:
            to_writer.close()
            writer.close()

    return relay


@contextmanager
def using_daemon(session: Path) -> Iterator[DockerDaemon]:
    """Use the daemon of a test session, while the block runs; the first user starts it, and it ends with the last one.

    Args:
        session: A folder that all workers of the session have.

    Raises:
        RuntimeError: It does not start; the message has its log.
    """
    with _locked(session / "docker.lock"):
        folder, connection, answer = _join(session) or _start(session)
    with connection:
        if answer["problem"]:
            raise RuntimeError(answer["problem"])
        try:
            yield DockerDaemon(folder, answer["pid"])
        finally:
            connection.shutdown(socket.SHUT_WR)
            # Who is not the last one need not wait; for the last one all is gone then.
            connection.settimeout(_END_S)
            connection.recv(1)


_Joined = tuple[Path, socket.socket, dict[str, Any]]


def _join(session: Path) -> _Joined | None:
    """Be another user of a daemon that somebody has started."""
    try:
        folder = Path((session / "docker.folder").read_text())
    except FileNotFoundError:
        return None
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(_START_S)
    with suppress(OSError):
        connection.connect(str(folder / "users"))
        with connection.makefile("rb") as lines:
            answer = lines.readline()
        if answer:
            return folder, connection, json.loads(answer)
    connection.close()  # its last user has left
    return None


def _start(session: Path) -> _Joined:
    folder = Path(tempfile.mkdtemp(prefix="flaude-dockerd-"))
    argv = [sys.executable, "-m", "tests.support.docker_daemon_process", "serve", str(folder)]
    log = session / "docker.log"
    with log.open("w") as output:
        subprocess.run(
            argv, check=False, cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=_START_S
        )
    (session / "docker.folder").write_text(str(folder))
    joined = _join(session)
    assert joined, f"the daemon's process has ended: {log.read_text()}"
    return joined


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
