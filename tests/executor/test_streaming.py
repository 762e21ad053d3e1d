"""Watching runs while they go on: the events of a batch, and the lines of a run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from tests.conftest import TOKEN
from tests.support.gate import Gate

from flaude import (
    ConcurrentExecutor,
    ConfigError,
    ExecutionRequest,
    FailureKind,
    MachineConfig,
    MachineExitError,
    NoCredentialsError,
    NotFoundError,
    NoTokenError,
    Retries,
    RunFailedError,
    StreamingRun,
    Timeouts,
    run_stream,
    run_with_logs,
)
from flaude._agent.events import EventContext, output_events
from flaude._executor.background import stream
from flaude.events import (
    AssistantText,
    Booted,
    Cloned,
    Collecting,
    Created,
    Creating,
    Destroyed,
    Destroying,
    Event,
    Finished,
    Notice,
    OtherOutput,
    Queued,
    RateLimited,
    Retried,
    Skipped,
    Started,
    StderrOutput,
    ToolResult,
    ToolUse,
)
from flaude.events.text import lines_of
from flaude.local import Answer, Fault, LocalFly


def config(prompt: str, **fields: Any) -> MachineConfig:
    """A run of the scripted agent."""
    return MachineConfig(claude_code_oauth_token=TOKEN, prompt=prompt, **fields)


def requests(*prompts: str) -> list[ExecutionRequest]:
    """One request a prompt, tagged by its place."""
    return [ExecutionRequest(config(prompt), tag=str(index)) for index, prompt in enumerate(prompts)]


PHASES = [Queued, Creating, Created, Booted, Cloned, Started, Collecting, Destroying, Destroyed, Finished]


async def test_every_event_of_a_run_in_its_order(local: LocalFly) -> None:
    """A run tells each of its phases once, what its agent says, does and is answered, and its result at the end."""
    prompt = "::say hello\n::shell echo hi; false\n::stderr oops\n::raw 6f64640a\n::usage-limit 60"
    events = [event async for event in run_stream("my-app", config(prompt), fly=local)]
    assert [type(event) for event in events if type(event) in PHASES] == PHASES
    by_type = {type(event): event for event in events}
    said, used, answered = by_type[AssistantText], by_type[ToolUse], by_type[ToolResult]
    assert isinstance(said, AssistantText) and "session limit" in said.text
    assert isinstance(used, ToolUse) and (used.name, used.input["command"]) == ("Bash", "echo hi; false")
    assert isinstance(answered, ToolResult) and answered.is_error and answered.tool_use_id == used.id
    assert "hi" in answered.text
    assert [event.text for event in events if isinstance(event, StderrOutput)] == ["oops"]
    lines = [event.line for event in events if isinstance(event, OtherOutput)]
    assert "odd" in lines, "what is no JSON"
    types = [line["type"] for line in lines if isinstance(line, dict)]
    assert types[0] == "system" and types[-1] == "result"
    limited = by_type[RateLimited]
    assert isinstance(limited, RateLimited) and limited.status == "rejected"
    assert limited.resets_at is not None and limited.resets_at > limited.at
    created, finished = by_type[Created], by_type[Finished]
    assert isinstance(created, Created) and created.region == "iad" and created.machine_id
    assert isinstance(finished, Finished) and finished.result.run_result is not None
    assert finished.machine_id == created.machine_id == finished.result.run_result.machine_id
    assert {event.batch for event in events} == {events[0].batch} and events[0].batch
    ats = [event.at for event in events]
    assert ats == sorted(ats)


async def test_a_retry_is_told(machines: Any) -> None:
    """An attempt that failed says why, and that another one follows."""
    fault = Fault("create_machine", Answer(409, "aborted: no capacity"), times=1)
    async with machines(faults=[fault]) as fly:
        executor = ConcurrentExecutor(
            "my-app", fly=fly, retries=Retries(more=1, wait=0.1), timeouts=Timeouts(capacity=0)
        )
        events = [event async for event in executor.stream(requests("::say x"))]
    (retried,) = (event for event in events if isinstance(event, Retried))
    assert (retried.attempt, retried.failure.kind) == (1, FailureKind.CAPACITY)
    kinds = [type(event) for event in events if isinstance(event, (Creating, Finished))]
    assert kinds == [Creating, Creating, Finished]


async def test_events_of_a_batch(local: LocalFly) -> None:
    """Events of all runs come as they happen, each with its place and tag; every run ends with its result."""
    executor = ConcurrentExecutor("my-app", fly=local)
    seen = [event async for event in executor.stream(requests("::say a", "::fail b", "::say c"))]
    results = {event.index: event.result for event in seen if isinstance(event, Finished)}
    assert [results[index].success for index in range(3)] == [True, False, True]
    assert {event.tag for event in seen} == {"0", "1", "2"}
    for index in range(3):
        assert isinstance([event for event in seen if event.index == index][-1], Finished)


async def test_leaving_the_loop_stops_and_destroys(local: LocalFly, repo: Any) -> None:
    """Whoever leaves early leaves nothing behind."""
    executor = ConcurrentExecutor("my-app", fly=local, timeouts=Timeouts(grace=1))
    with anyio.fail_after(40):
        async with aclosing(executor.stream(requests("::say begun\n::silent", "::silent"))) as events:
            async for event in events:
                if isinstance(event, AssistantText):
                    break
    assert local.alive == 0


async def test_a_slow_consumer_loses_no_result(local: LocalFly) -> None:
    """While nobody takes events, runs go on to their end; what did not fit is counted, and the results are there."""
    over = [anyio.Event(), anyio.Event()]

    def watch(event: Event) -> None:
        if isinstance(event, Finished):
            over[event.index].set()

    executor = ConcurrentExecutor("my-app", fly=local, on_event=watch)
    lines = 8000
    prompt = "::raw " + (b"x\n" * lines).hex()
    async with aclosing(executor.stream(requests(prompt, prompt))) as events:
        first = await anext(events)
        with anyio.fail_after(50):
            for one in over:
                await one.wait()
        rest = [event async for event in events]
    assert isinstance(first, Queued)
    skipped = sum(event.count for event in rest if isinstance(event, Skipped))
    printed = sum(isinstance(event, OtherOutput) and event.line == "x" for event in rest)
    assert 0 < printed < 10_000 and skipped + printed >= 2 * lines
    results = [event.result for event in rest if isinstance(event, Finished)]
    assert [result.success for result in results] == [True, True]


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_consumer_that_keeps_up_misses_nothing(local: LocalFly, kind: str) -> None:
    """Many lines at once are waited for until the handler has had them: far more than may wait."""
    seen: list[Event] = []

    async def watch(event: Event) -> None:
        seen.append(event)
        await checkpoint()

    lines = 12_000
    executor = ConcurrentExecutor("my-app", fly=local, on_event=seen.append if kind == "plain" else watch)
    batch = await executor.run_batch(requests(f"::lines {lines} 20"))
    assert batch.all_succeeded
    assert sum(isinstance(event, OtherOutput) and isinstance(event.line, str) for event in seen) == lines
    assert not any(isinstance(event, Skipped) for event in seen)


async def test_without_an_app_every_run_still_has_its_result(local: LocalFly) -> None:
    """What keeps a batch from starting is told as the result of every run."""
    seen = [event async for event in ConcurrentExecutor("other-app", fly=local).stream(requests("::say a", "::say b"))]
    assert [(type(event), event.index) for event in seen] == [(Finished, 0), (Finished, 1)]


async def test_a_request_that_cannot_be_run_has_its_last_event(local: LocalFly) -> None:
    """What is refused before it could have a machine ends as every run does, for all who watch."""
    heard: list[Event] = []
    executor = ConcurrentExecutor("my-app", fly=local, on_event=heard.append)
    seen = [event async for event in executor.stream([ExecutionRequest(MachineConfig(prompt="x"), tag="t")])]
    (finished,) = seen
    assert isinstance(finished, Finished) and isinstance(finished.result.error, NoCredentialsError)
    assert (finished.index, finished.tag, finished.machine_id) == (0, "t", "") and heard == seen


@pytest.mark.parametrize("way", ["stream", "as_completed"])
async def test_what_is_no_request_is_refused(local: LocalFly, way: str) -> None:
    """It is said by its place, before anything runs, to whoever iterates as well."""
    executor = ConcurrentExecutor("my-app", fly=local)
    with anyio.fail_after(20), pytest.raises(ConfigError, match=r"requests\[1\]: give an ExecutionRequest, not str"):
        await anext(getattr(executor, way)([*requests("x"), "y"]))
    assert local.created == []


async def test_without_an_app_every_result_is_yielded(local: LocalFly) -> None:
    """What keeps a batch from starting comes out of `as_completed` too, once a request."""
    executor = ConcurrentExecutor("other-app", fly=local)
    with anyio.fail_after(20):
        results = [result async for result in executor.as_completed(requests("x", "y"))]
    assert [(result.tag, type(result.error)) for result in results] == [("0", NotFoundError), ("1", NotFoundError)]


async def test_lines_of_a_run(local: LocalFly) -> None:
    """Its output is read as lines for people: what the agent says, what it does, what its tools complain about."""
    prompt = "::say one\\ntwo\n::shell ls /nowhere\n::stderr hidden\n::raw 6f64640a\n::say done"
    async with run_with_logs("my-app", config(prompt), fly=local) as run:
        assert run.machine_id == ""
        lines = [line async for line in run if not line.startswith("[flaude]")]
        result = await run.result()
    assert lines[:3] == ["one", "two", "[Bash] ls /nowhere"]
    assert lines[3].startswith("[error] Exit code") and lines[4:] == ["odd", "done"]
    assert result.text == "done" and run.machine_id == result.machine_id


async def test_a_cancellation_while_the_work_cleans_up_is_not_lost() -> None:
    """Who leaves the loop, and is cancelled while the work comes to its end, is cancelled."""
    cleaning = anyio.Event()

    async def items() -> AsyncIterator[int]:
        yield 1

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cleaning.set()
            with anyio.CancelScope(shield=True):
                await anyio.sleep_forever()

    async def consume() -> None:
        numbers = stream(items(), work)
        assert await anext(numbers) == 1
        await checkpoint()
        await numbers.aclose()

    task = asyncio.create_task(consume())
    with anyio.fail_after(5):
        await cleaning.wait()
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()


WHERE = ("b", 0, "t", datetime.now(UTC), "m")


@pytest.mark.parametrize(
    ("info", "event"),
    [
        ({"status": "rejected", "resetsAt": 60}, RateLimited(*WHERE, "rejected", datetime.fromtimestamp(60, UTC))),
        ({"status": "allowed_warning"}, RateLimited(*WHERE, "allowed_warning", None)),
        ({"status": "allowed"}, None),
        ([], None),
    ],
)
def test_only_a_limit_is_told_as_one(info: Any, event: Event | None) -> None:
    """What Claude Code says of limits that are not met is shown as it stands."""
    line = {"type": "rate_limit_event", "rate_limit_info": info}
    assert list(output_events(EventContext(*WHERE), json.dumps(line), lambda value: value)) == [
        event or OtherOutput(*WHERE, line)
    ]


@pytest.mark.parametrize(
    ("event", "lines"),
    [
        (AssistantText(*WHERE, "one\ntwo\n"), ["one", "two"]),
        (ToolUse(*WHERE, "id", "Bash", {"command": "ls\npwd", "description": "x"}), ["[Bash] ls…"]),
        (ToolUse(*WHERE, "id", "Read", {"path": "x" * 200}), [f"[Read] {'x' * 200}"]),
        (ToolUse(*WHERE, "id", "Read", {"path": "x" * 201}), [f"[Read] {'x' * 200}…"]),
        (ToolUse(*WHERE, "id", "List", {}), ["[List] "]),
        (ToolResult(*WHERE, "id", "no such file", is_error=True), ["[error] no such file"]),
        (ToolResult(*WHERE, "id", "fine", is_error=False), []),
        (OtherOutput(*WHERE, "odd"), ["odd"]),
        (OtherOutput(*WHERE, {"type": "system"}), []),
        (StderrOutput(*WHERE, "on stderr"), []),
        (Notice(*WHERE, "waiting"), ["[flaude] waiting"]),
        (RateLimited(*WHERE, "rejected", None), ["[flaude] Claude's API limits the account: rejected"]),
        (Skipped(*WHERE, 3), ["[flaude] 3 events left out: they came faster than they were read"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Event) else None,
)
def test_events_as_lines(event: Event, lines: list[str]) -> None:
    """A line is short and says what matters to people; most events are none."""
    assert lines_of(event, include_stderr=False) == lines


async def test_lines_with_stderr_and_the_older_spelling(local: LocalFly) -> None:
    """`async with await` does as well, and stderr is there for who asks for it."""
    async with await run_with_logs("my-app", config("::stderr seen\n::say x"), include_stderr=True, fly=local) as run:
        lines = [line async for line in run]
    assert "seen" in lines and "x" in lines


async def test_leaving_the_lines_early_keeps_the_work(local: LocalFly, repo: Any) -> None:
    """Who leaves early gets what the agent had done by then, as of a run that was cancelled."""
    prompt = "::write half.txt done so far\n::say half\n::silent"
    with anyio.fail_after(40):
        async with run_with_logs("my-app", config(prompt, repos=[f"file://{repo}"]), fly=local) as run:
            async for line in run:
                if line == "half":
                    break
    assert local.alive == 0
    with pytest.raises(RunFailedError) as caught:
        await run.result()
    assert caught.value.failure.kind is FailureKind.CANCELLED and caught.value.result is not None
    assert [change.path for change in caught.value.result.patches[0].changes] == ["half.txt"]


async def until_one(run: StreamingRun) -> None:
    """Read until the agent has said it."""
    while await anext(run) != "one":
        pass


async def test_lines_and_result_from_different_tasks(local: LocalFly, gate: Gate) -> None:
    """One task prints the lines while another waits for the result; a line that is given up ends nothing."""
    lines: list[str] = []

    async def read(run: StreamingRun) -> None:
        lines.extend([line async for line in run])

    async with run_with_logs("my-app", config(f"::say one\n{gate.waits}\n::say two"), fly=local) as run:
        await until_one(run)
        with pytest.raises(TimeoutError), anyio.fail_after(0.05):
            await anext(run)
        gate.open()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, run)
            assert (await run.result()).text == "two"
    assert [line for line in lines if not line.startswith("[Bash] ")] == ["two"] and local.alive == 0
    with pytest.raises(ConfigError, match="entered once"):
        await run.__aenter__()


async def test_leaving_while_another_task_reads(local: LocalFly) -> None:
    """The block's end is the run's, whoever reads its lines at that moment."""

    async def read(run: StreamingRun) -> None:
        assert [line async for line in run] == []

    async with anyio.create_task_group() as tasks:
        async with run_with_logs("my-app", config("::say one\n::silent"), fly=local) as run:
            await until_one(run)
            tasks.start_soon(read, run)
            await checkpoint()
        assert local.alive == 0


async def test_a_result_that_is_a_failure_raises_unless_asked_not_to(local: LocalFly) -> None:
    """As `run_and_destroy`: an exit code other than 0 is an error, with all that came back."""
    async with run_with_logs("my-app", config("::cost 0.25\n::fail no"), fly=local) as run:
        with pytest.raises(MachineExitError) as caught:
            await run.result()
        assert (await run.result(raise_on_failure=False)).exit_code == 1
    assert caught.value.result is not None and caught.value.result.cost_usd == 0.25
    assert "Claude Code: no" in str(caught.value)


async def test_a_run_that_was_not_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of a run that never began are an error that says what to do; so is a missing token."""
    with pytest.raises(ConfigError, match="async with"):
        await anext(run_with_logs("my-app", config("x")))
    async with run_with_logs("my-app", config("x")) as run:
        with pytest.raises(NoTokenError):
            await run.result()


def test_events_are_frozen_values() -> None:
    """An event can be kept and compared, and nobody changes it."""
    events: list[type[Event]] = [*PHASES, AssistantText, ToolUse, ToolResult, RateLimited, Notice, Skipped, Retried]
    for kind in events:
        assert kind.__dataclass_params__.frozen, kind  # type: ignore[attr-defined]
