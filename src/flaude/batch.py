"""One batch: its runs, from the first launch until the last machine is gone."""

from __future__ import annotations

import logging
import os
import secrets
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from inspect import isawaitable

import anyio

from flaude import claude
from flaude.errors import ConfigError, FlaudeError, Interrupted, Terminated
from flaude.events import Event, Finished, Notice, PhaseBegan
from flaude.execution import Execution
from flaude.fly import FlyClient
from flaude.launching import Breaker, Launching
from flaude.request import ExecutionRequest
from flaude.results import BatchResult, ExecutionResult, Phase
from flaude.retries import Retries
from flaude.run_plan import RunPlan
from flaude.signals import Member, heeding
from flaude.stopping import Stop, Stopping
from flaude.timeouts import Timeouts

_log = logging.getLogger(__name__)

EventHandler = Callable[[Event], Awaitable[None] | None]


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


class Batch:
    """The runs of one call.

    Args:
        rules: What to keep to.
        requests: What to run.
        fly: The client.
        launching: Gives places.
        done: Called with every result as soon as it is there.
    """

    def __init__(
        self,
        rules: BatchRules,
        requests: Sequence[ExecutionRequest],
        fly: FlyClient,
        launching: Launching,
        done: Callable[[ExecutionResult], Awaitable[None]],
    ) -> None:
        self._rules = rules
        self._requests = requests
        self._fly = fly
        self._launching = launching
        self._done = done
        self._id = secrets.token_hex(5)
        self._stopping = Stopping()
        self._breaker = Breaker(self._stopping, rules.max_auth_failures)
        self._executions: list[Execution] = []
        self._results: dict[int, ExecutionResult] = {}
        self._over = anyio.Event()

    async def run(self) -> BatchResult:
        """Run all, wait for all.

        Raises:
            Interrupted: SIGINT.
            Terminated: SIGTERM.
        """
        member = Member(self._stopping, self._last_words)
        try:
            async with AsyncExitStack() as stack:
                if self._rules.handle_signals:
                    await stack.enter_async_context(heeding(member))
                await self._run_all()
        finally:
            if member.received is not None:
                ending = Interrupted if member.received is signal.SIGINT else Terminated
                raise ending(self._result())
        return self._result()

    def _result(self) -> BatchResult:
        return BatchResult(results=[self._results[index] for index in sorted(self._results)])

    async def _run_all(self) -> None:
        names: set[str] = set()
        async with anyio.create_task_group() as tasks:
            for index, request in enumerate(self._requests):
                problem = self._problem(request, names)
                if problem is None:
                    tasks.start_soon(self._run, index, request)
                else:
                    await self._finish(index, ExecutionResult(tag=request.tag, error=problem))
            try:
                if self._requests:
                    await self._over.wait()
            except BaseException:
                await self._see_out()
                raise

    async def _see_out(self) -> None:
        """Let the runs come to their end; every further cancellation makes it a faster one."""
        self._stopping.ask(Stop.AGENTS, "the batch was cancelled")
        while not self._over.is_set():
            try:
                with anyio.CancelScope(shield=True):
                    await self._over.wait()
            except anyio.get_cancelled_exc_class():
                self._stopping.next("the batch was cancelled twice")

    def _problem(self, request: ExecutionRequest, names: set[str]) -> FlaudeError | None:
        if request.name is not None:
            if request.name in names:
                return ConfigError(f"name: {request.name!r} is used twice in this batch; machine names are unique")
            names.add(request.name)
        try:
            claude.credentials(request.config, os.environ)
        except FlaudeError as error:
            return error
        return None

    async def _run(self, index: int, request: ExecutionRequest) -> None:
        rules = self._rules
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
        )
        execution = Execution(self._fly, plan, self._emit, self._stopping, rules.retries)
        self._executions.append(execution)
        # Out of reach of cancellation: what has to end here is told by `stopping`, how fast as well.
        with anyio.CancelScope(shield=True):
            await self._emit(PhaseBegan(self._id, index, request.tag, plan.queued, phase=Phase.QUEUED, machine_id=""))
            try:
                async with self._launching.place(self._stopping) as number:
                    if number is not None:
                        await execution.execute()
                        await self._learn(index, number, execution)
            finally:
                result = execution.result
                await self._emit(Finished(self._id, index, request.tag, datetime.now(UTC), result=result))
                await self._finish(index, result)

    async def _finish(self, index: int, result: ExecutionResult) -> None:
        self._results[index] = result
        if len(self._results) == len(self._requests):
            self._over.set()
        await self._done(result)

    async def _learn(self, index: int, number: int, execution: Execution) -> None:
        """What the end of one run means for those that are still to be launched."""
        result = execution.result
        kind = result.failure.kind if result.failure else None
        self._breaker.ended(kind)
        if kind is None:
            self._launching.succeeded()
        elif told := self._launching.failed(number, kind, lifted_at=execution.lifted_at):
            await self._emit(Notice(self._id, index, result.tag, datetime.now(UTC), text=told))

    async def _emit(self, event: Event) -> None:
        if self._rules.on_event is None:
            return
        try:
            answer = self._rules.on_event(event)
            if isawaitable(answer):
                await answer
        except Exception:  # noqa: BLE001  # whatever a watcher does, the runs go on
            _log.exception("on_event raised for %s", type(event).__name__)

    def _last_words(self) -> str:
        leftovers = [leftover for execution in self._executions for leftover in execution.leftovers]
        if not leftovers:
            return ""
        command = f"flaude reap --app {self._rules.app} --batch {self._id} --all"
        return "\n".join(["flaude: these machines may be alive:", *(f"  {one}" for one in leftovers), command])
