"""The Docker daemon of the tests: it is shared, and leaves nothing."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from tests.conftest import needs
from tests.support import docker_daemon
from tests.support.docker_daemon import DockerDaemon, available, using_daemon
from tests.support.docker_daemon_process import ready, remove_cgroups


@pytest.fixture(autouse=True)
def _there() -> None:
    reason = available()
    needs("a Docker daemon", reason, there=not reason)


def _sleeper(daemon: DockerDaemon) -> int:
    """Start a container that sleeps, and see its process from here, by its cgroup."""
    made = daemon.ask("POST", "/containers/create", {"Image": daemon.image(), "Cmd": ["sleep", "600"]})["Id"]
    daemon.ask("POST", f"/containers/{made}/start")
    (found,) = [pid for pid in _processes() if made in _text(pid, "cgroup") and "sleep" in _text(pid, "cmdline")]
    return found


def _processes() -> Iterator[int]:
    return (int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit())


def _text(pid: int, file: str) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/{file}").read_text()
    return ""


def _nothing_of(daemon: DockerDaemon) -> bool:
    """Whether no process, mount, cgroup or file of the daemon is left."""
    name = daemon.folder.name
    return not (
        any(name in _text(pid, "cmdline") + _text(pid, "cgroup") for pid in _processes())
        or name in Path("/proc/mounts").read_text()
        or list(Path("/sys/fs/cgroup").glob(f"{name}*"))
        or list(Path("/sys/fs/cgroup").glob(f"*/{name}*"))
        or daemon.folder.exists()
    )


@contextmanager
def _ended_by_the_block(*pids: int) -> Iterator[None]:
    """What happens in the block ends these processes, within 30 seconds."""
    with ExitStack() as opened:
        files = [os.fdopen(os.pidfd_open(pid)) for pid in pids]
        for file in files:
            opened.enter_context(file)
        yield
        for file in files:
            assert select.select([file], [], [], 30)[0]


def _holder(daemon_pid: int) -> int:
    """The process that has the daemon."""
    return int(_text(daemon_pid, "stat").rpartition(")")[2].split()[1])


def test_users_share_one_daemon_and_the_last_one_ends_it(tmp_path: Path) -> None:
    """Whoever comes while it is used gets the same; it lives until the last one leaves, and then nothing is left."""
    networks = Path("/proc/net/dev").read_text().count(":")
    with ExitStack() as use:
        first = use.enter_context(using_daemon(tmp_path))
        with using_daemon(tmp_path) as second:
            assert second == first
        sleeper = _sleeper(first)
        assert first.ask("GET", "/containers/json") and Path("/proc/net/dev").read_text().count(":") == networks
        with _ended_by_the_block(sleeper, _holder(first.pid)):
            use.close()
    assert _nothing_of(first)


def test_a_daemon_after_the_last_user_is_another_one(tmp_path: Path) -> None:
    """Whoever comes after the last one has left gets a new daemon."""
    with using_daemon(tmp_path) as first:
        pass
    with using_daemon(tmp_path) as second:
        assert second.folder != first.folder and second.ask("GET", "/containers/json?all=1") == []


_USER = """
import signal, sys
from pathlib import Path
from tests.support.docker_daemon import using_daemon
with using_daemon(Path(sys.argv[1])) as daemon:
    print(daemon.folder, daemon.pid, flush=True)
    signal.pause()
"""


def test_a_killed_user_leaves_nothing(tmp_path: Path) -> None:
    """A worker that is killed, as by the time limit of a test, has left: the daemon ends all the same."""
    root = Path(docker_daemon.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)])}
    argv = [sys.executable, "-c", _USER, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment, cwd=root) as user:
        assert user.stdout
        folder, pid = user.stdout.readline().split()
        with _ended_by_the_block(_holder(int(pid))):
            user.kill()
    assert _nothing_of(DockerDaemon(Path(folder), int(pid)))


def test_a_daemon_whose_process_is_killed_leaves_no_process(tmp_path: Path) -> None:
    """Containers and the daemon end with the process that started them, even where that one was killed."""
    with using_daemon(tmp_path) as daemon:
        sleeper = _sleeper(daemon)
        with _ended_by_the_block(sleeper, daemon.pid):
            os.kill(_holder(daemon.pid), signal.SIGKILL)
    shutil.rmtree(daemon.folder)
    remove_cgroups(daemon.folder.name)
    assert _nothing_of(daemon)


def test_why_there_is_no_daemon_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where something is missing, the reason names it."""
    monkeypatch.setattr(docker_daemon, "search_path", lambda: "/nowhere")
    assert "dockerd" in available()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "root" in available()


def test_why_a_daemon_does_not_start_is_said(tmp_path: Path) -> None:
    """A daemon that has ended is not waited for, and its log says why."""
    (tmp_path / "log").write_text("failed to start daemon: no such bridge")
    with subprocess.Popen(["true"]) as daemon:
        assert "no such bridge" in ready(tmp_path, daemon)
