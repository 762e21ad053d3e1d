"""One request from its first attempt to its last."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio

from flaude._agent.events import EventContext
from flaude._agent.limits import lifted_at
from flaude._executor.admission import AdmissionControl, CircuitBreaker
from flaude._executor.budget import Budget, dollars
from flaude._executor.capacity import never_room, no_room
from flaude._model.errors import MachineLimitError
from flaude._model.failures import FailureKind, Phase
from flaude._model.names import LONGEST_NAME
from flaude._model.results import ExecutionResult, Leftover, leftover
from flaude._model.retries import Retries
from flaude._model.run_result import Failure
from flaude._providers.fly.provider_record import ProviderRecord
from flaude._providers.fly.state_watcher import StatesOfApps
from flaude._run.checkpoint import Checkpoint, dump_checkpoint
from flaude._run.driver import AttemptDriver
from flaude._run.outcome import execution_result, failure_of, not_launched
from flaude._run.plan import AttemptPlan, batch_metadata, new_pad
from flaude._run.recorder import NullRecorder, RunRecorder
from flaude._run.refused_token import RefusedToken
from flaude._run.shutdown import Shutdown, Stage
from flaude._run.state import AttemptState, Step
from flaude.events import Notice, Queued, Resumed, Retried, StopRequested
from flaude.events.emitter import EventSink

if TYPE_CHECKING:
    from flaude._providers.fly import FlyClient

_log = logging.getLogger(__name__)


class RequestRunner:
    """A request that is being carried out.

    Args:
        fly: The client.
        plan: The first attempt's plan; the others differ from it by number and name.
        emit: Takes every event.
        shutdown: Tells when the batch stops; `self.stopping` is the run's own.
        retries: Which failures get another attempt.
        admission: Grants slots, and learns from how each attempt ends.
        budget: Of the batch.
        record: Takes how far it is.
        left: Where another controller has left it.
        states: See how the machines of the batch are.
        token: Hears when Fly refuses the token.
        asked_at: When its batch was asked for, by the event loop's clock.
    """

    def __init__(
        self,
        fly: FlyClient,
        plan: AttemptPlan,
        emit: EventSink,
        shutdown: Shutdown,
        retries: Retries,
        admission: AdmissionControl,
        budget: Budget,
        record: RunRecorder | None = None,
        left: Checkpoint | None = None,
        states: StatesOfApps | None = None,
        token: RefusedToken | None = None,
        *,
        asked_at: float,
    ) -> None:
        self._fly = fly
        self._token = token
        self._states = states or StatesOfApps(fly, batch_metadata(plan.batch))
        self._plan = plan
        self._emit = emit
        self._retries = retries
        self._admission = admission
        self._budget = budget
        self._record = record or NullRecorder()
        self._left = left
        self._earlier = left.earlier if left else ()
        self._superseded = left.superseded if left else ()
        self._asked_at = asked_at
        self._run: AttemptDriver | None = None
        self._provider: ProviderRecord | None = None
        self._unlaunched = self._no_room = ""
        self._goes_on = True
        self._is_over = False
        self.waits = self.waits_for_place = False
        self.shutdown = self._shutdown = shutdown.child(self._tell_stop)

    async def execute(self, breaker: CircuitBreaker) -> None:
        """Make attempts until one counts, each in a place of its own; see `result`.

        Args:
            breaker: Is told how every attempt has ended.
        """
        try:
            await self._make_attempts(breaker)
        finally:
            self._goes_on = False

    async def _make_attempts(self, breaker: CircuitBreaker) -> None:
        plan = self._plan
        if self._left:
            plan = self._again(self._left.attempt, self._left)
        while run := await self._attempt(plan, breaker):
            if self._has_left(run):
                return
            failure = failure_of(run.state, run.fetching.downloaded)
            started = run.state.agent_started
            # Who has waited for room in vain has done what another attempt would do.
            in_vain = self._no_room and plan.timeouts.capacity
            if (
                failure is None
                or in_vain
                or not self._retries.again(failure, attempts=plan.attempt, agent_started=started)
            ):
                self._is_over = True
                return
            pause_s = self._retries.pause_s(plan.attempt)
            self._emit(Retried(*self._context().header, attempt=plan.attempt, failure=failure, pause_s=pause_s))
            with self._shutdown.interrupts(Stage.LAUNCHES):
                await anyio.sleep(pause_s)
            plan = self._again(plan.attempt + 1)

    def _again(self, number: int, left: Checkpoint | None = None) -> AttemptPlan:
        name, queued = attempt_name(self._plan.name, number), datetime.now(UTC)
        left_in, pad = (left.app, left.pad or new_pad()) if left else ("", new_pad())
        return replace(self._plan, attempt=number, name=name, queued=queued, left_in=left_in, pad=pad)

    async def _attempt(self, plan: AttemptPlan, breaker: CircuitBreaker) -> AttemptDriver | None:
        """One attempt, in a place and with a part of the budget; None when there was none to be had."""
        # The budget first: nobody waits for money in a place that another run could use.
        self.waits, under_way = True, self._left is not None and self._left.under_way
        most_usd = plan.config.max_budget_usd
        async with self._budget.reserve(most_usd, self._shutdown, under_way=under_way) as reservation:
            if not reservation.granted:
                if self._shutdown.stage is not Stage.NOTHING:
                    return None
                self._unlaunched = f"{self._budget.told}, and this run may cost {dollars(reservation.usd)}"
                return None
            while True:
                self.waits = self.waits_for_place = True
                place = self._admission.place(
                    self._shutdown, plan.account, where=plan.where, under_way=under_way and self._left is not None
                )
                async with place as number:
                    self.waits = self.waits_for_place = False
                    if number is None:
                        reservation.charge(0.0, agent_started=False)
                        return None
                    before = self._run, self._earlier, self._superseded
                    await self._keep_last()
                    run = self._begin(plan, number)
                    try:
                        await run.execute()
                    except BaseException:
                        reservation.charge(run.attempt.cost_usd, agent_started=run.state.agent_started)
                        raise
                    if self._has_no_room(number, run):
                        self._wait_again(plan, run.provider)
                        self._run, self._earlier, self._superseded = before
                        # As it is from now on: its metadata says for how long its machine may be there.
                        plan = replace(plan)
                        continue
                    reservation.charge(run.attempt.cost_usd, agent_started=run.state.agent_started)
                    if self._has_left(run):
                        return run
                    failure = failure_of(run.state, run.fetching.downloaded)
                    breaker.ended(failure.kind if failure else None)
                    self._learn(number, run, failure)
                    return run

    def _has_no_room(self, number: int, run: AttemptDriver) -> bool:
        """Whether Fly has surely made no machine, because it has no room, and the run waits on for one."""
        if run.refused is None or not run.state.gone or run.state.machine_id:
            return False
        refusal = self._admission.refused(number, run.refused, asked=self._asked_at)
        limit, config = isinstance(run.refused, MachineLimitError), self._plan.config
        regions = ", ".join(config.regions)
        if refusal.is_news:
            told = no_room(refusal, limit=limit, regions=regions, wait_s=self._plan.timeouts.capacity)
            _log.warning("%s (%s)", told, run.refused)
            self._notice(told)
        if refusal.is_final and self._shutdown.stage is Stage.NOTHING:
            self._no_room = never_room(refusal, limit=limit, regions=regions)
        return not refusal.is_final

    def _wait_again(self, plan: AttemptPlan, provider: ProviderRecord) -> None:
        """As if it had not been launched yet, for who watches and for who takes it up; what Fly has said is kept."""
        self._provider = provider
        queued = {Phase.QUEUED.value: plan.queued}
        waiting = dump_checkpoint(plan.attempt, AttemptState(), 0, queued, self._earlier, plan.app, provider=provider)
        self._record.checkpoint = lambda: (Phase.QUEUED.value, waiting)
        self._record.moved()
        self._emit(Queued(*self._context().header))

    def _begin(self, plan: AttemptPlan, number: int) -> AttemptDriver:
        left, self._left = self._left, None
        self._no_room = ""
        run = self._run = AttemptDriver(
            self._fly,
            plan,
            self._emit,
            self._shutdown,
            self._record,
            left,
            self._states.of(plan.app),
            self._token,
            made=lambda: self._admission.made(number),
        )
        if self._provider is not None:
            run.provider, self._provider = self._provider, None
        self._record.checkpoint = lambda: (
            run.state.phase.value,
            dump_checkpoint(
                plan.attempt, run.state, run.told, run.began_at, self._earlier, plan.app, plan.pad, run.provider
            ),
        )
        if left and left.under_way:
            self._emit(Resumed(*self._context().header, phase=left.state.phase))
        return run

    async def _keep_last(self) -> None:
        """Another attempt begins: nothing of the last one may be lost."""
        run = self._run
        if run is None:
            return
        earlier = (*self._earlier, run.attempt)
        brought = execution_result(self._plan.tag, run.state, run.times, run.fetching.downloaded, earlier).run_result
        if not run.state.agent_started or brought is None:
            self._earlier = earlier
            return
        await self._record.attempted(run.attempt.number, brought)
        # Not before: a checkpoint that is written meanwhile still is that of the last attempt.
        self._earlier, self._superseded = earlier, (*self._superseded, brought)

    def _learn(self, number: int, run: AttemptDriver, failure: Failure | None) -> None:
        """What the end of an attempt means for those that are still to be launched."""
        if failure is None:
            self._admission.succeeded()
            return
        lifted = lifted_at(run.state.result.rate_limit) if run.state.result else None
        account = self._plan.account
        if told := self._admission.failed(number, failure.kind, lifted_at=lifted, account=account):
            self._notice(told)

    def _context(self) -> EventContext:
        plan, run = self._plan, self._run
        return EventContext(plan.batch, plan.index, plan.tag, datetime.now(UTC), run.state.machine_id if run else "")

    def _notice(self, text: str) -> None:
        self._emit(Notice(*self._context().header, text=text))

    def _tell_stop(self, stage: Stage, reason: str) -> None:
        """Tell who watches that the run is to stop its agent, or to go at once."""
        if self._goes_on and stage in (Stage.AGENTS, Stage.COLLECTING):
            self._emit(StopRequested(*self._context().header, reason=reason, at_once=stage is Stage.COLLECTING))

    @property
    def result(self) -> ExecutionResult:
        """The outcome as far as it is known."""
        run = self._run
        if run is None:
            if self._unlaunched:
                return not_launched(self._plan.tag, FailureKind.BUDGET, self._unlaunched)
            shutdown, earlier = self._shutdown, (self._earlier, self._superseded)
            return not_launched(self._plan.tag, shutdown.kind, shutdown.reason, *earlier)
        attempts = (*self._earlier, run.attempt)
        note = f"not tried again: {self._unlaunched}" if self._unlaunched else self._no_room
        downloaded = run.fetching.downloaded
        return execution_result(self._plan.tag, run.state, run.times, downloaded, attempts, self._superseded, note)

    def _has_left(self, run: AttemptDriver) -> bool:
        return self._shutdown.stage is Stage.DETACH and run.state.step is not Step.DONE

    @property
    def is_left(self) -> bool:
        """Whether it is not over, and we have turned away from it: also before another attempt."""
        return self._shutdown.stage is Stage.DETACH and not self._is_over

    @property
    def can_be_left(self) -> bool:
        """Whether it can do without us: its agent works, it waits for a place or for money, or it is over."""
        state = self._run.state if self._run else None
        at_work = state is not None and state.step is Step.PULL and state.phase in (Phase.AGENT, Phase.COLLECT)
        return self.waits or at_work or not self._goes_on

    @property
    def is_final(self) -> bool:
        """Whether nobody will want to take it up again: it was tried, or somebody wants it never to be."""
        return self._run is not None or self._shutdown.final

    @property
    def machine_id(self) -> str:
        """Fly's id of its machine, the last one; empty without one."""
        return self._run.state.machine_id if self._run else ""

    @property
    def machine_seconds(self) -> float:
        """How long there were machines for it by now."""
        return sum(attempt.machine_seconds for attempt in self._earlier) + (self._run.machine_s if self._run else 0.0)

    @property
    def has_machine(self) -> bool:
        """Whether there is one now."""
        return self._run is not None and self._run.leftover is not None

    @property
    def leftovers(self) -> list[Leftover]:
        """Machines that may be alive if everything ended now."""
        earlier = [leftover(attempt) for attempt in self._earlier if not attempt.gone]
        last = self._run.leftover if self._run else None
        return [*earlier, *([last] if last else [])]


def attempt_name(name: str, attempt: int) -> str:
    """The machine's name for an attempt: the first one's is the request's own."""
    if attempt == 1:
        return name
    suffix = f"-a{attempt}"
    return name[: LONGEST_NAME - len(suffix)] + suffix
