"""A machine that Fly stops: its work comes back as long as it answers, and it is told for what it is."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TOKEN, Machines

from flaude import ConcurrentExecutor, ExecutionRequest, ExecutionResult, FailureKind, MachineConfig, Phase, Retries
from flaude._providers.fly import FlyClient
from flaude.events import Event, Output, PhaseBegan
from flaude.local import Fault, FlyStops, LocalFly, LocalImage, Quirks

KIND = Quirks(exec_while_stopping=True)
WORST = Quirks()
WORKS = "::write new.txt work\n::say begun\n::sleep 300"


async def run(fly: LocalFly, prompt: str, *repos: str, on_event: Any = None, **options: Any) -> ExecutionResult:
    """A batch of one."""
    executor = ConcurrentExecutor("my-app", fly=fly, on_event=on_event, **{"retries": Retries(wait=0.1), **options})
    config = MachineConfig(claude_code_oauth_token=TOKEN, prompt=prompt, repos=list(repos))
    (result,) = (await executor.run_batch([ExecutionRequest(config)])).results
    return result


def shutdown(
    fly: LocalFly, when: Callable[[Event], bool], timeout_s: float | None = None
) -> Callable[[Event], Awaitable[None]]:
    """Stops the machine as Fly does, at the first event that is the one; `timeout_s` until it is killed."""
    asked: list[Event] = []

    async def stop(event: Event) -> None:
        if not asked and when(event):
            asked.append(event)
            async with FlyClient(base_url=fly.base_url, token=fly.token) as client:
                await client.stop_machine("my-app", fly.created[0], signal="SIGTERM", timeout_s=timeout_s)

    return stop


def is_output(event: Event) -> bool:
    """Whether the agent is at work."""
    return isinstance(event, Output)


def kinds(result: ExecutionResult) -> list[FailureKind | None]:
    """Why each attempt failed."""
    return [attempt.failure.kind if attempt.failure else None for attempt in result.attempts]


@pytest.fixture
def mute() -> Iterator[str]:
    """The address of a git server that takes connections, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/your-org/api"


async def test_the_work_of_a_machine_that_is_stopped_comes_back(machines: Machines, repo: Path) -> None:
    """Where Fly lets execs into a machine that is stopping, what its agent has done is collected and pulled."""
    async with machines(quirks=KIND) as fly:
        began = time.monotonic()
        result = await run(fly, WORKS, repo.as_uri(), on_event=shutdown(fly, is_output))
        assert time.monotonic() - began < 60, "it waited for the end of the hold"
    assert result.failure is not None and result.run_result is not None
    assert (result.failure.kind, result.failure.phase) == (FailureKind.MACHINE_STOPPED, Phase.AGENT)
    assert "trial accounts after 5 minutes" in result.failure.message and "was collected" in result.failure.message
    assert result.failure.retryable and len(result.attempts) == 1, "an agent that has started is not retried unasked"
    assert result.run_result.exit_code and result.run_result.destroyed
    assert [change.path for change in result.run_result.patches[0].changes] == ["new.txt"]


@pytest.mark.parametrize("quirks", [KIND, WORST], ids=["kind", "worst"])
async def test_a_simulated_machine_that_is_stopped(machines: Machines, quirks: Quirks) -> None:
    """The same with machines that are no processes."""
    async with machines(quirks=quirks, box="simulated") as fly:
        result = await run(fly, "::say begun\n::sleep 300", on_event=shutdown(fly, is_output, timeout_s=2))
    assert kinds(result) == [FailureKind.MACHINE_STOPPED]
    assert result.run_result is not None and (result.run_result.exit_code == 143) is (quirks is KIND)


async def test_a_stopping_machine_that_takes_no_exec(machines: Machines, repo: Path) -> None:
    """In the worst reading the run ends as what it is, with the lines that had come, when the machine is gone."""
    seen: list[Event] = []
    async with machines(quirks=WORST) as fly:
        stop = shutdown(fly, is_output, timeout_s=3)

        async def watch(event: Event) -> None:
            seen.append(event)
            await stop(event)

        # The pull that waits when it is stopped is answered: an agent that ends at once would be in that answer.
        result = await run(fly, f"::ignore-signals\n{WORKS}", repo.as_uri(), on_event=watch)
    assert kinds(result) == [FailureKind.MACHINE_STOPPED]
    assert result.failure is not None and "asked to stop by Fly" in result.failure.message
    assert any(map(is_output, seen))
    assert result.run_result is not None and result.run_result.destroyed and result.run_result.patches == ()


@pytest.mark.parametrize("quirks", [KIND, WORST], ids=["kind", "worst"])
async def test_a_stop_while_cloning_costs_another_attempt(machines: Machines, mute: str, quirks: Quirks) -> None:
    """Before its agent has started a run is tried again; each stop is told for what it is."""
    async with machines(quirks=quirks) as fly:
        fly.faults.add(Fault("create_machine", FlyStops(after_s=1.5, timeout_s=4)))
        result = await run(fly, "::say never", mute, retries=Retries(more=1, wait=0.1))
        assert len(fly.created) == 2
    assert kinds(result) == [FailureKind.MACHINE_STOPPED] * 2
    assert result.attempts[0].failure is not None and result.attempts[0].failure.phase is not Phase.AGENT
    assert not any(attempt.agent_started for attempt in result.attempts)


async def test_a_stop_before_a_job_came(machines: Machines) -> None:
    """A machine that is stopped as soon as it is up is replaced by another one."""
    async with machines() as fly:
        fly.faults.add(Fault("create_machine", FlyStops(), times=1))
        result = await run(fly, "::say done")
    assert result.success and kinds(result) == [FailureKind.MACHINE_STOPPED, None]


async def test_a_stop_while_collecting_changes_nothing(machines: Machines, repo: Path) -> None:
    """An agent that had ended by itself has succeeded, where execs get in: its work is pulled as any other."""
    async with machines(quirks=KIND) as fly:

        def collects(event: Event) -> bool:
            return isinstance(event, PhaseBegan) and event.phase is Phase.COLLECT

        prompt = "::write new.txt work\n::say done"
        result = await run(fly, prompt, repo.as_uri(), on_event=shutdown(fly, collects))
    assert result.success and result.run_result is not None
    assert [change.path for change in result.run_result.patches[0].changes] == ["new.txt"]


async def test_a_trial_account(machines: Machines, repo: Path) -> None:
    """Every machine is stopped after its time: what takes longer is told as that, and nothing is left."""
    async with machines(quirks=KIND) as fly:
        fly.faults.add(Fault("create_machine", FlyStops(after_s=4)))
        result = await run(fly, WORKS, repo.as_uri(), retries=0)
    assert kinds(result) == [FailureKind.MACHINE_STOPPED]
    assert result.failure is not None and "the machine was stopped" in result.failure.message


async def test_an_image_with_a_user(machines: Machines, tmp_path: Path) -> None:
    """Fly starts a machine's command as the image's USER, and an exec as root: the image is to blame, once."""
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        pytest.skip("takes root, who may become another user")
    host = LocalImage.host()
    python = shutil.which("python3", path=":".join(map(str, host.path)))
    programs = tmp_path / "bin"
    programs.mkdir()
    become = f"exec {setpriv} --reuid 65534 --regid 65534 --clear-groups {python}"
    (programs / "python3").write_text(f'#!/bin/sh\ncase "$*" in *" ctl "*) exec {python} "$@";; esac\n{become} "$@"\n')
    (programs / "python3").chmod(0o755)
    async with machines(images={"user:1": LocalImage(path=(programs, *host.path))}) as fly:
        if fly.box != "bubblewrap":
            pytest.skip("machines here have no / of their own")
        executor = ConcurrentExecutor("my-app", fly=fly, retries=Retries(wait=0.1))
        result = await executor.run_one(MachineConfig(claude_code_oauth_token=TOKEN, prompt="x", image="user:1"))
        assert len(fly.created) == 1
    assert kinds(result) == [FailureKind.IMAGE]
    assert result.failure is not None and "remove USER from the Dockerfile" in result.failure.message
