"""One request from its first attempt to its last."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime

import anyio

from flaude import claude
from flaude.events import Event, Notice
from flaude.fly import FlyClient
from flaude.launching import Breaker, Launching
from flaude.outcome import execution_result, failure_of, not_launched
from flaude.results import Attempt, ExecutionResult, Failure, Leftover
from flaude.retries import Retries
from flaude.run_driver import Run
from flaude.run_plan import RunPlan
from flaude.stopping import Stop, Stopping

_LONGEST_NAME = 63


class Execution:
    """A request that is being carried out.

    Args:
        fly: The client.
        plan: The first attempt's plan; the others differ from it by number and name.
        emit: Takes every event; must not raise.
        stopping: Tells when to stop.
        retries: Which failures get another attempt.
        launching: Gives places, and is told how every attempt has ended.
    """

    def __init__(
        self,
        fly: FlyClient,
        plan: RunPlan,
        emit: Callable[[Event], Awaitable[None]],
        stopping: Stopping,
        retries: Retries,
        launching: Launching,
    ) -> None:
        self._fly = fly
        self._plan = plan
        self._emit = emit
        self._stopping = stopping
        self._retries = retries
        self._launching = launching
        self._earlier: tuple[Attempt, ...] = ()
        self._run: Run | None = None

    async def execute(self, breaker: Breaker) -> None:
        """Make attempts until one counts, each in a place of its own; see `result`.

        Args:
            breaker: Is told how every attempt has ended.
        """
        plan = self._plan
        while True:
            async with self._launching.place(self._stopping, plan.account) as number:
                if number is None:
                    return
                if self._run is not None:
                    self._earlier = (*self._earlier, self._run.attempt)
                run = self._run = Run(self._fly, plan, self._emit, self._stopping)
                await run.execute()
                failure = failure_of(run.state)
                breaker.ended(failure.kind if failure else None)
                await self._learn(number, run, failure)
            started = run.state.agent_started
            if failure is None or not self._retries.again(failure, attempts=plan.attempt, agent_started=started):
                return
            pause_s = self._retries.pause_s(plan.attempt)
            await self._notice(f"attempt {plan.attempt} failed: {failure.message}; another one in {pause_s:.1f} s")
            with self._stopping.interrupts(Stop.LAUNCHES):
                await anyio.sleep(pause_s)
            plan = replace(plan, attempt=plan.attempt + 1, name=attempt_name(self._plan.name, plan.attempt + 1))

    async def _learn(self, number: int, run: Run, failure: Failure | None) -> None:
        """What the end of an attempt means for those that are still to be launched."""
        if failure is None:
            self._launching.succeeded()
            return
        lifted_at = claude.lifted_at(run.state.result.rate_limit) if run.state.result else None
        account = self._plan.account
        if told := self._launching.failed(number, failure.kind, lifted_at=lifted_at, account=account):
            await self._notice(told)

    async def _notice(self, text: str) -> None:
        plan = self._plan
        await self._emit(Notice(plan.batch, plan.index, plan.tag, datetime.now(UTC), text=text))

    @property
    def result(self) -> ExecutionResult:
        """The outcome as far as it is known."""
        run = self._run
        if run is None:
            return not_launched(self._plan.tag, self._stopping.reason)
        return execution_result(self._plan.tag, run.state, run.diffs, run.times, (*self._earlier, run.attempt))

    @property
    def leftovers(self) -> list[Leftover]:
        """Machines that may be alive if everything ended now."""
        earlier = [
            Leftover(name=attempt.name, machine_id=attempt.machine_id) for attempt in self._earlier if not attempt.gone
        ]
        last = self._run.leftover if self._run else None
        return [*earlier, *([last] if last else [])]


def attempt_name(name: str, attempt: int) -> str:
    """The machine's name for an attempt: the first one's is the request's own."""
    if attempt == 1:
        return name
    suffix = f"-a{attempt}"
    return name[: _LONGEST_NAME - len(suffix)] + suffix
