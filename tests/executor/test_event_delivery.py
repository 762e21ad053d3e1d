"""Whatever the program's `on_event` does, every run comes to its end and every machine is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from tests.conftest import TOKEN

from flaude import ConcurrentExecutor, ExecutionRequest, MachineConfig, Phase, Timeouts
from flaude.events import Event, Finished, OtherOutput, Output, PhaseBegan, Skipped
from flaude.local import LocalFly


def requests(*prompts: str) -> list[ExecutionRequest]:
    """One request a prompt, tagged by its place."""
    return [
        ExecutionRequest(MachineConfig(claude_code_oauth_token=TOKEN, prompt=prompt), tag=str(index))
        for index, prompt in enumerate(prompts)
    ]


async def test_a_handler_that_raises_ends_nothing(local: LocalFly, caplog: pytest.LogCaptureFixture) -> None:
    """What on_event raises is logged; the batch goes on."""

    async def broken(event: Event) -> None:
        raise RuntimeError("watcher is broken")

    batch = await ConcurrentExecutor("my-app", fly=local, on_event=broken).run_batch(requests("::say x"))
    assert batch.all_succeeded
    assert "on_event raised" in caplog.text


@pytest.mark.parametrize("when", [Phase.QUEUED, Phase.AGENT, None], ids=["queued", "agent", "finished"])
async def test_a_handler_that_waits_for_what_was_cancelled(local: LocalFly, when: Phase | None, caplog: Any) -> None:
    """A cancellation that comes out of the handler is its own business: no run is cancelled, none is waited for."""

    async def watch(event: Event) -> None:
        if isinstance(event, Finished) if when is None else isinstance(event, PhaseBegan) and event.phase is when:
            lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            lost.cancel()
            await lost

    batch = await ConcurrentExecutor("my-app", fly=local, on_event=watch).run_batch(requests("::say x", "::say y"))
    assert batch.all_succeeded, batch
    assert "on_event raised" in caplog.text


@pytest.mark.parametrize(
    "ending",
    [
        SystemExit(3),
        KeyboardInterrupt(),
        BaseExceptionGroup("of a task group", [SystemExit(3)]),
        pytest.fail.Exception(),
    ],
    ids=["SystemExit", "KeyboardInterrupt", "a group", "a test's end"],
)
async def test_a_handler_that_ends_the_program(local: LocalFly, ending: BaseException) -> None:
    """`sys.exit()` in a handler ends the program when all agents have stopped and all machines are gone."""

    def watch(event: Event) -> None:
        if isinstance(event, Output) and event.tag == "0":
            raise ending

    executor = ConcurrentExecutor("my-app", fly=local, on_event=watch, timeouts=Timeouts(grace=1))
    with pytest.raises(type(ending)) as caught:
        await executor.run_batch(requests("::say begun\n::silent", "::silent"))
    assert caught.value is ending
    assert len(local.created) == 2 and local.alive == 0


async def test_a_handler_that_ends_the_program_of_a_batch_that_never_began(local: LocalFly) -> None:
    """So does one that hears that nothing can be run."""

    def watch(event: Event) -> None:
        raise SystemExit(event.index)

    with pytest.raises(SystemExit) as caught:
        await ConcurrentExecutor("other-app", fly=local, on_event=watch).run_batch(requests("x", "y"))
    assert caught.value.code == 0, "the first one's"


@pytest.mark.parametrize("how", ["scope", "task"])
async def test_a_handler_that_never_returns(local: LocalFly, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """A batch that is to stop does not wait for a handler that hangs: it is left behind, and hears nothing more."""
    heard: list[Event] = []
    stuck = anyio.Event()

    async def watch(event: Event) -> None:
        heard.append(event)
        if isinstance(event, Output):
            stuck.set()
            await anyio.sleep_forever()

    executor = ConcurrentExecutor("my-app", fly=local, on_event=watch, timeouts=Timeouts(grace=1))
    cancel: list[Callable[[], object]] = []

    async def run() -> None:
        with anyio.CancelScope() as scope:
            cancel.append(scope.cancel)
            await executor.run_batch(requests("::say begun\n::silent"))

    with anyio.fail_after(50):
        task = asyncio.ensure_future(run())
        await stuck.wait()
        cancel[0]() if how == "scope" else task.cancel()
        await asyncio.wait([task])
    assert isinstance(heard[-1], Output) and "hears of nothing more" in caplog.text
    assert sum(isinstance(event, Output) for event in heard) == 1
    assert local.alive == 0 and len(local.created) == 1


async def test_a_handler_that_is_under_way_may_come_to_its_end(local: LocalFly) -> None:
    """One that is waited for when its batch is to stop has a few seconds, and hears of the end."""
    heard: list[Event] = []

    async def watch(event: Event) -> None:
        if isinstance(event, Output) and not any(isinstance(one, Output) for one in heard):
            tasks.cancel_scope.cancel()
            for _ in range(20):
                await checkpoint()
        heard.append(event)

    executor = ConcurrentExecutor("my-app", fly=local, on_event=watch, timeouts=Timeouts(grace=1))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(executor.run_batch, requests("::say begun\n::silent"))
    assert any(isinstance(event, Output) for event in heard) and isinstance(heard[-1], Finished)


async def test_a_slow_handler_hears_every_result(local: LocalFly) -> None:
    """A batch that is to stop does not wait for a backlog of output; what became of each run is heard all the same."""
    heard: list[Event] = []
    printed = anyio.Event()

    async def watch(event: Event) -> None:
        heard.append(event)
        if isinstance(event, Output):
            await anyio.sleep(0.05)  # as a handler does that writes to a database
            printed.set()

    executor = ConcurrentExecutor("my-app", fly=local, on_event=watch, timeouts=Timeouts(grace=1))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(executor.run_batch, requests("::lines 2000 20\n::silent", "::silent"))
        await printed.wait()
        tasks.cancel_scope.cancel()
    assert [type(event) for event in heard].count(Finished) == 2
    assert isinstance(heard[-1], Finished)
    left_out = sum(event.count for event in heard if isinstance(event, Skipped))
    assert left_out + sum(isinstance(event, OtherOutput) for event in heard) >= 2000


async def test_a_plain_handler_that_asks_for_what_was_cancelled(local: LocalFly, caplog: Any) -> None:
    """A cancellation that a plain handler raises is its own: it is logged, and the handler hears the rest."""
    heard: list[Event] = []

    def watch(event: Event) -> None:
        heard.append(event)
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lost.cancel()
        lost.result()

    batch = await ConcurrentExecutor("my-app", fly=local, on_event=watch).run_batch(requests("::say x"))
    assert batch.all_succeeded and isinstance(heard[-1], Finished)
    assert "on_event raised" in caplog.text
