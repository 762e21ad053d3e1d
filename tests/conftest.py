from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from flaude._model.config import TESTED_CLAUDE_CODE
from flaude.local import LocalFly
from tests.support.blocking_detector import detecting
from tests.support.gate import Gate
from tests.support.openapi import check_exchange

TOKEN = "sk-ant-oat-canary-9f8e7d6c"

_ROOT = Path(__file__).parent.parent

# How long an example takes says more about the computer than about flaude; each test has its own time limit. The
# first text alone that is made up costs seconds on a computer with much to do.
settings.register_profile("any computer", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any computer")


@pytest.fixture
def anyio_backend() -> str:
    """Asyncio alone: aiolimiter and the stream of `as_completed` are bound to it."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees, or sends, a token of the machine that it runs on, or writes to its journal."""
    for name in os.environ:
        if name.startswith(("FLY_", "CLAUDE", "ANTHROPIC_", "GIT_", "GH_", "GITHUB_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FLY_CONFIG_DIR", str(tmp_path / "no-flyctl"))
    monkeypatch.setenv("FLAUDE_HOME", str(tmp_path / "flaude-home"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture(autouse=True, scope="session")
def _detector() -> Iterator[list[str]]:
    """Calls of flaude's that block an event loop raise `BlockingError`; what was detected is in the list."""
    detected: list[str] = []
    with detecting(detected.append):
        yield detected


@pytest.fixture(autouse=True)
def _nothing_blocks(_detector: list[str]) -> Iterator[None]:
    """A test fails when it made an event loop wait, also where that was borne as any error would be."""
    _detector.clear()
    yield
    assert _detector == [], "an event loop was blocked: see tests/support/blocking_detector.py"


@pytest.fixture(autouse=True, scope="session")
def _sigint_is_heard() -> None:
    """A shell has its background jobs ignore SIGINT, and who runs the tests may be one."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def needs(tool: str, reason: str, *, there: bool) -> None:
    """Skip the test when `tool` is not there; in CI it must be."""
    if not there:
        message = f"{tool} is not there: {reason}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


def needs_large_buffers() -> None:
    """Skip the test where nobody may have a socket's buffer as large as the guest asks for: that takes root."""
    one, other = socket.socketpair()
    with one, other:
        try:
            one.setsockopt(socket.SOL_SOCKET, 32, 1 << 24)  # SO_SNDBUFFORCE
        except OSError as error:
            pytest.skip(f"a large socket buffer: {error}")


@pytest.fixture
def git() -> Callable[..., str]:
    """Runs git in a folder and returns what it printed."""

    def run(folder: Path, *arguments: str) -> str:
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout

    return run


@pytest.fixture
def repo(tmp_path: Path, git: Callable[..., str]) -> Path:
    """A real repository with one commit on `main`, a branch `other` and a tag `v1`."""
    folder = tmp_path / "origin" / "sample"
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / "README.md").write_text("# sample\n")
    (folder / "app.py").write_text("print('hello')\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=first")
    git(folder, "tag", "v1")
    git(folder, "branch", "other")
    return folder


@pytest.fixture
def gate(repo: Path) -> Gate:
    """Where agents wait until the test opens it, in a folder that all machines may read."""
    return Gate(repo.parent / "gate")


Machines = Callable[..., AbstractAsyncContextManager[LocalFly]]


@pytest.fixture
def machines(repo: Path) -> Machines:
    """Opens a stand-in with the app `my-app`, whose whole traffic is checked against Fly's OpenAPI file."""

    @asynccontextmanager
    async def open_(**options: Any) -> AsyncIterator[LocalFly]:
        settings = {"apps": ["my-app"], "share": [repo.parent], "on_exchange": check_exchange, **options}
        async with LocalFly(**settings) as fly:
            yield fly
            assert fly.alive == 0, "a machine outlived its run"

    return open_


@pytest.fixture
async def local(machines: Machines) -> AsyncIterator[LocalFly]:
    """The stand-in as most tests want it."""
    async with machines() as fly:
        yield fly


@pytest.fixture(scope="session")
def claude_bin() -> Path:
    """Folder of the real Claude Code CLI that `scripts/install-test-tools` has installed."""
    folder = _ROOT / f".cache/claude-code-{TESTED_CLAUDE_CODE}/node_modules/.bin"
    needs(
        "the Claude Code CLI",
        "run scripts/install-test-tools",
        there=(folder / "claude").exists() and shutil.which("node") is not None,
    )
    return folder
