"""One request from its first attempt to its last."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime

import anyio

from flaude import claude
from flaude.events import Event, Notice
from flaude.fly import FlyClient
from flaude.outcome import execution_result, failure_of, not_launched
from flaude.results import Attempt, ExecutionResult, Leftover
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
    """

    def __init__(
        self,
        fly: FlyClient,
        plan: RunPlan,
        emit: Callable[[Event], Awaitable[None]],
        stopping: Stopping,
        retries: Retries,
    ) -> None:
        self._fly = fly
        self._plan = plan
        self._emit = emit
        self._stopping = stopping
        self._retries = retries
        self._earlier: tuple[Attempt, ...] = ()
        self._run: Run | None = None

    async def execute(self) -> None:
        """Make attempts until one counts; see `result`."""
        plan = self._plan
        while True:
            run = self._run = Run(self._fly, plan, self._emit, self._stopping)
            await run.execute()
            failure = failure_of(run.state)
            started = run.state.agent_started
            if failure is None or not self._retries.again(failure, attempts=plan.attempt, agent_started=started):
                return
            pause_s = self._retries.pause_s(plan.attempt)
            reason = f"attempt {plan.attempt} failed: {failure.message}; another one in {pause_s:.1f} s"
            await self._emit(Notice(plan.batch, plan.index, plan.tag, datetime.now(UTC), text=reason))
            with self._stopping.interrupts(Stop.LAUNCHES):
                await anyio.sleep(pause_s)
            if self._stopping.stage >= Stop.LAUNCHES:
                return
            self._earlier = (*self._earlier, run.attempt)
            plan = replace(plan, attempt=plan.attempt + 1, name=attempt_name(self._plan.name, plan.attempt + 1))

    @property
    def result(self) -> ExecutionResult:
        """The outcome as far as it is known."""
        run = self._run
        if run is None:
            return not_launched(self._plan.tag, self._stopping.reason)
        return execution_result(self._plan.tag, run.state, run.diffs, run.times, (*self._earlier, run.attempt))

    @property
    def lifted_at(self) -> float | None:
        """When the account's limit is lifted, in seconds since the epoch, if Claude Code said it."""
        result = self._run.state.result if self._run else None
        return claude.lifted_at(result.rate_limit) if result else None

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
