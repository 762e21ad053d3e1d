from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from flaude._guest import archive
from flaude._guest.inside.agent import processes
from flaude._guest.inside.packing import pack_request
from flaude._guest.inside.parts import name_of
from flaude._guest.messages import PROTOCOL, SpoolReader, unpack

SECRET = "sk-ant-oat-guest-canary-77"
LONGEST_WORD = 10_000
PYTHON = os.environ.get("FLAUDE_GUEST_PYTHON", sys.executable)
"""What runs the guest: any Python from 3.9 on will do."""


@cache
def _archive() -> bytes:
    return archive.build()


class Guest:
    """A guest as a real process below a folder, and `ctl` as real processes beside it.

    Args:
        root: The folder.
        prefix: The command that runs the guest's.
        env: Its environment, beside PATH and LANG.
    """

    def __init__(self, root: Path, prefix: list[str] | None = None, env: dict[str, str] | None = None) -> None:
        self.root = root
        self.job_id = "job-1"
        self.pyz = root / "opt/flaude/guest.pyz"
        self.pyz.parent.mkdir(parents=True, exist_ok=True)
        self.pyz.write_bytes(_archive())
        self.env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **(env or {})}
        self.process = subprocess.Popen([*(prefix or []), PYTHON, "-I", "-S", str(self.pyz)], env=self.env)

    def ctl_command(self, *words: str) -> list[str]:
        """The command of a `ctl` call."""
        return [PYTHON, "-I", "-S", str(self.pyz), "ctl", *words]

    def ctl(self, verb: str, request: dict[str, Any]) -> subprocess.CompletedProcess[bytes]:
        """One `ctl` call, and those before it that a long request needs."""
        packed = pack_request(request)
        if len(packed) <= LONGEST_WORD:
            return self.said(verb, packed)
        name = name_of(packed)
        for offset in range(0, len(packed), LONGEST_WORD):
            assert self.said("part", f"{name}:{offset}", packed[offset : offset + LONGEST_WORD]).returncode == 0
        return self.said(verb, f"@{name}:{len(packed)}")

    def said(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        """What `ctl` says to these words; it has no standard input."""
        return subprocess.run(
            self.ctl_command(*words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            env=self.env,
            timeout=30,
        )

    def call(self, verb: str, **request: Any) -> dict[str, Any]:
        """One `ctl` call that is answered; waits until the supervisor is there."""
        request.setdefault("job_id", self.job_id)
        while True:
            done = self.ctl(verb, request)
            if done.returncode == 75 and self.process.poll() is None:
                continue  # starting python is wait enough between two tries
            assert done.returncode == 0, done
            answer: dict[str, Any] = json.loads(done.stdout)
            return answer

    def start(self, agent: list[str], **job: Any) -> dict[str, Any]:
        """Hand over a job."""
        whole = {
            "protocol": PROTOCOL,
            "prompt": "do it",
            "argv": agent,
            "secrets": {"CLAUDE_CODE_OAUTH_TOKEN": SECRET},
            "repos": [],
            **job,
        }
        return self.call("start", **whole)

    def pull_until(self, wanted: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """Pull from the start until the records fulfil a condition."""
        records: list[dict[str, Any]] = []
        reader, offset = SpoolReader(), 0
        while not wanted(records):
            reply = self.call("pull", offset=offset, wait_s=10)
            records += [record.value for record in reader.feed(unpack(reply["data"]))]
            offset = reply["next"]
            assert not reply["result"] or wanted(records), f"done, and never seen: {records}"
        return records

    def finish(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Pull everything; the result and all records."""
        records: list[dict[str, Any]] = []
        reader, offset = SpoolReader(), 0
        while True:
            reply = self.call("pull", offset=offset, wait_s=10)
            records += [record.value for record in reader.feed(unpack(reply["data"]))]
            offset = reply["next"]
            if reply["result"]:
                result: dict[str, Any] = reply["result"]
                if "file" in result:
                    result = json.loads(self.fetch("result.json"))
                return result, records

    def fetch(self, name: str, piece: int = 1 << 20) -> bytes:
        """A whole file, in pieces."""
        content = b""
        while True:
            answer = self.call("fetch", name=name, offset=len(content), length=piece)
            content += unpack(answer["data"])
            if len(content) >= answer["size"]:
                return content

    def wait(self, seconds: float = 20) -> int:
        """The supervisor's exit code."""
        return self.process.wait(seconds)

    def end(self) -> None:
        """Kill what is left: a signal that it can hear would have it wait for a controller."""
        if self.process.poll() is None:
            found = processes.descendants(self.process.pid)
            self.process.kill()
            self.process.wait()
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def boot(tmp_path: Path) -> Iterator[Callable[..., Guest]]:
    """Starts guests; all are ended after the test."""
    guests: list[Guest] = []

    def start(**options: Any) -> Guest:
        guests.append(Guest(tmp_path / f"root{len(guests)}", **options))
        return guests[-1]

    yield start
    for guest in guests:
        guest.end()


@pytest.fixture
def guest(boot: Callable[..., Guest]) -> Guest:
    """One guest."""
    return boot()


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], list[str]]:
    """Makes an agent of a Python script, which may use `result(text)` to print Claude Code's last line."""

    def make(body: str) -> list[str]:
        path = tmp_path / "agent.py"
        path.write_text(
            "import json, os, signal, subprocess, sys, time\n"
            "def result(text='ok', **more):\n"
            "    print(json.dumps({'type': 'result', 'is_error': False, 'result': text, **more}), flush=True)\n"
            + textwrap.dedent(body)
        )
        return [sys.executable, str(path)]

    return make


def readable(fd: int, seconds: float) -> bool:
    """Whether a pipe has something, or its end, within the time."""
    return bool(select.select([fd], [], [], seconds)[0])
