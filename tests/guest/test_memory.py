"""Whom the kernel kills for want of memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.guest.conftest import Guest

Script = Callable[[str], list[str]]


def adjustment(pid: int | str) -> int:
    """How the kernel's choice is adjusted for a process: -1000 is never."""
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def test_the_supervisor_is_spared_and_the_agent_is_not(guest: Guest, script: Script) -> None:
    """The kernel never chooses the supervisor; the agent, and what it starts, are as any other process."""
    try:
        Path("/proc/self/oom_score_adj").write_text("-1")
    except OSError as error:
        pytest.skip(f"lowering oom_score_adj: {error}")
    Path("/proc/self/oom_score_adj").write_text("0")
    body = """
        child = "cat /proc/self/oom_score_adj"
        print(open("/proc/self/oom_score_adj").read() + subprocess.check_output(child.split(), text=True), flush=True)
        result()
    """
    guest.start(script(body))
    _, records = guest.finish()
    assert adjustment(guest.process.pid) == -1000
    assert [record["line"] for record in records if record["type"] == "stdout"][:2] == ["0", "0"]
