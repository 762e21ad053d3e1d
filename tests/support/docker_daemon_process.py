"""The process that has a Docker daemon of the tests' own for as long as anybody uses it.

The daemon, its containerd and all containers live in namespaces of their own, of processes, mounts and networks: the
computer's networks, mounts and folders are not changed, and the kernel ends all of it together with the daemon's first
process. It dies with this process, however this one ends.

    python -m tests.support.docker_daemon_process serve FOLDER    returns when FOLDER/users can be connected to
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from tests.support.docker_api import ask
from tests.support.docker_files import search_path, shared_libraries
from tests.support.linux import call_libc

_START_S = 60
_END_S = 30
_FIRST_USER_S = 60
_LOG_CHARACTERS = 3000

_CLONE_NEWNS, _CLONE_NEWPID, _CLONE_NEWNET = 0x00020000, 0x20000000, 0x40000000
_MS_REC, _MS_PRIVATE = 0x4000, 1 << 18
_PR_SET_PDEATHSIG = 1
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


def _cgroup_parent(folder: Path) -> str:
    return folder.name


# --- in the namespaces ---


def _enter(folder: Path) -> None:
    """Be the first process of the daemon's namespaces, then the init that starts it and reaps what it leaves."""
    call_libc("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL)
    call_libc("unshare", _CLONE_NEWNS | _CLONE_NEWNET)
    call_libc("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)
    call_libc("mount", b"proc", b"/proc", b"proc", 0, None)
    # What dockerd and containerd put there whatever they are told, and what another daemon has there.
    call_libc("mount", b"tmpfs", b"/run", b"tmpfs", 0, b"mode=755")
    # In memory: it is gone at once, which on some disks takes many seconds for an image, and overlay2 works on it, as
    # it does not in a container whose root is an overlay itself.
    data = folder / "data"
    data.mkdir()
    call_libc("mount", b"tmpfs", bytes(data), b"tmpfs", 0, b"size=8g,mode=710")
    _loopback_up()
    config = folder / "config.json"
    config.write_text(json.dumps({"deprecated-key-path": str(folder / "key.json")}))
    argv = [
        "docker-init",
        "--",
        "dockerd",
        f"--config-file={config}",
        f"--host=unix://{folder}/docker.sock",
        f"--data-root={data}",
        f"--exec-root={folder}/exec",
        f"--pidfile={folder}/docker.pid",
        f"--cgroup-parent=/{_cgroup_parent(folder)}",
        "--exec-opt=native.cgroupdriver=cgroupfs",
        # Nobody else is in these networks: the address is free.
        "--bip=172.17.0.1/16",
        "--iptables=false",
        "--ip6tables=false",
    ]
    path = search_path()
    environment = {"PATH": path, "HOME": str(folder), "LD_LIBRARY_PATH": shared_libraries()}
    program = shutil.which(argv[0], path=path)
    assert program
    os.execve(program, argv, environment)  # noqa: S606


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        (flags,) = struct.unpack_from("H", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


# --- outside ---


def _serve(folder: Path) -> None:
    """Have the daemon while there are users, and tell each of them when it is ready, or why it is not."""
    with socket.socket(socket.AF_UNIX) as listener, ExitStack() as last_to_leave:
        listener.bind(str(folder / "users"))
        listener.listen(64)
        if os.fork():
            os._exit(0)
        os.setsid()
        with (folder / "log").open("wb") as log:
            call_libc("unshare", _CLONE_NEWPID)  # the next child is the first process of a namespace
            argv = [sys.executable, "-m", "tests.support.docker_daemon_process", "enter", str(folder)]
            daemon = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            problem = ready(folder, daemon)
            answer = {"problem": problem, "pid": daemon.pid}
            last_to_leave.callback(_until_unused(listener, json.dumps(answer).encode() + b"\n").close)
        finally:
            listener.close()
            daemon.kill()
            daemon.wait(_END_S)  # the first process of a namespace is gone when all others are
            remove_cgroups(_cgroup_parent(folder))
            shutil.rmtree(folder, ignore_errors=True)


def ready(folder: Path, daemon: subprocess.Popen[bytes]) -> str:
    """Wait until the daemon answers; why it does not, or nothing."""
    until = time.monotonic() + _START_S
    while daemon.poll() is None and time.monotonic() < until:
        with suppress(OSError, RuntimeError):
            ask(folder / "docker.sock", "GET", "/_ping")
            return ""
        time.sleep(0.05)  # there is nothing to wait for: the socket is there before it answers
    return f"dockerd does not answer: {(folder / 'log').read_text(errors='replace')[-_LOG_CHARACTERS:]}"


def _until_unused(listener: socket.socket, answer: bytes) -> socket.socket:
    """Answer users until nobody is left; returns the last one's connection, who waits for the end."""
    users: list[socket.socket] = []
    while True:
        ready, _, _ = select.select([listener, *users], [], [], None if users else _FIRST_USER_S)
        if not ready:
            return listener
        for one in ready:
            if one is listener:
                user, _ = listener.accept()
                with suppress(OSError):
                    user.sendall(answer)
                users.append(user)
                continue
            with suppress(OSError):
                if one.recv(1):
                    continue
            users.remove(one)
            if not users:
                return one
            one.close()


def remove_cgroups(name: str) -> None:
    """Remove what the containers were accounted in; the kernel may still be busy with those that it has ended."""
    root = Path("/sys/fs/cgroup")
    until = time.monotonic() + _END_S
    while True:
        left = [folder for top in (root / name, *root.glob(f"*/{name}")) for folder, _, _ in os.walk(top, False)]
        if not left or time.monotonic() > until:
            return
        for folder in left:
            with suppress(OSError):
                Path(folder).rmdir()
        time.sleep(0.02)  # a cgroup tells nobody when the kernel has done with it


if __name__ == "__main__":
    {"serve": _serve, "enter": _enter}[sys.argv[1]](Path(sys.argv[2]))
