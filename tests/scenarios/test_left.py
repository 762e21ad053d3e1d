"""A batch that is left, held by another, cancelled from elsewhere, or resumed with something missing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import SecretStr
from tests.conftest import TOKEN, Machines
from tests.support.gate import Gate
from tests.support.journal_helpers import OTHER

from flaude import (
    BatchHeldError,
    BatchResult,
    ConcurrentExecutor,
    ConfigError,
    EnvSecret,
    ExecutionRequest,
    FailureKind,
    LeaseLostError,
    MachineConfig,
    NoSuchBatchError,
    reap,
)
from flaude._providers.fly import FlyClient
from flaude.events import AssistantText, Detached, Event, Finished, Resumed
from flaude.journal import Journal, MemoryJournal
from flaude.journal.entries import CANCEL, ControlRequest
from flaude.local import LocalFly

Make = Callable[..., ConcurrentExecutor]


@pytest.fixture
async def journal() -> AsyncIterator[Journal]:
    """A journal that is open for the whole test."""
    async with MemoryJournal() as opened:
        yield opened


@pytest.fixture
async def fly(machines: Machines) -> AsyncIterator[LocalFly]:
    """A stand-in whose agents may write where the test says."""
    async with machines(box="plain") as opened:
        yield opened


@pytest.fixture
def make(fly: LocalFly, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes an executor with the journal, as another controller would."""
    monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", TOKEN)

    def executor(**options: Any) -> ConcurrentExecutor:
        return ConcurrentExecutor("my-app", **{"fly": fly, "journal": journal, "output_dir": tmp_path, **options})

    return executor


def request(prompt: str, tag: str = "", **config: Any) -> ExecutionRequest:
    """A request for the scripted agent."""
    return ExecutionRequest(MachineConfig(prompt=prompt, **config), tag=tag)


def kinds(batch: BatchResult) -> list[FailureKind | None]:
    """Why its runs failed, in their order."""
    return [result.failure.kind if result.failure else None for result in batch.results]


async def test_launched_and_resumed(make: Make, fly: LocalFly, gate: Gate, tmp_path: Path) -> None:
    """The machines work on alone; resume collects what has ended, and launches what there was no place for."""
    starts, seen = tmp_path / "starts", list[Event]()
    prompts = [f"::shell echo {tag} >> {starts}\n{gate.waits}\n::say {tag}" for tag in "abc"]
    first = make(max_concurrency=2, on_event=seen.append)
    launched = await first.launch([request(prompt, tag) for prompt, tag in zip(prompts, "abc", strict=True)])
    assert launched.results == [] and fly.alive == 2
    assert {event.tag for event in seen if isinstance(event, Detached) and event.machine_id} == {"a", "b"}
    assert not (await reap("my-app", fly=fly, settle=0)).destroyed, "what waits to be taken home is nobody's prey"
    seen.clear()
    gate.open()
    batch = await make(on_event=seen.append).resume(launched.id)
    assert [result.run_result and result.run_result.text for result in batch.results] == ["a", "b", "c"]
    assert sorted(starts.read_text().split()) == ["a", "b", "c"]
    assert {event.tag for event in seen if isinstance(event, Resumed)} == {"a", "b"}
    seen.clear()
    again = await make(on_event=seen.append).resume(launched.id)
    assert again.results == batch.results and len(fly.created) == 3
    assert all(isinstance(event, Finished) for event in seen) and len(seen) == 3


async def test_a_machine_that_was_lost_meanwhile(make: Make, fly: LocalFly, tmp_path: Path) -> None:
    """The agent had started: the prompt is not given to another machine, and the others go on."""
    starts = tmp_path / "starts"
    ends = {"a": "::silent", "b": "::say done"}
    requests = [request(f"::shell echo {tag} >> {starts}\n{end}", tag) for tag, end in ends.items()]
    launched = await make().launch(requests)
    async with FlyClient(base_url=fly.base_url, token=fly.token) as client:
        (machine,) = await client.list_machines("my-app", metadata={"flaude_index": "0"})
        await client.delete_machine("my-app", machine.id, force=True)
    batch = await make().resume(launched.id)
    assert kinds(batch) == [FailureKind.MACHINE_LOST, None]
    assert sorted(starts.read_text().split()) == ["a", "b"] and len(fly.created) == 2


async def test_cancelled_without_a_controller(make: Make, fly: LocalFly, repo: Path, journal: Journal) -> None:
    """What was done comes back, and what was never launched never will be."""
    prompt = "::write a.txt work\n::say written\n::silent"
    requests = [request(prompt, tag, repos=[f"file://{repo}"]) for tag in "ab"]
    launched = await make(max_concurrency=1).launch(requests)
    await said(journal, launched.id, "written", by=make)
    batch = await make().cancel(launched.id)
    assert kinds(batch) == [FailureKind.CANCELLED] * 2 and len(fly.created) == 1
    run = batch.results[0].run_result
    assert run is not None and [change.path for change in run.patches[0].changes] == ["a.txt"]
    resumed = await make().resume(launched.id)
    assert kinds(resumed) == kinds(batch) and len(fly.created) == 1
    assert (await journal.batch(launched.id)).counts.open == 0


async def said(journal: Journal, batch: str, text: str, *, by: Make) -> None:
    """Follow a batch that nobody holds until its agent has said this, and leave it again."""
    if any(event.data.get("text") == text for event in await journal.events(batch)):
        return  # said while the first controller was still there
    heard = anyio.Event()

    def hear(event: Event) -> None:
        if isinstance(event, AssistantText) and event.text == text:
            heard.set()

    async with anyio.create_task_group() as tasks:

        async def follow() -> None:
            with pytest.raises(LeaseLostError):
                await by(on_event=hear, max_concurrency=1).resume(batch)

        tasks.start_soon(follow)
        await heard.wait()
        await journal.hold(batch, OTHER, 60, is_dead=lambda _: True)
    await journal.release(batch, OTHER.owner)


async def test_two_controllers_do_not_share_a_batch(make: Make, fly: LocalFly, journal: Journal) -> None:
    """The second one is refused while the first lives; who loses its lease leaves the machines as they are."""
    begun = anyio.Event()
    batches: list[str] = []

    def see(event: Event) -> None:
        if isinstance(event, AssistantText):
            batches.append(event.batch)
            begun.set()

    async with anyio.create_task_group() as tasks:

        async def first() -> None:
            with pytest.raises(LeaseLostError):
                await make(on_event=see).run_batch([request("::say begun\n::silent")])

        tasks.start_soon(first)
        await begun.wait()
        with pytest.raises(BatchHeldError):
            await make().resume(batches[0])
        await journal.hold(batches[0], OTHER, 60, is_dead=lambda _: True)
    assert fly.alive == 1
    await journal.release(batches[0], OTHER.owner)
    batch = await make().cancel(batches[0])
    assert kinds(batch) == [FailureKind.CANCELLED]


async def test_cancelled_from_elsewhere(make: Make, fly: LocalFly, journal: Journal) -> None:
    """A wish in the journal stops one run, or one that waits, or all; the controller that is there sees to it."""
    begun = anyio.Event()
    ids: list[str] = []

    async def see(event: Event) -> None:
        ids.append(event.batch)
        if isinstance(event, AssistantText):
            begun.set()

    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            executor = make(on_event=see, max_concurrency=1)
            prompts = ["::say begun\n::silent", "::say no", "::say yes"]
            batch = await executor.run_batch([request(prompt, tag) for prompt, tag in zip(prompts, "abc", strict=True)])
            assert kinds(batch) == [FailureKind.CANCELLED, FailureKind.CANCELLED, None]
            assert [len(result.attempts) for result in batch.results] == [1, 0, 1]

        tasks.start_soon(run)
        await begun.wait()
        await journal.ask(ids[0], ControlRequest(CANCEL, 1))
        await journal.ask(ids[0], ControlRequest(CANCEL, 0))
    assert [run.success for run in await journal.runs(ids[0])] == [False, False, True]
    assert len(fly.created) == 2


async def test_a_batch_that_was_interrupted(make: Make, fly: LocalFly, journal: Journal) -> None:
    """Stopped runs are over; those that had no machine are still open, and resume launches them."""
    ids: list[str] = []
    with anyio.CancelScope() as scope:

        def see(event: Event) -> None:
            ids.append(event.batch)
            if isinstance(event, AssistantText):
                scope.cancel()

        executor = make(max_concurrency=1, on_event=see)
        await executor.run_batch([request("::say begun\n::silent", "a"), request("::say done", "b")])
    counts = (await journal.batch(ids[0])).counts
    assert (counts.failed, counts.open) == (1, 1)
    batch = await make().resume(ids[0])
    assert kinds(batch) == [FailureKind.CANCELLED, None] and len(fly.created) == 2


async def test_the_budget_remembers(make: Make, fly: LocalFly) -> None:
    """What earlier controllers have spent is spent: resume launches no more than the rest pays for."""
    requests = [request(f"::cost 0.9\n::say {tag}", tag, max_budget_usd=1.0) for tag in "ab"]
    first = await make(budget_usd=1.5).run_batch(requests)
    assert kinds(first) == [None, FailureKind.BUDGET] and len(fly.created) == 1
    same = await make(budget_usd=1.5).resume(first.id)
    assert kinds(same) == [None, FailureKind.BUDGET] and len(fly.created) == 1
    more = await make(budget_usd=2.0).resume(first.id)
    assert kinds(more) == [None, None] and len(fly.created) == 2


async def test_secrets_come_from_the_environment_again(
    make: Make, journal: Journal, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By their names, which the journal has; one that was given as a value has to be given once more."""
    monkeypatch.setenv("MY_TOKEN", f"{TOKEN}-mine")
    named, given = EnvSecret("MY_TOKEN"), SecretStr(f"{TOKEN}-value")
    waits = f"{gate.waits}\n::say done"
    launched = await make().launch([request(waits, claude_code_oauth_token=named, env={"X": EnvSecret("MY_TOKEN")})])
    monkeypatch.delenv("MY_TOKEN")
    with pytest.raises(ConfigError, match=r"^0: .+: environment variable MY_TOKEN: not set"):
        await make().resume(launched.id)
    monkeypatch.setenv("MY_TOKEN", f"{TOKEN}-mine")
    gate.open()
    assert (await make().resume(launched.id)).all_succeeded
    gate.close()
    requests = [request(waits, claude_code_oauth_token=given)]
    launched = await make().launch(requests)
    with pytest.raises(ConfigError, match="claude_code_oauth_token: was given as a value"):
        await make().resume(launched.id)
    with pytest.raises(ConfigError, match=r"requests\[0\]: is not what the batch was begun with"):
        await make().resume(launched.id, [request("::say c", claude_code_oauth_token=given)])
    gate.open()
    assert (await make().resume(launched.id, requests)).all_succeeded
    for batch in await journal.batches():
        told = repr([await journal.runs(batch.id), await journal.events(batch.id), batch])
        assert TOKEN not in told


async def test_nothing_to_resume(make: Make, fly: LocalFly) -> None:
    """Without a journal, or a batch of that id, it says so before anything is made."""
    with pytest.raises(ConfigError, match="journal: there is none to resume a batch from"):
        await make(journal=None).resume("abc")
    with pytest.raises(ConfigError, match="journal: launch needs one"):
        await make(journal=None).launch([request("::say a")])
    with pytest.raises(NoSuchBatchError):
        await make().resume("abc")
    assert not fly.created
