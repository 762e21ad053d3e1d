"""One batch: its runs, from the first launch until the last machine is gone."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import anyio
from anyio.lowlevel import cancel_shielded_checkpoint

from flaude._agent.command import credentials
from flaude._executor.admission import AdmissionControl, CircuitBreaker
from flaude._executor.attempts import RequestRunner
from flaude._executor.budget import Budget
from flaude._executor.event_delivery import EventDispatcher, EventHandler
from flaude._executor.signals import Member, heeding
from flaude._guest.program import prepare
from flaude._model.errors import (
    BatchLeftError,
    ConfigError,
    FlaudeError,
    LeaseLostError,
    NoCredentialsError,
    TokenExpiredError,
)
from flaude._model.failures import FailureKind
from flaude._model.request import ExecutionRequest
from flaude._model.results import BatchResult, ExecutionResult, Leftover
from flaude._model.settings import ExecutorSettings
from flaude._providers.fly.app_pool import HeldApps
from flaude._providers.fly.state_watcher import StatesOfApps
from flaude._recovery.journal_writer import JournalWriter
from flaude._recovery.resume import PriorProgress
from flaude._run.plan import AttemptPlan, batch_metadata
from flaude._run.recorder import NullRecorder, RunRecorder
from flaude._run.refused_token import RefusedToken, batch_left
from flaude._run.shutdown import Shutdown, Stage
from flaude.events import Detached, Finished, Queued
from flaude.events.buffer import EventBuffer
from flaude.events.emitter import EventSink
from flaude.journal.entries import CANCEL, ControlRequest

if TYPE_CHECKING:
    from flaude._providers.fly import FlyClient

_METER_S = 1.0
_BEGUN_TOGETHER = 8
_AT_REST_S = 0.25
_AT_REST = 3

CANCELLED = "cancelled by `flaude cancel`"


@dataclass(frozen=True)
class BatchOptions:
    """What all batches of an executor keep to; see `ConcurrentExecutor`."""

    settings: ExecutorSettings
    handle_signals: bool
    on_event: EventHandler | None


class BatchRunner:
    """The runs of one call.

    Args:
        options: What to keep to.
        requests: What to run, by each one's index.
        fly: The client.
        admission: Grants slots.
        done: Called with every result as soon as it is there.
        owner: The task that waits for all this.
        feed: Takes every event, for who iterates over them.
        prior: What is known of it.
        writer: Its journal.
        apps: The apps of its machines; the executor's first one alone when left out.
        detach: Whether to leave when every agent works that there is a place for.
    """

    def __init__(
        self,
        options: BatchOptions,
        requests: Mapping[int, ExecutionRequest],
        fly: FlyClient,
        admission: AdmissionControl,
        done: Callable[[ExecutionResult], Awaitable[None]],
        owner: asyncio.Task[Any] | None,
        feed: EventBuffer | None = None,
        prior: PriorProgress | None = None,
        writer: JournalWriter | None = None,
        apps: HeldApps | None = None,
        *,
        detach: bool = False,
    ) -> None:
        self._prior = prior or PriorProgress()
        self._detach = detach
        self._options = options
        self._requests = requests
        self._fly = fly
        self._admission = admission
        self._done = done
        self._owner = owner
        self._id = self._prior.id
        self._writer = writer
        self._apps = apps
        self._shards = apps.shards if apps else options.settings.apps
        self._shards_left: tuple[str, ...] = ()
        self._shutdown = Shutdown()
        self._token = RefusedToken(self._shutdown, recorded=writer is not None)
        self._breaker = CircuitBreaker(self._shutdown, options.settings.max_auth_failures)
        self._watcher = EventDispatcher(options.on_event, self._shutdown, self._end_program, feed)
        self._budget = Budget(options.settings.budget_usd, self._prior.spent_usd)
        self._states = StatesOfApps(fly, batch_metadata(self._id))
        self._executions: dict[int, RequestRunner] = {}
        self._results = dict(self._prior.finished)
        self._pushed_to: set[tuple[str, str]] = set()
        self._began = time.monotonic()
        self._asked_at = anyio.current_time()
        self._launched = False
        self._over = anyio.Event()
        self._ending: BaseException | None = None
        self._lost: LeaseLostError | None = None

    async def run(self) -> BatchResult:
        """Run all, wait for all.

        Raises:
            Interrupted: SIGINT.
            Terminated: SIGTERM.
            LeaseLostError: Another process has taken the batch over.
            BatchLeftError: Fly refuses the token for longer than anybody's patience.
            BaseException: What `on_event`, or the program in the middle of a run, has raised to end the program.
        """
        member = Member(self._shutdown, self._result, self._last_words, self._owner)
        try:
            async with AsyncExitStack() as stack:
                if self._options.handle_signals:
                    await stack.enter_async_context(heeding(member))
                await self._run_all()
        finally:
            if (ending := member.ending or self._ending) is not None:
                if self._token.left is not None:  # whoever ends the program is to hear of the machines all the same
                    raise ending from self._left(self._token.left)
                raise ending
        if self._lost is not None:
            raise self._lost
        if self._token.left is not None:
            raise self._left(self._token.left)
        return self._result()

    def _left(self, cause: TokenExpiredError) -> BatchLeftError:
        machines = self._leftovers
        told = batch_left(self._id, cause, len(machines), self._options.settings.timeouts)
        error = BatchLeftError(told, self._result(), machines)
        error.__cause__ = cause
        return error

    @property
    def _leftovers(self) -> list[Leftover]:
        """Machines that may be alive if everything ended now."""
        return [leftover for execution in self._executions.values() for leftover in execution.leftovers]

    def _result(self) -> BatchResult:
        results = [self._results[index] for index in sorted(self._results)]
        return BatchResult(
            results=results,
            seconds=time.monotonic() - self._began,
            stopped_by=self._stopped_by,
            id=self._id,
            shards_left=self._shards_left,
        )

    @property
    def _stopped_by(self) -> str:
        if self._shutdown.stage is Stage.DETACH:
            return ""
        return self._shutdown.reason or (self._budget.told if self._budget.refused else "")

    def _note_end(self, writer: JournalWriter) -> None:
        if self._shutdown.stage < Stage.DETACH and not self._prior.partly:
            writer.ended(self._stopped_by)

    def _lose(self, error: LeaseLostError) -> None:
        self._lost = error
        self._shutdown.ask(Stage.DETACH, str(error))

    def cancel(self) -> None:
        """Stop the agents, collect what they have done, and launch nothing, now or later."""
        self._shutdown.ask(Stage.AGENTS, CANCELLED, final=True)

    def _wish(self, wish: ControlRequest) -> None:
        """Somebody else wants something of this batch."""
        if wish.verb != CANCEL:
            return
        one = None if wish.index is None else self._executions.get(wish.index)
        if wish.index is None:
            self.cancel()
        elif one is not None:
            one.shutdown.ask(Stage.AGENTS, CANCELLED, final=True)

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
            with anyio.CancelScope(shield=True):
                await prepare()
            async with AsyncExitStack() as stack:
                if self._writer:
                    await stack.enter_async_context(self._writer.going_on(self._lose, self._wish))
                    stack.callback(self._note_end, self._writer)
                stack.push_async_callback(self._let_go_of_apps)
                await stack.enter_async_context(self._watched())
                runs = await stack.enter_async_context(anyio.create_task_group())
                for index, result in self._prior.finished.items():
                    runs.start_soon(self._finish, index, result)
                # Those that have a machine come first.
                in_order = sorted(self._requests, key=lambda index: (index not in self._prior.left, index))
                for number, index in enumerate(in_order):
                    request = self._requests[index]
                    try:
                        plan = self._plan(index, request, names)
                    except FlaudeError as error:
                        runs.start_soon(self._refuse, index, ExecutionResult(tag=request.tag, error=error))
                    else:
                        runs.start_soon(self._run, plan)
                    if number % _BEGUN_TOGETHER == 0:
                        # The first machines are under way while the last requests are looked at.
                        await cancel_shielded_checkpoint()
        finally:
            self._over.set()

    async def _let_go_of_apps(self) -> None:
        """All runs are over, or left: an app that nobody is to come back to may go."""
        if self._apps is None:
            return
        all_over = len(self._results) == len(self._prior.finished) + len(self._requests)
        remove = all_over and self._lost is None and not self._prior.partly
        busy = {leftover.app for leftover in self._result().leftovers}
        attempts = (attempt for result in self._results.values() for attempt in result.attempts)
        doubted = {one.app for one in attempts if one.failure and one.failure.kind is FailureKind.CREATE_REFUSED}
        self._shards_left = await self._apps.let_go(remove=remove, busy=busy, doubted=doubted, batch=self._id)

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[None]:
        """Stop the agents when all machines have been there for so long as they may; leave when all work."""
        most = self._options.settings.max_machine_seconds
        if most is None and not self._detach:
            yield
            return
        async with anyio.create_task_group() as watch:
            if most is not None:
                watch.start_soon(self._watch_machine_seconds, most)
            if self._detach:
                watch.start_soon(self._leave_when_all_work)
            try:
                yield
            finally:
                watch.cancel_scope.cancel()

    async def _leave_when_all_work(self) -> None:
        """A run that has just got its place, or its machine, is about to change: they must be at rest for a while."""
        at_rest = 0
        while at_rest < _AT_REST:
            await anyio.sleep(_AT_REST_S)
            waiting = any(one.waits_for_place for one in self._executions.values())
            all_on = self._requests.keys() <= self._executions.keys() | self._results.keys()
            can_be_left = all_on and all(one.can_be_left for one in self._executions.values())
            at_rest = at_rest + 1 if can_be_left and (not waiting or self._admission.is_full) else 0
        self._shutdown.ask(Stage.DETACH, "the machines work on")

    async def _watch_machine_seconds(self, most: float) -> None:
        while True:
            used = self._prior.machine_seconds
            used += sum(execution.machine_seconds for execution in self._executions.values())
            if used >= most:
                reason = f"max_machine_seconds: {used:.0f} of {most:g} machine seconds are used"
                self._shutdown.ask(Stage.AGENTS, reason, FailureKind.BUDGET)
                return
            alive = sum(execution.has_machine for execution in self._executions.values())
            await anyio.sleep(min(_METER_S, max(_METER_S / 20, (most - used) / max(1, alive))))

    async def _see_out(self) -> None:
        """Let the runs come to their end; every further cancellation makes it a faster one."""
        self._shutdown.request("the batch was cancelled")
        while not self._over.is_set():
            try:
                with anyio.CancelScope(shield=True):
                    await self._over.wait()
            except anyio.get_cancelled_exc_class():
                self._shutdown.next("the batch was cancelled twice")

    def _end_program(self, ending: BaseException) -> None:
        """Something in here wants to end the program: it will, when the machines are dealt with."""
        self._ending = self._ending or ending
        self._shutdown.ask(Stage.AGENTS, f"{type(ending).__name__} was raised")

    def _plan(self, index: int, request: ExecutionRequest, names: set[str]) -> AttemptPlan:
        options = self._options
        if request.name is not None:
            if request.name in names:
                raise ConfigError(f"name: {request.name!r} is used twice in this batch; machine names are unique")
            names.add(request.name)
        plan = AttemptPlan(
            shards=self._shards,
            config=request.config,
            batch=self._id,
            index=index,
            attempt=1,
            name=request.name or f"flaude-{self._id}-{index}",
            tag=request.tag,
            run_s=options.settings.wait_timeout,
            timeouts=options.settings.timeouts,
            credentials=credentials(request.config, os.environ),
            queued=datetime.now(UTC),
            output_dir=options.settings.output_dir,
            recorded=self._writer is not None,
        )
        self._check_push(plan)
        return plan

    def _check_push(self, plan: AttemptPlan) -> None:
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

    async def _run(self, plan: AttemptPlan) -> None:
        index = plan.index
        record = self._writer.run(index) if self._writer else NullRecorder()
        left = self._prior.left.get(index)
        # Shielded from cancellation: `shutdown` says what must end here, and how fast.
        with anyio.CancelScope(shield=True):
            async with self._watcher.following(record.event) as emit:
                execution = RequestRunner(
                    self._fly,
                    plan,
                    emit,
                    self._shutdown,
                    self._options.settings.retries,
                    self._admission,
                    self._budget,
                    record,
                    left,
                    self._states,
                    self._token,
                    asked_at=self._asked_at,
                )
                self._executions[index] = execution
                try:
                    if left is None or not left.under_way:
                        emit(Queued(self._id, index, plan.tag, plan.queued, ""))
                    await execution.execute(self._breaker)
                except (KeyboardInterrupt, SystemExit) as ending:
                    self._end_program(ending)
                finally:
                    await self._end(execution, plan, emit, record)

    async def _end(self, execution: RequestRunner, plan: AttemptPlan, emit: EventSink, record: RunRecorder) -> None:
        """The run is over, or left to others."""
        if execution.is_left:
            emit(Detached(self._id, plan.index, plan.tag, datetime.now(UTC), execution.machine_id))
            return
        result = execution.result
        self._results[plan.index] = result
        finished = Finished(self._id, plan.index, plan.tag, datetime.now(UTC), execution.machine_id, result=result)
        if execution.is_final:
            await record.over(result, finished)
        emit(finished)
        await self._done(result)

    async def _refuse(self, index: int, result: ExecutionResult) -> None:
        """It can never be run beside the others, unless all that it lacks is credentials."""
        if self._writer and not isinstance(result.error, NoCredentialsError):
            with anyio.CancelScope(shield=True):
                await self._writer.run(index).over(result)
        await self._finish(index, result)

    async def _finish(self, index: int, result: ExecutionResult) -> None:
        self._results[index] = result
        with anyio.CancelScope(shield=True):
            async with self._watcher.following() as emit:
                emit(Finished(self._id, index, result.tag, datetime.now(UTC), "", result=result))
                await self._done(result)

    def _last_words(self) -> str:
        leftovers = self._leftovers
        if not leftovers:
            return ""
        commands = [f"flaude reap --app {self._options.settings.app} --batch {self._id} --all"]
        if self._writer:
            commands.insert(0, f"flaude resume {self._id}   # or, without their work:")
        return "\n".join(["flaude: these machines may be alive:", *(f"  {one}" for one in leftovers), *commands])


def _bare(url: str) -> str:
    """The repository's address without what does not matter in it."""
    return url.rstrip("/").removesuffix(".git").rstrip("/")


async def refuse(
    options: BatchOptions,
    requests: Sequence[ExecutionRequest],
    batch: str,
    error: FlaudeError,
    done: Callable[[ExecutionResult], Awaitable[None]],
    feed: EventBuffer | None,
    seconds: float,
) -> BatchResult:
    """A batch of which nothing can be run: every request has the same error, and its last event.

    Args:
        options: What it was to keep to.
        requests: What was to be run.
        batch: The id that it was to have.
        error: Why it is not.
        done: Called with every result.
        feed: Takes every event.
        seconds: How long it took to find that out.

    Raises:
        BaseException: What `on_event` has raised to end the program.
    """
    results = [ExecutionResult(tag=request.tag, error=error) for request in requests]
    endings: list[BaseException] = []
    watcher = EventDispatcher(options.on_event, Shutdown(), endings.append, feed)
    for index, result in enumerate(results):
        with anyio.CancelScope(shield=True):
            async with watcher.following() as emit:
                emit(Finished(batch, index, result.tag, datetime.now(UTC), "", result=result))
                await done(result)
    if endings:
        raise endings[0]
    return BatchResult(results=results, seconds=seconds, stopped_by=str(error) if requests else "", id=batch)
