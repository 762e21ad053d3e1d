"""What comes back: every request's outcome, and the batch's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from flaude._model.run_result import Attempt, Failure, Frozen, RunResult, Usage


class Leftover(Frozen):
    """A machine that may still be there, in the Fly app `app`; `machine_id` is empty when Fly never told it."""

    name: str
    machine_id: str
    app: str = ""

    def __str__(self) -> str:
        where = f" in {self.app}" if self.app else ""
        return f"{self.name} ({self.machine_id or 'id unknown'}){where}"


def leftover(attempt: Attempt) -> Leftover:
    """The machine of an attempt that is not known to be gone."""
    return Leftover(name=attempt.name, machine_id=attempt.machine_id, app=attempt.app)


@dataclass(frozen=True)
class ExecutionResult:
    """One request's outcome.

    `run_result` is there when the last attempt got a machine. `error` is there when the run did not come to the
    agent's own end (no machine, no clone, deadline, cancelled, machine lost) or its work not back whole; an agent that
    ended with another code than 0 is no `error`. `attempts` has every try, also those that got no machine;
    `superseded` is what earlier ones brought back whose agents had started (`Retries.after_start`).
    """

    tag: str
    run_result: RunResult | None = None
    error: Exception | None = None
    attempts: tuple[Attempt, ...] = ()
    superseded: tuple[RunResult, ...] = ()

    @property
    def success(self) -> bool:
        """True only when the agent ran to its end with exit code 0, and all of its work came back."""
        return self.error is None and self.run_result is not None and self.run_result.exit_code == 0

    @property
    def failure(self) -> Failure | None:
        """What went wrong, in one word and one sentence; `None` on success."""
        if self.run_result is not None and self.run_result.failure is not None:
            return self.run_result.failure
        return getattr(self.error, "failure", None)

    @property
    def cost_usd(self) -> float | None:
        """What its agents cost in US dollars, over all attempts, as far as it is known; `None` when nothing is."""
        return _sum_of_known(attempt.cost_usd for attempt in self.attempts)

    @property
    def machine_seconds(self) -> float:
        """How long there were machines for it, over all attempts."""
        return sum(attempt.machine_seconds for attempt in self.attempts)

    @property
    def machine_cost_usd(self) -> float | None:
        """What they cost in US dollars; `None` when the price of one is not known."""
        return _sum_if_all_known(attempt.machine_cost_usd for attempt in self.attempts)


def _sum_of_known(amounts: Iterable[float | None]) -> float | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if known else None


def _sum_if_all_known(amounts: Iterable[float | None]) -> float | None:
    total = 0.0
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total


@dataclass(frozen=True)
class BatchResult:
    """Every request's outcome, in the order of the requests.

    Attributes:
        results: One a request; fewer only in what `Interrupted` and `Terminated` carry.
        seconds: Wall time of the batch, from when its apps were there.
        stopped_by: What kept it from running all requests to their end (a budget, a signal, credentials that do not
            work), with its numbers; empty when nothing did.
        id: The batch's id: it is in the names of its machines, and a journal has it by this.
        shards_left: Why apps are still there that were not to be kept (`keep_shards`), a sentence each.
    """

    results: list[ExecutionResult]
    seconds: float = 0.0
    stopped_by: str = ""
    id: str = ""
    shards_left: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """Number of requests."""
        return len(self.results)

    @property
    def succeeded(self) -> int:
        """Number of results with `success`."""
        return sum(result.success for result in self.results)

    @property
    def failed(self) -> int:
        """Number of results without `success`."""
        return self.total - self.succeeded

    @property
    def all_succeeded(self) -> bool:
        """Whether no result failed; true for an empty batch."""
        return self.failed == 0

    @property
    def cost_usd(self) -> float:
        """What all agents cost in US dollars, as far as Claude Code reported it; see `unknown_costs`."""
        return sum(result.cost_usd or 0.0 for result in self.results)

    @property
    def unknown_costs(self) -> int:
        """How many attempts began an agent that reported no cost, because it was stopped or its machine was lost."""
        return sum(attempt.agent_started and attempt.cost_usd is None for attempt in self._attempts())

    @property
    def machine_seconds(self) -> float:
        """How long there were machines, all in all."""
        return sum(result.machine_seconds for result in self.results)

    @property
    def machine_cost_usd(self) -> float | None:
        """What the machines cost in US dollars, by list prices; `None` when the price of one is not known."""
        return _sum_if_all_known(result.machine_cost_usd for result in self.results)

    @property
    def usage(self) -> Usage:
        """Tokens of all runs, those of superseded attempts too."""
        runs = [run for result in self.results for run in (result.run_result, *result.superseded) if run is not None]
        return Usage(**{name: sum(getattr(run.usage, name) for run in runs) for name in Usage.model_fields})

    @property
    def leftovers(self) -> list[Leftover]:
        """Machines of all attempts whose end Fly has not confirmed; `flaude reap` looks after them."""
        return [leftover(attempt) for attempt in self._attempts() if not attempt.gone]

    def _attempts(self) -> Iterator[Attempt]:
        return (attempt for result in self.results for attempt in result.attempts)
