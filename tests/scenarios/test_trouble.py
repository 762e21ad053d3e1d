"""Bad input and small trouble: a clear error or a right result, and never a machine left."""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from tests.conftest import TOKEN, Machines
from tests.support.openapi import check_exchange

from flaude import (
    ConcurrentExecutor,
    ExecutionRequest,
    ExecutionResult,
    FailureKind,
    MachineConfig,
    NoCredentialsError,
    NotAllowedError,
    NotFoundError,
    NoTokenError,
    Phase,
    RepoSpec,
    Timeouts,
)
from flaude._providers.fly import FlyClient
from flaude.events import AssistantText, Event, OtherOutput, Output
from flaude.local import Answer, Fault, LocalFly, LocalImage, Quirks


async def run_one(fly: LocalFly, prompt: str, *repos: Any, on_event: Any = None, **fields: Any) -> ExecutionResult:
    """One run with the canary token and short clocks."""
    timeouts = fields.pop("timeouts", Timeouts(grace=2))
    wait_timeout = fields.pop("wait_timeout", 30.0)
    executor = ConcurrentExecutor("my-app", fly=fly, on_event=on_event, timeouts=timeouts, wait_timeout=wait_timeout)
    config = MachineConfig(claude_code_oauth_token=TOKEN, prompt=prompt, repos=list(repos), **fields)
    return await executor.run_one(config)


def failed(result: ExecutionResult, kind: FailureKind, phase: Phase, *words: str) -> str:
    """The message of a result that failed as it should."""
    assert not result.success
    assert result.failure is not None, result
    assert (result.failure.kind, result.failure.phase) == (kind, phase), result.failure
    for word in words:
        assert word in result.failure.message
    if result.run_result is not None:
        assert result.run_result.destroyed
    return result.failure.message


async def test_no_fly_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a Fly token every result says so, and nothing is sent."""
    monkeypatch.setenv("FLY_FLAPS_BASE_URL", "http://127.0.0.1:1")
    batch = await ConcurrentExecutor("my-app").run_batch(
        [ExecutionRequest(MachineConfig(claude_code_oauth_token=TOKEN, prompt="x"))] * 2
    )
    assert (batch.total, batch.failed) == (2, 2)
    for result in batch.results:
        assert isinstance(result.error, NoTokenError)
        assert result.failure is not None and result.failure.kind is FailureKind.CREATE_REFUSED
        assert "FLY_API_TOKEN" in str(result.error)


async def test_refused_fly_token(local: LocalFly) -> None:
    """A token that Fly refuses is an error that never repeats it."""
    executor = ConcurrentExecutor("my-app", base_url=local.base_url, token="fm2_canary_refused")
    result = await executor.run_one(MachineConfig(claude_code_oauth_token=TOKEN, prompt="x"))
    assert isinstance(result.error, NotAllowedError)
    assert "fm2_canary_refused" not in repr(result)
    assert local.created == []


async def test_unknown_app(local: LocalFly) -> None:
    """An app that does not exist is a clear error that names ensure_app."""
    executor = ConcurrentExecutor("no-such-app", fly=local)
    result = await executor.run_one(MachineConfig(claude_code_oauth_token=TOKEN, prompt="x"))
    assert isinstance(result.error, NotFoundError)
    assert "no-such-app" in str(result.error) and "ensure_app" in str(result.error)


async def test_no_claude_credentials(local: LocalFly, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Claude Code credentials there is a clear error before any machine is made."""
    result = await ConcurrentExecutor("my-app", fly=local).run_one(MachineConfig(prompt="x"))
    assert isinstance(result.error, NoCredentialsError)
    assert local.created == []
    monkeypatch.setenv("ANTHROPIC_API_KEY", TOKEN)
    assert (await ConcurrentExecutor("my-app", fly=local).run_one(MachineConfig(prompt="x"))).success


async def test_unknown_region(local: LocalFly) -> None:
    """A region that Fly does not have is refused with Fly's own words, and the field's name."""
    failed(
        await run_one(local, "x", region="zzz"),
        FailureKind.CREATE_REFUSED,
        Phase.CREATE,
        "region: Fly refuses this region",
    )


async def test_an_account_without_performance_cpus(machines: Machines) -> None:
    """The default size runs; what a trial account may not have is refused once, with what to do."""
    async with machines(quirks=Quirks(performance_cpus=False)) as fly:
        assert (await run_one(fly, "::say done")).success
        result = await run_one(fly, "::say done", vm_size="performance-2x")
        words = ("no performance CPUs", "vm_size shared-cpu-2x", "payment method")
        failed(result, FailureKind.CREATE_REFUSED, Phase.CREATE, *words)
        assert len(result.attempts) == 1 and len(fly.created) == 1


async def test_an_account_that_has_not_paid(local: LocalFly) -> None:
    """It is no fault of the token, and is not tried again."""
    text = "To create more than 1 machine per app please add a payment method. https://fly.io/dashboard/me/billing"
    local.faults.add(Fault("create_machine", Answer(403, text)))
    result = await run_one(local, "::say done")
    told = failed(result, FailureKind.CREATE_REFUSED, Phase.CREATE, "add a payment method at", "dashboard/me/billing")
    assert "token" not in told and len(result.attempts) == 1


async def test_an_image_that_fly_does_not_get(local: LocalFly) -> None:
    """What the registry refuses is a failure of the image."""
    local.faults.add(Fault("create_machine", Answer(422, "failed to get manifest ghcr.io/a/b:1: unauthorized")))
    failed(await run_one(local, "::say done"), FailureKind.IMAGE, Phase.CREATE, "image=", "unauthorized")


async def test_a_larger_disk(machines: Machines) -> None:
    """It is asked for where it was given, and Fly's own size is left alone otherwise."""
    seen: list[Any] = []

    def keep(exchange: Any) -> None:
        check_exchange(exchange)
        if exchange.method == "POST" and exchange.path.endswith("/machines"):
            seen.append(exchange.request["config"].get("rootfs"))

    async with machines(on_exchange=keep) as fly:
        assert (await run_one(fly, "::say done", rootfs_gb=20)).success
        assert (await run_one(fly, "::say done")).success
    assert seen == [{"size_gb": 20}, None]


async def test_name_taken_by_a_machine_that_is_not_ours(local: LocalFly) -> None:
    """A machine of the same name that is not this run's is never adopted."""
    async with FlyClient(base_url=local.base_url, token=local.token) as fly:
        spec = {"image": "x", "init": {"exec": ["python3", "-c", "import signal; signal.pause()"]}}
        other = await fly.create_machine("my-app", name="taken", config={**spec, "restart": {"policy": "no"}})
        result = await ConcurrentExecutor("my-app", fly=local).run_one(
            MachineConfig(claude_code_oauth_token=TOKEN, prompt="x"), name="taken"
        )
        failed(result, FailureKind.CREATE_REFUSED, Phase.CREATE, "taken")
        assert (await fly.get_machine("my-app", other.id)).state != "destroyed"
        await fly.delete_machine("my-app", other.id)
        with suppress(NotFoundError):
            await fly.wait_machine("my-app", other.id, state="destroyed")


async def test_image_without_python3(machines: Machines) -> None:
    """An image without python3 is told as such."""
    async with machines(images={"bare:1": LocalImage(path=())}) as fly:
        failed(await run_one(fly, "x", image="bare:1"), FailureKind.IMAGE, Phase.BOOT, "python3")


async def test_an_image_whose_python_is_set_up_oddly(machines: Machines) -> None:
    """What an image sets for its own Python programs does not reach the guest, which would not start with it."""
    async with machines(image=LocalImage.default(env={"PYTHONHOME": "/nowhere"})) as fly:
        result = await run_one(fly, "::say done")
        assert result.success, result


async def test_a_guest_that_never_answers(machines: Machines, repo: Path) -> None:
    """A machine that starts and whose guest never answers is given up after the boot time, and destroyed."""
    programs = repo.parent / "bin"
    programs.mkdir()
    python = programs / "python3"
    python.write_text('#!/bin/sh\ncase "$*" in *ctl*) exit 75;; esac\nexec sleep 600\n')
    python.chmod(0o755)
    async with machines(images={"mute:1": LocalImage(path=(programs, *LocalImage.host().path))}) as fly:
        result = await run_one(fly, "x", image="mute:1", timeouts=Timeouts(boot=2))
        failed(result, FailureKind.BOOT_TIMEOUT, Phase.BOOT, "does not answer")


@pytest.mark.parametrize(
    ("suffix", "branch", "word"),
    [("-gone", "", "sample-gone"), ("", "no-such-branch", "no-such-branch"), ("", "0" * 40, "0" * 40)],
    ids=["repository", "branch", "commit"],
)
async def test_repository_or_branch_that_does_not_exist(
    local: LocalFly, repo: Path, suffix: str, branch: str, word: str
) -> None:
    """A clone that fails names the repository and why, and no agent is started."""
    bad = RepoSpec(f"file://{repo}{suffix}", branch, "two")
    result = await run_one(local, "::say never", f"file://{repo}", bad)
    failed(result, FailureKind.CLONE, Phase.CLONE, word)
    assert result.run_result is not None
    assert result.run_result.exit_code is None and result.run_result.cost_usd is None


async def test_prompt_of_a_megabyte(local: LocalFly) -> None:
    """A prompt of 1 MB arrives whole."""
    filler = "x" * 1_000_000
    result = await run_one(local, f"{filler}\n::say the end was reached")
    assert result.success, result
    assert result.run_result is not None and result.run_result.text == "the end was reached"


async def test_strange_output(local: LocalFly) -> None:
    """A line of 5 MB, bytes that are not UTF-8 and lines that are not JSON arrive, and the run succeeds."""
    lines: list[Any] = []

    def watch(event: Event) -> None:
        if isinstance(event, OtherOutput):
            lines.append(event.line)

    result = await run_one(local, "::line 5000000\n::raw fffe80\n::raw 0a\n::say still fine", on_event=watch)
    assert result.success, result
    texts = [line for line in lines if isinstance(line, str)]
    assert max(map(len, texts)) >= 5_000_000
    assert any("\ufffd" in text for text in texts)


async def test_silent_agent_hits_the_idle_clock(local: LocalFly) -> None:
    """An agent that prints nothing is stopped by the idle clock."""
    result = await run_one(local, "::silent", timeouts=Timeouts(idle=1, grace=1))
    failed(result, FailureKind.IDLE, Phase.AGENT)


async def test_run_deadline_keeps_the_work(local: LocalFly, repo: Path) -> None:
    """A run that takes longer than wait_timeout is stopped, and what it wrote comes back."""
    result = await run_one(local, "::write part.txt 1\n::silent", f"file://{repo}", wait_timeout=5)
    failed(result, FailureKind.DEADLINE, Phase.AGENT)
    assert result.run_result is not None
    assert [change.path for change in result.run_result.patches[0].changes] == ["part.txt"]


async def test_no_result_line_is_no_success(local: LocalFly) -> None:
    """An agent that exits 0 without a result line has not succeeded: 70 and agent_error."""
    result = await run_one(local, "::exit 0")
    failed(result, FailureKind.AGENT_ERROR, Phase.AGENT, "no result line")
    assert result.run_result is not None and result.run_result.exit_code == 70
    assert result.error is None


async def test_agent_that_leaves_children(local: LocalFly) -> None:
    """Processes that the agent leaves behind do not hold up the run."""
    result = await run_one(local, "::orphan 600\n::say done")
    assert result.success, result


async def test_agent_that_ignores_signals(local: LocalFly) -> None:
    """An agent that ignores SIGINT and SIGTERM is killed after the grace time."""
    result = await run_one(local, "::ignore-signals\n::silent", wait_timeout=3, timeouts=Timeouts(grace=1))
    failed(result, FailureKind.DEADLINE, Phase.AGENT)
    assert result.run_result is not None and result.run_result.exit_code == 137


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        ("::api-error 401 Failed to authenticate", FailureKind.AUTH),
        ("::api-error 529 Overloaded", FailureKind.OVERLOADED),
        ("::max-turns", FailureKind.MAX_TURNS),
        ("::max-budget", FailureKind.BUDGET),
        ("::fail I found no bug", FailureKind.AGENT_ERROR),
    ],
)
async def test_claude_codes_own_failures_are_told_apart(local: LocalFly, prompt: str, kind: FailureKind) -> None:
    """What Claude Code reports as its failure becomes the failure's kind."""
    result = await run_one(local, prompt)
    failed(result, kind, Phase.AGENT)
    assert result.error is None and result.run_result is not None and result.run_result.exit_code == 1


async def test_the_agent_is_no_root(local: LocalFly) -> None:
    """Where the machine is root's, the agent runs as the unprivileged user `claude`, made when missing."""
    if os.geteuid() != 0 or local.box != "bubblewrap":
        pytest.skip("machines here are not root's own")
    result = await run_one(local, "::shell id -un; cat /root/x /run/flaude/ctl.sock; touch /etc/x; sudo -n true; true")
    assert result.run_result is not None
    tail = "\n".join(result.run_result.stdout_tail)
    assert "claude\\n" in tail or '"claude' in tail, tail
    assert "Permission denied" in tail


async def test_machine_that_dies_is_machine_lost(local: LocalFly) -> None:
    """A machine that somebody else destroys ends its run as machine_lost, and the batch goes on."""

    async def kill(event: Event) -> None:
        if isinstance(event, Output):
            async with FlyClient(base_url=local.base_url, token=local.token) as fly:
                await fly.delete_machine("my-app", local.created[0])

    result = await run_one(local, "::say hello\n::silent", on_event=kill)
    failed(result, FailureKind.MACHINE_LOST, Phase.AGENT)


async def test_secrets_stay_in_the_machine(local: LocalFly, repo: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No canary is in machine configs, events, logs or results, though the agent prints it."""
    caplog.set_level(logging.DEBUG)
    seen: list[str] = []
    configs: list[str] = []

    async def watch(event: Event) -> None:
        seen.append(repr(event))
        if local.created and not configs:
            async with FlyClient(base_url=local.base_url, token=local.token) as fly:
                configs.append(repr(await fly.get_machine("my-app", local.created[0])))

    canaries = [TOKEN, "ghp_canary_1234567890", "env-canary-1234567890"]
    result = await run_one(
        local,
        "::shell env; echo $MY_SECRET >&2\n::say bye",
        f"file://{repo}",
        github_token=canaries[1],
        env={"MY_SECRET": SecretStr(canaries[2])},
        on_event=watch,
    )
    assert result.success, result
    assert configs
    for canary in canaries:
        for place in (repr(result), caplog.text, *seen, *configs):
            assert canary not in place
    assert any("[redacted]" in event for event in seen)


async def test_a_secret_may_be_any_word(local: LocalFly, repo: Path, tmp_path: Path) -> None:
    """A secret that is a word of our own messages is taken out of what is told, and costs nothing else."""
    words = ["exit", "file", "path", "running", "artifact", "patch", "type", "result", "state"]
    config = MachineConfig(
        claude_code_oauth_token=TOKEN,
        prompt="::write new.txt 1\n::say done",
        repos=[f"file://{repo}"],
        env={f"WORD_{number}": SecretStr(word) for number, word in enumerate(words)},
        collect=["*.txt"],
    )
    result = await ConcurrentExecutor("my-app", fly=local, output_dir=tmp_path / "out").run_one(config)
    assert result.success, result
    assert result.run_result is not None and len(result.run_result.artifacts) == 1
    assert [change.path for change in result.run_result.patches[0].changes] == ["new.txt"]


async def test_a_secret_that_is_written_in_another_way(local: LocalFly) -> None:
    """However a line spells it (escapes, JSON in JSON), no event, answer or tail has the secret."""
    odd = 'pa"ss\\word-canary-0815'
    spelled = "".join(f"\\u{ord(letter):04x}" for letter in odd)
    text = {"type": "assistant", "message": {"content": [{"type": "text", "text": "@"}]}}
    nested = {"type": "assistant", "message": {"content": [{"type": "text", "text": json.dumps({"a": odd})}]}}
    lines = json.dumps(text).replace("@", spelled) + "\n" + json.dumps(nested) + "\n"
    seen: list[Event] = []
    config = MachineConfig(
        claude_code_oauth_token=TOKEN, prompt=f"::raw {lines.encode().hex()}\n::say done", env={"ODD": SecretStr(odd)}
    )
    result = await ConcurrentExecutor("my-app", fly=local, on_event=seen.append).run_one(config)
    texts = [event.text for event in seen if isinstance(event, AssistantText)]
    assert len(texts) == 3 and all("[redacted]" in said for said in texts[:2])
    assert "0815" not in repr(texts) + repr(result)
