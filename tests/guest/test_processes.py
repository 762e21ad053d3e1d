"""Nothing of the agent's is left once it is to be gone."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.guest.conftest import Guest

from flaude._guest.inside.agent.processes import descendants, end_all, way_up

NOBODY = 65534

# Its first thread ends, another one lives, and starts a process that says its number.
LEADER_GONE = """
import ctypes, os, subprocess, sys, threading
def work():
    while open(f"/proc/{os.getpid()}/stat").read().rpartition(")")[2].split()[0] != "Z": pass
    child = subprocess.Popen(["sleep", "300"], stdout=subprocess.DEVNULL)
    print(os.getpid(), child.pid, flush=True)
    threading.Event().wait()
threading.Thread(target=work).start()
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
"""


def lives(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[bytes]]:
    """A process with a child whose first thread has ended, and which has a child."""
    body = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    with subprocess.Popen([sys.executable, "-c", body, LEADER_GONE], stdout=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_process_whose_first_thread_has_ended_is_ended(parent: subprocess.Popen[bytes]) -> None:
    """It looks like a zombie, and is found and killed with all that is below it."""
    assert parent.stdout is not None
    leader, child = map(int, parent.stdout.readline().split())
    assert not lives(leader) and lives(child)
    assert {leader, child} <= set(descendants(parent.pid))
    asyncio.run(end_all(parent.pid))
    assert not lives(child) and descendants(parent.pid) == []


@pytest.fixture
def foreign() -> Iterator[subprocess.Popen[bytes]]:
    """A process of another user's that forks for ever, each time into a session of its own, away from its parent."""
    if os.geteuid() != 0:
        pytest.skip("takes root")
    body = f"""
import os
os.setresgid(*[{NOBODY}] * 3)
os.setresuid(*[{NOBODY}] * 3)
print(flush=True)
while True:
    if os.fork(): os._exit(0)
    os.setsid()
"""
    with subprocess.Popen([sys.executable, "-c", body], stdout=subprocess.PIPE) as process:
        yield process


def test_whatever_runs_as_the_agents_user_is_ended(foreign: subprocess.Popen[bytes]) -> None:
    """Also what is not below us, and what forks faster than it could be found."""
    assert foreign.stdout is not None
    foreign.stdout.readline()
    bystander = subprocess.Popen(["sleep", "300"])
    try:
        asyncio.run(end_all(foreign.pid, NOBODY))
        assert foreign.stdout.read() == b""  # nobody holds it any more
        assert bystander.poll() is None
    finally:
        bystander.send_signal(signal.SIGKILL)
        bystander.wait()


def test_ways_up() -> None:
    """A process knows who is above it; of one that is gone nobody can tell."""
    with subprocess.Popen(["sh", "-c", "sleep 300 & echo $!; wait"], stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        child = int(shell.stdout.readline())
        assert way_up(child, shell.pid) == [shell.pid]
        assert way_up(child, os.getpid()) == [shell.pid, os.getpid()]
        assert way_up(os.getpid(), shell.pid) == []
        asyncio.run(end_all(shell.pid))
        shell.kill()
    assert way_up(child, os.getpid()) == []


def test_what_a_clone_leaves_behind_is_gone(
    boot: Callable[..., Guest], script: Callable[[str], list[str]], repo: Path, tmp_path: Path
) -> None:
    """A process that a git of the image's has left, with the token in its environment, does not see the agent."""
    tools, left = tmp_path / "tools", tmp_path / "left"
    tools.mkdir()
    own = f'setsid sleep 300 >/dev/null 2>&1 </dev/null & echo $! >>{left}\nexec {shutil.which("git")} "$@"'
    (tools / "git").write_text(f"#!/bin/sh\n{own}\n")
    (tools / "git").chmod(0o755)
    guest = boot(env={"PATH": f"{tools}:{os.environ['PATH']}"})
    body = (
        f"result(str([number for number in open({str(left)!r}).read().split() if os.path.exists('/proc/' + number)]))"
    )
    guest.start(script(body), repos=[{"url": f"file://{repo}", "target_dir": "sample"}])
    result, _ = guest.finish()
    assert left.read_text()
    assert result["result_line"]["result"] == "[]"
