"""The work on a branch, and what does not fit: a batch against a real git server."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TOKEN
from tests.guest.git_server import git_server

from flaude import ConcurrentExecutor, ConfigError, ExecutionRequest, FailureKind, MachineConfig, RunFailedError
from flaude.local import Answer, Fault, LocalFly

GITHUB = "ghp_canary_5150_push"


def config(host: str, **fields: Any) -> MachineConfig:
    """A run whose work is pushed."""
    usual = {
        "prompt": "::write new.txt 1\n::say done",
        "repos": [f"http://{host}/sample/.git"],
        "github_token": GITHUB,
        "github_username": "me",
        "github_host": host,
        "push_branch": "flaude/{tag}",
    }
    return MachineConfig(claude_code_oauth_token=TOKEN, **{**usual, **fields})


async def test_work_is_pushed_and_refusals_cost_nothing_else(
    local: LocalFly, repo: Path, git: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    """Each run pushes to a branch of its tag; one that is refused says why, and brings its patch all the same."""
    caplog.set_level(logging.DEBUG)
    git(repo, "config", "http.receivepack", "true")
    git(repo, "checkout", "--quiet", "--orphan", "flaude/taken")
    git(repo, "commit", "--quiet", "--message=somebody else's")
    git(repo, "checkout", "--quiet", "main")
    with git_server(repo.parent, ("me", GITHUB)) as host:
        requests = [ExecutionRequest(config(host), tag=tag) for tag in ("fix: the login/1", "taken")]
        batch = await ConcurrentExecutor("my-app", fly=local).run_batch(requests)
    pushed, refused = (patch for result in batch.results if result.run_result for patch in result.run_result.patches)
    assert (pushed.pushed_branch, pushed.push_error) == ("flaude/fix-the-login-1", "")
    assert git(repo, "show", "flaude/fix-the-login-1:new.txt") == "1\n"
    assert refused.pushed_branch == "" and "rejected" in refused.push_error
    assert batch.all_succeeded and b"+1" in refused.diff and b"+1" in pushed.diff
    assert git(repo, "log", "-1", "--format=%s", "flaude/taken").strip() == "somebody else's"
    told = repr(batch) + "".join(result.run_result.model_dump_json() for result in batch.results if result.run_result)
    assert GITHUB not in told + caplog.text and TOKEN not in told + caplog.text


async def test_two_runs_that_push_to_one_branch(local: LocalFly) -> None:
    """The second of two requests with the same branch of the same repository is refused before it costs anything."""
    requests = [ExecutionRequest(config("127.0.0.1:9"), tag="same") for _ in range(2)]
    batch = await ConcurrentExecutor("my-app", fly=local, retries=0).run_batch(requests)
    error = batch.results[1].error
    assert isinstance(error, ConfigError) and "flaude/same of http://127.0.0.1:9/sample/.git is used twice" in str(
        error
    )
    assert len(local.created) == 1


async def test_two_repositories_have_a_branch_of_one_name(local: LocalFly) -> None:
    """Only the same branch of the same repository is one that two runs would fight for."""
    local.faults.add(Fault("create_machine", Answer(422, "no")))
    requests = [ExecutionRequest(config(host), tag="same") for host in ("127.0.0.1:9", "127.0.0.2:9")]
    batch = await ConcurrentExecutor("my-app", fly=local).run_batch(requests)
    assert [type(result.error) for result in batch.results] == [RunFailedError] * 2, batch


@pytest.mark.parametrize("tag", ["", "!?"])
async def test_without_a_tag_the_branch_has_the_machines_name(local: LocalFly, tag: str) -> None:
    """Runs whose tags are no part of a branch's name still have a branch each."""
    local.faults.add(Fault("create_machine", Answer(422, "no")))
    batch = await ConcurrentExecutor("my-app", fly=local).run_batch([ExecutionRequest(config("h"), tag=tag)] * 2)
    assert [type(result.error) for result in batch.results] == [RunFailedError] * 2, batch


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"push_branch": "a b"}, "no branch's name"),
        ({"push_branch": "-x"}, "no branch's name"),
        ({"push_branch": "x/{name}"}, r"only \{tag\}"),
        ({"push_branch": "x.lock"}, "no branch's name"),
        ({"push_branch": "x/"}, "no branch's name"),
        ({"push_branch": "x."}, "no branch's name"),
        ({"push_branch": "x", "repos": []}, "there is nothing to push; give repos"),
        ({"push_branch": "x", "repos": ["https://github.com/a/b"], "github_token": ""}, "give github_token"),
        ({"push_branch": "x", "repos": ["git@github.com:a/b"], "github_token": ""}, "give github_token"),
    ],
)
def test_a_branch_that_cannot_be_pushed_to(fields: dict[str, Any], error: str) -> None:
    """A branch that git would not take, or nothing to push with, is said when the config is made."""
    with pytest.raises(ConfigError, match=f"push_branch: .*{error}"):
        config("127.0.0.1:9", **fields)


@pytest.mark.parametrize("repo", ["file:///srv/sample", "http://127.0.0.1:9/sample"])
def test_a_host_that_may_ask_for_no_token(repo: str) -> None:
    """Only where a push without a token is sure to be refused is a token asked for."""
    assert config("127.0.0.1:9", repos=[repo], github_token="").push_branch == "flaude/{tag}"


async def test_a_patch_over_its_limit(local: LocalFly, repo: Path) -> None:
    """What does not fit is left out and named, the run has failed, and its small files, answer and cost are there."""
    prompt = "::write small.txt 1\n::shell head -c 3000000 /dev/urandom > big.bin\n::say done"
    fields = MachineConfig(claude_code_oauth_token=TOKEN, prompt=prompt, repos=[f"file://{repo}"], max_patch_mb=1)
    result = await ConcurrentExecutor("my-app", fly=local).run_one(fields)
    assert result.failure is not None and result.failure.kind is FailureKind.COLLECT and result.error is not None
    assert "big.bin (2.9 MB)" in result.failure.message and not result.failure.retryable
    run = result.run_result
    assert run is not None and (run.exit_code, run.text) == (0, "done") and run.cost_usd
    (patch,) = run.patches
    assert [change.path for change in patch.changes] == ["small.txt"]
    assert [(omitted.path, omitted.size) for omitted in patch.omitted] == [("big.bin", 3_000_000)]
    assert "big.bin" in patch.error and "big.bin" in run.workspace_files
