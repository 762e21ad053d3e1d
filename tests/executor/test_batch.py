from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.conftest import TOKEN, Machines
from tests.support.gate import Gate

from flaude import (
    ConcurrentExecutor,
    ExecutionRequest,
    FailureKind,
    MachineConfig,
    MachineExitError,
    RepoSpec,
    RunFailedError,
    Timeouts,
    ensure_app,
    run,
    run_and_destroy,
)
from flaude._model.failures import Phase
from flaude.events import AssistantText, Event, Finished, PhaseBegan
from flaude.local import LocalFly


def config(prompt: str, *repos: Any, **fields: Any) -> MachineConfig:
    """A config with the canary token."""
    return MachineConfig(claude_code_oauth_token=TOKEN, prompt=prompt, repos=list(repos), **fields)


def request(tag: str, prompt: str, *repos: Any, **fields: Any) -> ExecutionRequest:
    """A request with the canary token."""
    return ExecutionRequest(config(prompt, *repos, **fields), tag=tag)


async def test_the_work_comes_back(local: LocalFly, repo: Path, tmp_path: Path, git: Callable[..., str]) -> None:
    """Exit code, answer, cost, usage and a patch that applies come back, and the machine is gone."""
    prompt = "::write notes/new.txt hello\n::append README.md more\n::cost 0.25\n::say All done"
    result = await ConcurrentExecutor("my-app", fly=local).run_one(config(prompt, f"file://{repo}"), tag="a tag")
    assert result.success and result.tag == "a tag" and result.error is None and result.failure is None
    run_result = result.run_result
    assert run_result is not None
    assert (run_result.exit_code, run_result.text, run_result.destroyed) == (0, "All done", True)
    assert run_result.cost_usd == pytest.approx(0.25)
    assert run_result.usage.output_tokens > 0 and run_result.num_turns and run_result.session_id
    assert run_result.region == "iad" and run_result.state == "destroyed"
    (patch,) = run_result.patches
    assert {change.path for change in patch.changes} == {"README.md", "notes/new.txt"}
    assert patch.head == git(repo, "rev-parse", "HEAD").strip()
    fresh = tmp_path / "fresh"
    git(tmp_path, "clone", "--quiet", str(repo), str(fresh))
    (tmp_path / "work.patch").write_bytes(patch.diff)
    git(fresh, "apply", str(tmp_path / "work.patch"))
    assert (fresh / "notes" / "new.txt").read_text().strip() == "hello"
    times = run_result.times
    moments = [moment for _, moment in times]
    known = [moment for moment in moments if moment is not None]
    assert len(known) == len(moments) and known == sorted(known)


@pytest.mark.timeout(120)
async def test_twenty_runs_with_a_cap_of_five(machines: Machines, repo: Path) -> None:
    """Twenty runs under Fly's limits: never more than five machines, results in order, no 429, all gone."""
    async with machines(limits=True) as fly:
        executor = ConcurrentExecutor("my-app", fly=fly, max_concurrency=5)
        requests = [request(str(n), f"::say {n}" if n % 7 else f"::exit {n + 1}", f"file://{repo}") for n in range(20)]
        batch = await executor.run_batch(requests)
        assert [result.tag for result in batch.results] == [str(n) for n in range(20)]
        assert [result.run_result.exit_code for result in batch.results if result.run_result] == [
            0 if n % 7 else n + 1 for n in range(20)
        ]
        assert (batch.total, batch.succeeded, batch.failed) == (20, 17, 3)
        assert not batch.all_succeeded and batch.leftovers == []
        assert 1 < fly.peak_alive <= 5
        assert len(set(fly.created)) == len(fly.created) == 20
        assert [key for key in fly.requests if key[1] == 429] == []
        assert fly.alive == 0


async def test_two_batches_share_the_cap(local: LocalFly, gate: Gate) -> None:
    """The cap is the executor's, also when two batches run on it at the same time."""
    working: list[str] = []
    two_work = anyio.Event()

    def watch(event: Event) -> None:
        if isinstance(event, PhaseBegan) and event.phase is Phase.AGENT:
            working.append(event.tag)
            if len(working) == 2:
                two_work.set()

    executor = ConcurrentExecutor("my-app", fly=local, max_concurrency=2, on_event=watch)
    async with executor, anyio.create_task_group() as tasks:
        for batch in range(2):
            tasks.start_soon(executor.run_batch, [request(f"{batch}-{n}", gate.waits) for n in range(3)])
        await two_work.wait()
        gate.open()
    assert local.peak_alive == 2
    assert len(local.created) == 6


async def test_two_that_begin_together_share_the_connections(local: LocalFly) -> None:
    """Who comes while the connections are being opened waits for that, and does not find them closed."""
    executor = ConcurrentExecutor("my-app", fly=local)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(executor.check)
        tasks.start_soon(executor.check)


async def test_no_limit_starts_all_at_once(local: LocalFly) -> None:
    """Without a cap all machines are alive together."""
    working: set[int] = set()

    def started(event: Event) -> None:
        if isinstance(event, PhaseBegan) and event.phase is Phase.AGENT:
            working.add(event.index)
            if len(working) == 4:
                tasks.cancel_scope.cancel()

    # None of them ends by itself: with one fewer alive at once, the test would run into its time limit.
    executor = ConcurrentExecutor("my-app", fly=local, on_event=started, timeouts=Timeouts(grace=1))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(executor.run_batch, [request(str(n), "::silent") for n in range(4)])
    assert local.peak_alive == 4


async def test_as_completed_yields_as_they_finish(local: LocalFly, gate: Gate) -> None:
    """Results come in the order of their ends, not of the requests, each before the next is there."""
    executor = ConcurrentExecutor("my-app", fly=local)
    tags: list[str] = []
    async for result in executor.as_completed([request("slow", gate.waits), request("quick", "::say x")]):
        tags.append(result.tag)
        gate.open()
    assert tags == ["quick", "slow"]


async def test_leaving_as_completed_early_destroys_the_rest(local: LocalFly) -> None:
    """Leaving the loop stops what still runs; no machine stays."""
    executor = ConcurrentExecutor("my-app", fly=local, timeouts=Timeouts(grace=1))
    results = executor.as_completed([request("quick", "::say x"), request("forever", "::silent")])
    async for result in results:
        assert result.tag == "quick"
        break
    await results.aclose()
    assert local.alive == 0
    assert len(local.created) == 2


async def test_leaving_as_completed_at_a_bad_request(local: LocalFly) -> None:
    """The same when the first results are those of requests that cannot be run."""
    executor = ConcurrentExecutor("my-app", fly=local, timeouts=Timeouts(grace=1))
    twice = [ExecutionRequest(config("::silent"), name="one") for _ in range(5)]
    with anyio.fail_after(30):
        results = executor.as_completed(twice)
        async for result in results:
            assert "used twice" in str(result.error)
            break
        await results.aclose()
    assert local.alive == 0


async def test_cancelling_a_batch_collects_and_destroys(local: LocalFly, repo: Path) -> None:
    """A cancelled batch has its agents stopped, their work collected and their machines destroyed."""
    finished: list[Finished] = []

    def watch(event: Event) -> None:
        if isinstance(event, Finished):
            finished.append(event)
        if isinstance(event, AssistantText) and "half" in event.text:
            tasks.cancel_scope.cancel()

    executor = ConcurrentExecutor("my-app", fly=local, on_event=watch, timeouts=Timeouts(grace=2))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(
            executor.run_batch, [request("cut", "::write half.txt done so far\n::say half\n::silent", f"file://{repo}")]
        )
    (event,) = finished
    assert event.result.failure is not None and event.result.failure.kind is FailureKind.CANCELLED
    assert event.result.run_result is not None and event.result.run_result.destroyed
    assert [change.path for change in event.result.run_result.patches[0].changes] == ["half.txt"]
    assert local.alive == 0


async def test_run_and_destroy_raises_on_a_bad_exit(local: LocalFly) -> None:
    """A bad exit code raises in run_and_destroy, with the output's tail; run returns the result."""
    bad = config("::stderr it broke\n::exit 3")
    result = await run("my-app", bad, fly=local)
    assert result.exit_code == 3 and result.destroyed
    with pytest.raises(MachineExitError, match="it broke") as caught:
        await run_and_destroy("my-app", bad, fly=local)
    assert caught.value.exit_code == 3
    assert (await run_and_destroy("my-app", bad, fly=local, raise_on_failure=False)).exit_code == 3
    assert (await run_and_destroy("my-app", config("::say ok"), fly=local)).text == "ok"


async def test_run_raises_what_prevented_it(local: LocalFly) -> None:
    """With run, it raises when the agent never came to its own end."""
    with pytest.raises(RunFailedError, match="does-not-exist"):
        await run("my-app", config("::say never", "file:///does-not-exist"), fly=local)


async def test_ensure_app_makes_the_app_once(local: LocalFly) -> None:
    """An app that does not exist is made, with a private network of its own; a second call finds it."""
    app = await ensure_app("brand-new", fly=local)
    assert (app.name, app.network) == ("brand-new", "brand-new")
    again = await ensure_app("brand-new", fly=local)
    assert again.name == "brand-new"
    assert sum(count for (action, status), count in local.requests.items() if status == 201) == 1
    assert (await run("brand-new", config("::say in it"), fly=local)).text == "in it"


async def test_several_repositories_side_by_side(local: LocalFly, repo: Path) -> None:
    """Several repositories land side by side in the workspace, which is the working folder; each has its patch."""
    result = await ConcurrentExecutor("my-app", fly=local).run_one(
        config(
            "::write one/a.txt 1\n::write deep/two/b.txt 2",
            RepoSpec(f"file://{repo}", target_dir="one"),
            RepoSpec(f"file://{repo}", "other", target_dir="deep/two"),
        )
    )
    assert result.success, result
    assert result.run_result is not None
    assert [[change.path for change in patch.changes] for patch in result.run_result.patches] == [["a.txt"], ["b.txt"]]


async def test_a_name_is_the_machines_name(local: LocalFly) -> None:
    """ExecutionRequest.name names the machine; used twice in a batch, the second is an error and the first runs."""
    twice = [
        ExecutionRequest(config("::say 1"), name="my-machine", tag="1"),
        ExecutionRequest(config("::say 2"), name="my-machine", tag="2"),
    ]
    batch = await ConcurrentExecutor("my-app", fly=local).run_batch(twice)
    assert [result.success for result in batch.results] == [True, False]
    assert "used twice" in str(batch.results[1].error)
    assert len(local.created) == 1


async def test_an_empty_batch_is_a_success(local: LocalFly) -> None:
    """No requests, no machines, no failures."""
    batch = await ConcurrentExecutor("my-app", fly=local).run_batch([])
    assert batch.all_succeeded and batch.total == 0
    assert local.created == []
