"""One batch: its runs, from the first launch until the last machine is gone."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio

from flaude import claude
from flaude.budget import Budget
from flaude.errors import ConfigError, FlaudeError
from flaude.event_buffer import EventBuffer
from flaude.events import Finished, Queued
from flaude.execution import Execution
from flaude.failure import FailureKind
from flaude.fly import FlyClient
from flaude.launching import Breaker, Launching
from flaude.request import ExecutionRequest
from flaude.results import BatchResult, ExecutionResult
from flaude.retries import Retries
from flaude.run_plan import RunPlan
from flaude.signals import Member, heeding
from flaude.stopping import Stop, Stopping
from flaude.timeouts import Timeouts
from flaude.watching import EventHandler, Watcher

_METER_S = 1.0


@dataclass(frozen=True)
class BatchRules:
    """What all batches of an executor keep to; see `ConcurrentExecutor`."""

    app: str
    run_s: float
    timeouts: Timeouts
    retries: Retries
    max_auth_failures: int
    handle_signals: bool
    on_event: EventHandler | None
    output_dir: Path
    budget_usd: float | None
    max_machine_seconds: float | None


class Batch:
    """The runs of one call.

    Args:
        rules: What to keep to.
        requests: What to run.
        fly: The client.
        launching: Gives places.
        done: Called with every result as soon as it is there.
        owner: The task that waits for all this.
        feed: Takes every event, for who iterates over them.
    """

    def __init__(
        self,
        rules: BatchRules,
        requests: Sequence[ExecutionRequest],
        fly: FlyClient,
        launching: Launching,
        done: Callable[[ExecutionResult], Awaitable[None]],
        owner: asyncio.Task[Any] | None,
        feed: EventBuffer | None = None,
    ) -> None:
        self._rules = rules
        self._requests = requests
        self._fly = fly
        self._launching = launching
        self._done = done
        self._owner = owner
        self._id = secrets.token_hex(5)
        self._stopping = Stopping(self._tell_stop)
        self._breaker = Breaker(self._stopping, rules.max_auth_failures)
        self._watcher = Watcher(rules.on_event, self._stopping, self._end_program, feed)
        self._budget = Budget(rules.budget_usd)
        self._executions: list[Execution] = []
        self._open: dict[int, Execution] = {}
        self._results: dict[int, ExecutionResult] = {}
        self._pushed_to: set[tuple[str, str]] = set()
        self._began = time.monotonic()
        self._launched = False
        self._over = anyio.Event()
        self._ending: BaseException | None = None

    async def run(self) -> BatchResult:
        """Run all, wait for all.

        Raises:
            Interrupted: SIGINT.
            Terminated: SIGTERM.
            BaseException: What `on_event`, or the program in the middle of a run, has raised to end the program.
        """
        member = Member(self._stopping, self._result, self._last_words, self._owner)
        try:
            async with AsyncExitStack() as stack:
                if self._rules.handle_signals:
                    await stack.enter_async_context(heeding(member))
                await self._run_all()
        finally:
            if (ending := member.ending or self._ending) is not None:
                raise ending
        return self._result()

    def _result(self) -> BatchResult:
        results = [self._results[index] for index in sorted(self._results)]
        stopped_by = self._stopping.reason or (self._budget.told if self._budget.refused else "")
        return BatchResult(results=results, seconds=time.monotonic() - self._began, stopped_by=stopped_by)

    async def _run_all(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._launch_all)
            try:
                await self._over.wait()
            except BaseException:
                if self._launched:
                    await self._see_out()
                raise

    async def _launch_all(self) -> None:
        """Every run in a task of its own; not even a cancelled one is left before it has ended."""
        self._launched = True
        names: set[str] = set()
        try:
            async with self._metered(), anyio.create_task_group() as runs:
                for index, request in enumerate(self._requests):
                    try:
                        plan = self._plan(index, request, names)
                    except FlaudeError as error:
                        runs.start_soon(self._finish, index, ExecutionResult(tag=request.tag, error=error))
                    else:
                        runs.start_soon(self._run, plan)
        finally:
            self._over.set()

    @asynccontextmanager
    async def _metered(self) -> AsyncIterator[None]:
        """Stop the agents when all machines together have been there for so long as they may."""
        most = self._rules.max_machine_seconds
        if most is None:
            yield
            return
        async with anyio.create_task_group() as meter:
            meter.start_soon(self._watch_machine_seconds, most)
            try:
                yield
            finally:
                meter.cancel_scope.cancel()

    async def _watch_machine_seconds(self, most: float) -> None:
        while True:
            used = sum(execution.machine_seconds for execution in self._executions)
            if used >= most:
                reason = f"max_machine_seconds: {used:.0f} of {most:g} machine seconds are used"
                self._stopping.ask(Stop.AGENTS, reason, FailureKind.BUDGET)
                return
            alive = sum(execution.has_machine for execution in self._executions)
            await anyio.sleep(min(_METER_S, max(_METER_S / 20, (most - used) / max(1, alive))))

    async def _see_out(self) -> None:
        """Let the runs come to their end; every further cancellation makes it a faster one."""
        self._stopping.request("the batch was cancelled")
        while not self._over.is_set():
            try:
                with anyio.CancelScope(shield=True):
                    await self._over.wait()
            except anyio.get_cancelled_exc_class():
                self._stopping.next("the batch was cancelled twice")

    def _end_program(self, ending: BaseException) -> None:
        """Something in here wants to end the program: it will, when the machines are dealt with."""
        self._ending = self._ending or ending
        self._stopping.ask(Stop.AGENTS, f"{type(ending).__name__} was raised")

    def _plan(self, index: int, request: ExecutionRequest, names: set[str]) -> RunPlan:
        rules = self._rules
        if request.name is not None:
            if request.name in names:
                raise ConfigError(f"name: {request.name!r} is used twice in this batch; machine names are unique")
            names.add(request.name)
        plan = RunPlan(
            app=rules.app,
            config=request.config,
            batch=self._id,
            index=index,
            attempt=1,
            name=request.name or f"flaude-{self._id}-{index}",
            tag=request.tag,
            run_s=rules.run_s,
            timeouts=rules.timeouts,
            credentials=claude.credentials(request.config, os.environ),
            queued=datetime.now(UTC),
            output_dir=rules.output_dir,
        )
        self._check_push(plan)
        return plan

    def _check_push(self, plan: RunPlan) -> None:
        if not plan.push_branch:
            return
        targets = {_bare(repo.url): repo.url for repo in plan.config.repo_specs}
        for bare, url in targets.items():
            if (bare, plan.push_branch) in self._pushed_to:
                raise ConfigError(
                    f"push_branch: {plan.push_branch} of {url} is used twice in this batch; put {{tag}} into it, and "
                    "give every request a tag of its own"
                )
        self._pushed_to |= {(bare, plan.push_branch) for bare in targets}

    async def _run(self, plan: RunPlan) -> None:
        index = plan.index
        # Out of reach of cancellation: what has to end here is told by `stopping`, how fast as well.
        with anyio.CancelScope(shield=True):
            async with self._watcher.following() as emit:
                execution = Execution(
                    self._fly, plan, emit, self._stopping, self._rules.retries, self._launching, self._budget
                )
                self._executions.append(execution)
                self._open[index] = execution
                try:
                    emit(Queued(self._id, index, plan.tag, plan.queued, ""))
                    await execution.execute(self._breaker)
                except (KeyboardInterrupt, SystemExit) as ending:
                    self._end_program(ending)
                finally:
                    result = execution.result
                    self._results[index] = result
                    del self._open[index]
                    machine_id = result.run_result.machine_id if result.run_result else ""
                    emit(Finished(self._id, index, plan.tag, datetime.now(UTC), machine_id, result=result))
                    await self._done(result)

    async def _finish(self, index: int, result: ExecutionResult) -> None:
        self._results[index] = result
        with anyio.CancelScope(shield=True):
            async with self._watcher.following() as emit:
                emit(Finished(self._id, index, result.tag, datetime.now(UTC), "", result=result))
                await self._done(result)

    def _tell_stop(self, stage: Stop, reason: str) -> None:
        if stage < Stop.AGENTS:  # those that have a machine go on
            return
        for execution in self._open.values():
            execution.tell_stop(reason, at_once=stage is Stop.COLLECTING)

    def _last_words(self) -> str:
        leftovers = [leftover for execution in self._executions for leftover in execution.leftovers]
        if not leftovers:
            return ""
        command = f"flaude reap --app {self._rules.app} --batch {self._id} --all"
        return "\n".join(["flaude: these machines may be alive:", *(f"  {one}" for one in leftovers), command])


def _bare(url: str) -> str:
    """The repository's address without what does not matter in it."""
    return url.rstrip("/").removesuffix(".git").rstrip("/")


async def refuse(
    rules: BatchRules,
    requests: Sequence[ExecutionRequest],
    error: FlaudeError,
    done: Callable[[ExecutionResult], Awaitable[None]],
    feed: EventBuffer | None,
    seconds: float,
) -> BatchResult:
    """A batch of which nothing can be run: every request has the same error, and its last event.

    Args:
        rules: What it was to keep to.
        requests: What was to be run.
        error: Why it is not.
        done: Called with every result.
        feed: Takes every event.
        seconds: How long it took to find that out.

    Raises:
        BaseException: What `on_event` has raised to end the program.
    """
    batch, results = secrets.token_hex(5), [ExecutionResult(tag=request.tag, error=error) for request in requests]
    endings: list[BaseException] = []
    watcher = Watcher(rules.on_event, Stopping(), endings.append, feed)
    for index, result in enumerate(results):
        with anyio.CancelScope(shield=True):
            async with watcher.following() as emit:
                emit(Finished(batch, index, result.tag, datetime.now(UTC), "", result=result))
                await done(result)
    if endings:
        raise endings[0]
    return BatchResult(results=results, seconds=seconds, stopped_by=str(error) if requests else "")
