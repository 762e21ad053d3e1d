"""Failures that the network or a service has caused: worth another attempt, whatever their kind usually means."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from tests.conftest import TOKEN, Machines
from tests.guest.git_server import git_server

from flaude import ConcurrentExecutor, ExecutionRequest, FailureKind, MachineConfig, Phase, Retries
from flaude._model.config import TESTED_CLAUDE_CODE
from flaude._model.run_result import Failure
from flaude.journal import MemoryJournal
from flaude.local import scripted_claude

ROOT = Path(__file__).parents[2]


def test_an_old_record_says_nothing_of_it() -> None:
    """What an older flaude has kept of a failure is read as one that is not transient."""
    failure = Failure.model_validate({"kind": "image", "phase": "boot", "message": "x"})
    assert not failure.transient and not failure.retryable


def test_which_failures_get_another_attempt() -> None:
    """A transient one of any kind, before its agent has started, unless no kind is worth another at all."""
    for kind, transient in itertools.product(FailureKind, (True, False)):
        failure = Failure(kind=kind, phase=Phase.CLONE, message="x", transient=transient)
        assert failure.retryable is (transient or kind.retryable)
        counts = transient or kind in Retries().kinds
        assert Retries().again(failure, attempts=1, agent_started=False) is counts
        assert not Retries().again(failure, attempts=1, agent_started=True)
        assert not Retries().again(failure, attempts=3, agent_started=False)
        assert not Retries(kinds=frozenset()).again(failure, attempts=1, agent_started=False)
        assert not Retries(more=0).again(failure, attempts=1, agent_started=False)


@pytest.mark.timeout(120)
async def test_a_git_server_that_was_away(machines: Machines, repo: Path) -> None:
    """What three tries of one machine could not clone, the next machine clones; the journal keeps why."""
    with git_server(repo.parent, failures=[503] * 3) as host:
        async with machines() as fly, MemoryJournal() as journal:
            executor = ConcurrentExecutor("my-app", fly=fly, retries=Retries(wait=0.1), journal=journal)
            config = MachineConfig(claude_code_oauth_token=TOKEN, prompt="x", repos=[f"http://{host}/sample/.git"])
            batch = await executor.run_batch([ExecutionRequest(config)])
            (result,) = batch.results
            assert (await executor.resume(batch.id)).results == batch.results
    assert result.success
    first, second = result.attempts
    assert first.failure is not None and second.failure is None
    assert (first.failure.kind, first.failure.transient) == (FailureKind.CLONE, True) and first.failure.retryable


async def test_a_repository_that_is_not_there(machines: Machines) -> None:
    """No second machine is paid for it."""
    async with machines() as fly:
        executor = ConcurrentExecutor("my-app", fly=fly, retries=Retries(wait=0.1))
        config = MachineConfig(claude_code_oauth_token=TOKEN, prompt="x", repos=["file:///no/such/repo"])
        result = await executor.run_one(config)
    assert result.failure is not None and not result.failure.retryable and len(result.attempts) == 1


def test_one_version_of_claude_code() -> None:
    """What is installed, what the tests run, what is baked into the image and what the stand-in plays is the same."""
    assert MachineConfig(prompt="x").claude_code_version == TESTED_CLAUDE_CODE
    assert MachineConfig(prompt="x", claude_code_version="latest").claude_code_version == "latest"
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^ARG CLAUDE_CODE_VERSION=(.*)$", dockerfile, re.MULTILINE) == [TESTED_CLAUDE_CODE]
    tools = (ROOT / "scripts/install-test-tools").read_text()
    assert "TESTED_CLAUDE_CODE" in tools and not re.search(r"\d+\.\d+\.\d+", tools)
    assert f'_VERSION = "{TESTED_CLAUDE_CODE}"' in Path(str(scripted_claude.__file__)).read_text()
