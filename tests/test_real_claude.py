"""The real Claude Code CLI in local machines, against a scripted Messages API: no network, no account."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from flaude import ConcurrentExecutor, ExecutionResult, FailureKind, MachineConfig
from flaude.local import LocalImage
from tests.conftest import TOKEN, Machines
from tests.messages_api import MessagesApi, Refuse, Say, Script, Use, messages_api

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def real(machines: Machines, claude_bin: Path, repo: Path) -> Any:
    """Opens a run of one prompt with the real CLI against a script."""

    @asynccontextmanager
    async def open_(script: Script, *programs: Path) -> AsyncIterator[tuple[MessagesApi, Any]]:
        node = Path(shutil.which("node") or "").parent
        image = LocalImage.host(extra=(*programs, claude_bin, claude_bin.parent.parent, node))
        async with messages_api(script) as api, machines(image=image) as fly:

            async def run_one(
                prompt: str, *, token: str = TOKEN, env: dict[str, str] | None = None, **fields: Any
            ) -> ExecutionResult:
                config = MachineConfig(
                    claude_code_oauth_token=token,
                    prompt=prompt,
                    repos=[f"file://{repo}"],
                    env={
                        "ANTHROPIC_BASE_URL": api.base_url,
                        "DISABLE_TELEMETRY": "1",
                        "DISABLE_ERROR_REPORTING": "1",
                        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
                        **(env or {}),
                    },
                    **fields,
                )
                return await ConcurrentExecutor("my-app", fly=fly, wait_timeout=60).run_one(config)

            yield api, run_one

    return open_


async def test_an_edit_comes_back(real: Any) -> None:
    """The real CLI clones, edits a file and answers; the edit, the answer and the cost come back."""
    turns = [Use("echo 'hello-world now' > out.txt"), Say("All done: file written")]
    async with real(lambda _: turns) as (api, run_one):
        result = await run_one("Write out.txt", model="claude-sonnet-5")
    assert result.success, result
    run = result.run_result
    assert run.text == "All done: file written"
    assert (run.num_turns, run.usage.output_tokens) == (2, 40)
    assert run.cost_usd > 0 and run.session_id and run.model_usage
    (patch,) = run.patches
    assert [(change.path, change.status, change.added) for change in patch.changes] == [("out.txt", "A", 1)]
    assert b"+hello-world now" in patch.diff
    assert any("Write out.txt" in prompt for prompt in api.prompts)
    assert set(api.authorizations) == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    ("turn", "fields", "kind"),
    [
        (Refuse(401, "authentication_error"), {}, FailureKind.AUTH),
        (Refuse(429, "rate_limit_error"), {"env": {"CLAUDE_CODE_MAX_RETRIES": "0"}}, FailureKind.OVERLOADED),
        (Use("echo again"), {"max_turns": 1}, FailureKind.MAX_TURNS),
        (Use("echo again"), {"max_budget_usd": 0.0001, "model": "claude-sonnet-5"}, FailureKind.BUDGET),
    ],
    ids=["401", "429", "max-turns", "max-budget"],
)
async def test_its_failures_are_told_apart(real: Any, turn: Any, fields: dict[str, Any], kind: FailureKind) -> None:
    """401, 429, and the limits on turns and budget end a real run with their own kind, and exit code 1."""
    async with real(lambda _: [turn]) as (_, run_one):
        result = await run_one("go on", **fields)
    assert not result.success
    assert result.failure is not None and result.failure.kind is kind
    assert result.run_result.exit_code == 1 and result.run_result.destroyed


async def test_structured_output(real: Any) -> None:
    """With a json_schema, the CLI is asked for structured output and accepts our flag."""
    async with real(lambda _: [Say('{"n": 1}')]) as (api, run_one):
        result = await run_one("count", append_system_prompt="be brief", json_schema={"type": "object"}, max_turns=2)
    assert result.run_result is not None
    assert result.run_result.session_id
    assert api.prompts


async def test_no_credentials(real: Any, claude_bin: Path, repo: Path) -> None:
    """The real CLI without credentials says so and exits 1; that is `auth`."""
    programs = repo.parent / "bin"
    programs.mkdir()
    wrapper = programs / "claude"
    wrapper.write_text(f'#!/bin/sh\nunset CLAUDE_CODE_OAUTH_TOKEN\nexec {claude_bin}/claude "$@"\n')
    wrapper.chmod(0o755)
    async with real(lambda _: [Say("never")], programs) as (api, run_one):
        result = await run_one("hello")
    assert result.failure is not None and result.failure.kind is FailureKind.AUTH
    assert "/login" in result.failure.message
    assert result.run_result.exit_code == 1 and api.prompts == []
