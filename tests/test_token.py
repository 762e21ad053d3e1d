"""A Fly token that dies in the middle of the work: a blip at first, and never the end of a healthy run."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from flaude import (
    BatchLeftError,
    BatchResult,
    ConcurrentExecutor,
    ExecutionRequest,
    FailureKind,
    MachineConfig,
    NotAllowedError,
    Timeouts,
    TokenExpiredError,
    ensure_app,
    reap,
)
from flaude.events import AssistantText, Detached, Event, Finished, Notice
from flaude.fly import FlyClient
from flaude.journal import Journal, MemoryJournal, SqliteJournal
from flaude.local import Answer, Fault, Hook, LocalFly, Quirks
from tests.conftest import TOKEN, Machines
from tests.fly.conftest import SLEEPER

IMPATIENT = Timeouts(patience=1.5, orphan=60, retry=1, destroy=2, grace=0.5, request=5)
REFUSED = Answer(401, "verify: invalid token: missing third-party discharge tokens")
LATER = Timeouts(patience=30, orphan=60, retry=1, request=5)


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Claude Code, in the environment, where `resume` finds them again."""
    monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", TOKEN)


@pytest.fixture
async def fly(machines: Machines) -> AsyncIterator[LocalFly]:
    """A stand-in whose agents may write where the test says."""
    async with machines(box="plain", quirks=Quirks(young_app_s=0)) as opened:
        yield opened


@pytest.fixture
async def journal() -> AsyncIterator[Journal]:
    """A journal that is open for the whole test."""
    async with MemoryJournal() as opened:
        yield opened


def requests(*prompts: str) -> list[ExecutionRequest]:
    """Requests for the scripted agent, with their numbers as tags."""
    return [ExecutionRequest(MachineConfig(prompt=prompt), tag=str(number)) for number, prompt in enumerate(prompts)]


def executor(local: LocalFly, **options: Any) -> ConcurrentExecutor:
    """An executor without rate limits, so that only what is tested takes time."""
    return ConcurrentExecutor("my-app", **{"fly": local, "rate_limits": None, **options})


def waits_for(path: Path) -> str:
    """A prompt whose agent goes on until a file is there."""
    return f"::say begun\n::shell until [ -e {path} ]; do sleep 0.05; done\n::say ended"


class Dies:
    """Takes events; when so many agents have begun, the token is refused from then on."""

    def __init__(self, fly: LocalFly, agents: int) -> None:
        self._fly = fly
        self._left = agents
        self.seen: list[Event] = []

    def __call__(self, event: Event) -> None:
        """Take an event."""
        self.seen.append(event)
        if isinstance(event, AssistantText) and event.text == "begun":
            self._left -= 1
            if self._left == 0:
                self._fly.renew_token()

    @property
    def notices(self) -> list[str]:
        """What was said of the token."""
        return [event.text for event in self.seen if isinstance(event, Notice) and "token" in event.text]


async def work_of(fly: LocalFly, machine_id: str) -> str:
    """The state of a machine."""
    async with FlyClient(base_url=fly.base_url, token=fly.token) as client:
        return (await client.get_machine("my-app", machine_id)).state


@pytest.mark.parametrize("seed", range(4))
async def test_one_401_in_fifty_calls(seed: int) -> None:
    """Single refusals, at whatever call they come, change nothing about any run, and nobody is told of them."""
    notices: list[str] = []

    def watch(event: Event) -> None:
        if isinstance(event, Notice):
            notices.append(event.text)

    faults = [Fault("*", REFUSED, chance=0.02)]
    async with LocalFly(apps=["my-app"], box="simulated", faults=faults, seed=seed) as fly:
        batch = await executor(fly, on_event=watch).run_batch(requests(*["::say here"] * 40))
        assert sum(count for (_, status), count in fly.requests.items() if status == 401) > 0
        assert batch.all_succeeded, [result.failure for result in batch.results]
        assert len(fly.created) == 40 and not batch.leftovers and not notices


@pytest.mark.parametrize("action", ["get_app", "create_machine", "wait_machine", "exec_machine", "delete_machine"])
async def test_one_401_at_the_first_of_each_call(fly: LocalFly, action: str) -> None:
    """Also the very first call of its kind may be refused once."""
    fly.faults.add(Fault(action, REFUSED, times=1))
    batch = await executor(fly).run_batch(requests("::say here"))
    assert batch.all_succeeded, batch.results[0].failure
    assert len(fly.created) == 1


async def test_left_and_resumed(fly: LocalFly, journal: Journal, tmp_path: Path) -> None:
    """The token dies for good while four agents work: the batch is left, and resume collects all, paid once."""
    go_on, starts = tmp_path / "go-on", tmp_path / "starts"
    prompts = [f"::shell echo {number} >> {starts}\n{waits_for(go_on)}" for number in range(4)]
    dies = Dies(fly, 4)
    with anyio.fail_after(30):
        with pytest.raises(BatchLeftError, match="flaude resume") as caught:
            await executor(fly, journal=journal, on_event=dies, timeouts=IMPATIENT).run_batch(requests(*prompts))
    left = caught.value
    assert isinstance(left.__cause__, TokenExpiredError) and left.batch.results == []
    assert {one.machine_id for one in left.leftovers} == set(fly.created) and fly.alive == 4
    assert len([event for event in dies.seen if isinstance(event, Detached)]) == 4
    assert len(dies.notices) == 1 and "waiting 1.5 s at most" in dies.notices[0]
    go_on.touch()
    batch = await executor(fly, journal=journal).resume(left.batch.id)
    assert [result.run_result and result.run_result.text for result in batch.results] == ["ended"] * 4
    assert batch.all_succeeded and len(fly.created) == 4 and not batch.leftovers
    assert sorted(starts.read_text().split()) == ["0", "1", "2", "3"]


async def test_without_a_journal(fly: LocalFly) -> None:
    """It ends as `api` after the patience, what had no machine gets none, and the machine is named."""
    dies = Dies(fly, 1)
    with anyio.fail_after(30):
        batch = await executor(fly, on_event=dies, timeouts=IMPATIENT, max_concurrency=1).run_batch(
            requests("::say begun\n::silent", "::say never")
        )
    assert [result.failure and result.failure.kind for result in batch.results] == [FailureKind.API] * 2
    assert "not launched" in str(batch.results[1].failure) and "has worked so far" in batch.stopped_by
    assert [one.machine_id for one in batch.leftovers] == fly.created and len(fly.created) == 1
    assert len(dies.notices) <= 3, dies.notices
    assert (await reap("my-app", fly=fly, all=True, settle=0)).destroyed


def flyctl_writes(folder: Path, token: str) -> None:
    """The file as flyctl writes it."""
    folder.mkdir(exist_ok=True)
    (folder / "config.yml").write_text(f"access_token: {token}\nlast_login: 2026-01-01T00:00:00Z\n")


@pytest.fixture
def flyctl(fly: LocalFly, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of flyctl, with the token that is valid now."""
    folder = tmp_path / "flyctl"
    flyctl_writes(folder, fly.token)
    monkeypatch.setenv("FLY_CONFIG_DIR", str(folder))
    return folder


async def test_flyctl_renews_its_file(fly: LocalFly, flyctl: Path, tmp_path: Path) -> None:
    """A batch with the token of flyctl's file goes on as soon as flyctl has written another one."""
    go_on, old = tmp_path / "go-on", fly.token
    dies = Dies(fly, 3)
    refusals = 0

    def renewed(event: Event) -> None:
        nonlocal refusals
        dies(event)
        if isinstance(event, Notice) and "token" in event.text:
            refusals += 1
            flyctl_writes(flyctl, fly.token)
            go_on.touch()

    batch = await executor(fly, fly=None, base_url=fly.base_url, on_event=renewed, timeouts=LATER).run_batch(
        requests(*[waits_for(go_on)] * 3)
    )
    assert batch.all_succeeded, [result.failure for result in batch.results]
    assert refusals == 1 and "`fly`" in dies.notices[0] and len(fly.created) == 3
    assert fly.token != old
