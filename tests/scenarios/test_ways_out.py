"""Whatever ends a run: what the agent had done by then comes back, patch, files, transcript and session.

For a program that is interrupted the same is shown in `test_signals.py`, with a process of its own.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.conftest import TOKEN
from tests.support.clock import Clock

from flaude import ConcurrentExecutor, ExecutionRequest, ExecutionResult, FailureKind, MachineConfig, Timeouts
from flaude.events import AssistantText, Event, Finished
from flaude.local import LocalFly

WORK = """Do your best.
::write half.txt done so far
::write reports/half.html <p>half</p>
::shell git add -A; git -c user.name=a -c user.email=a@example.com commit -qm half; echo more >> half.txt
::say half"""


class Way:
    """One way out.

    Args:
        then: What the agent does when its work is half done.
        kind: What the run fails with; None when it does not.
        cancel: Whether its batch is cancelled when the work is half done.
        forward: Seconds by which the clock of machine seconds is put forward then.
        executor: Further arguments.
    """

    def __init__(
        self, then: str, kind: FailureKind | None, *, cancel: bool = False, forward: float = 0, **executor: Any
    ) -> None:
        self.prompt = f"{WORK}\n{then}"
        self.kind = kind
        self.cancel = cancel
        self.forward = forward
        self.executor = executor


WAYS = {
    "success": Way("::say whole", None),
    "failure": Way("::fail I give up", FailureKind.AGENT_ERROR),
    "no result line": Way("::exit 0", FailureKind.AGENT_ERROR),
    "killed": Way("::shell kill -9 $PPID", FailureKind.AGENT_ERROR),
    "max turns": Way("::max-turns", FailureKind.MAX_TURNS),
    "its own budget": Way("::max-budget", FailureKind.BUDGET),
    "401": Way("::api-error 401 no", FailureKind.AUTH),
    "529": Way("::api-error 529 busy", FailureKind.OVERLOADED),
    "usage limit": Way("::usage-limit 60", FailureKind.USAGE_LIMIT),
    "deadline": Way("::silent", FailureKind.DEADLINE, wait_timeout=5.0),
    "deadline, deaf": Way("::ignore-signals\n::silent", FailureKind.DEADLINE, wait_timeout=5.0),
    "idle": Way("::silent", FailureKind.IDLE, timeouts=Timeouts(idle=4, grace=1)),
    "cancelled": Way("::silent", FailureKind.CANCELLED, cancel=True),
    "the batch's budget": Way("::silent", FailureKind.BUDGET, forward=1000, max_machine_seconds=1000),
}


@pytest.mark.parametrize("name", WAYS)
async def test_what_was_done_by_then_comes_back(
    local: LocalFly, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """On every way out the run's work is collected before its machine goes."""
    way = WAYS[name]
    clock = Clock(monkeypatch)
    finished: list[ExecutionResult] = []

    def watch(event: Event) -> None:
        if isinstance(event, Finished):
            finished.append(event.result)
        if isinstance(event, AssistantText) and event.text == "half":
            clock.put_forward(way.forward)
            if way.cancel:
                tasks.cancel_scope.cancel()

    options = {"timeouts": Timeouts(grace=1), **way.executor}
    executor = ConcurrentExecutor("my-app", fly=local, on_event=watch, output_dir=tmp_path / "out", **options)
    config = MachineConfig(
        claude_code_oauth_token=TOKEN,
        prompt=way.prompt,
        repos=[f"file://{repo}"],
        collect=["reports/*.html"],
        transcript=True,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(executor.run_batch, [ExecutionRequest(config, tag="t")])
    (result,) = finished
    assert (result.failure.kind if result.failure else None) is way.kind, result
    assert result.success is (way.kind is None)
    run = result.run_result
    assert run is not None and run.destroyed
    (patch,) = run.patches
    assert [change.path for change in patch.changes] == ["half.txt", "reports/half.html"] and not patch.error
    assert b"+done so far\n+more\n" in patch.diff
    assert [commit.subject for commit in patch.commits] == ["half"] and b"Subject: [PATCH] half" in patch.mail
    assert [artifact.file.read_text() for artifact in run.artifacts] == ["<p>half</p>\n"]
    assert run.transcript is not None and "done so far" in run.transcript.file.read_text()
    assert re.fullmatch(r"[0-9a-f-]{36}", run.session_id) and run.transcript.path == f"{run.session_id}.jsonl"
    assert "half.txt" in run.workspace_files
    assert run.machine_seconds > 0 and run.times.collect is not None
