"""What the page says of every run in one line, and of all runs in a few numbers."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from flaude._model.results import BatchResult, Leftover
from flaude._model.run_result import Usage
from flaude.report.data import ReportRun

State = Literal["ok", "failed", "open"]


@dataclass(frozen=True)
class Row:
    """A run in one line.

    Attributes:
        index: Its place in the batch.
        tag: Its tag.
        state: Whether it succeeded, failed, or is not over.
        outcome: The same in the word that says most: `succeeded`, a kind of failure, or how far it is.
        model: The model that was asked for.
        seconds: How long there were machines for it; `None` when there was none.
        cost_usd: What its agents cost; `None` when nothing is known.
        machine_cost_usd: What its machines cost; `None` when the price of one is not known.
        unknown_costs: Attempts whose agent did not report its cost.
        turns: Turns of its agents; `None` when none reported any.
        usage: Their tokens.
        files: Changed files.
        added: Added lines.
        removed: Removed lines.
        attempts: How often it was tried.
        leftovers: Machines whose end is not confirmed.
    """

    index: int
    tag: str
    state: State
    outcome: str
    model: str = ""
    seconds: float | None = None
    cost_usd: float | None = None
    machine_cost_usd: float | None = None
    unknown_costs: int = 0
    turns: int | None = None
    usage: Usage = field(default_factory=Usage)
    files: int = 0
    added: int = 0
    removed: int = 0
    attempts: int = 0
    leftovers: tuple[Leftover, ...] = ()

    @property
    def changed(self) -> int:
        """Added and removed lines."""
        return self.added + self.removed


def row_of(run: ReportRun) -> Row:
    """A run in one line."""
    result = run.result
    if result is None:
        return Row(run.index, run.tag, "open", run.phase or "not over", run.model)
    alone = BatchResult([result])
    brought = [one for one in (*result.superseded, result.run_result) if one is not None]
    turns = [one.num_turns for one in brought if one.num_turns is not None]
    patches = result.run_result.patches if result.run_result else ()
    changes = [change for patch in patches for change in patch.changes]
    failure = result.failure
    return Row(
        index=run.index,
        tag=run.tag,
        state="ok" if result.success else "failed",
        outcome="succeeded" if result.success else str(failure.kind) if failure else "error",
        model=run.model,
        seconds=result.machine_seconds or None,
        cost_usd=result.cost_usd,
        machine_cost_usd=result.machine_cost_usd,
        unknown_costs=alone.unknown_costs,
        turns=sum(turns) if turns else None,
        usage=alone.usage,
        files=len(changes),
        added=sum(change.added or 0 for change in changes),
        removed=sum(change.removed or 0 for change in changes),
        attempts=len(result.attempts),
        leftovers=tuple(alone.leftovers),
    )


@dataclass(frozen=True)
class Sums:
    """All rows together."""

    rows: Sequence[Row]

    def of(self, state: State) -> int:
        """How many runs are in that state."""
        return sum(row.state == state for row in self.rows)

    @property
    def outcomes(self) -> list[tuple[str, State, int]]:
        """Each outcome, its state and how many runs have it; the most frequent first, success before all."""
        found = Counter((row.outcome, row.state) for row in self.rows)
        rank = {"ok": 0, "failed": 1, "open": 2}
        ordered = sorted(found.items(), key=lambda item: (rank[item[0][1]], -item[1], item[0][0]))
        return [(outcome, state, number) for (outcome, state), number in ordered]

    @property
    def cost_usd(self) -> float:
        """Of all agents, as far as it is known."""
        return sum(row.cost_usd or 0.0 for row in self.rows)

    @property
    def unknown_costs(self) -> int:
        """Attempts whose agent did not report its cost."""
        return sum(row.unknown_costs for row in self.rows)

    @property
    def machine_cost_usd(self) -> float | None:
        """Of all machines; `None` when the price of one is not known."""
        costs = [row.machine_cost_usd for row in self.rows if row.seconds]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if len(known) == len(costs) else None

    @property
    def machine_seconds(self) -> float:
        """How long there were machines, all in all."""
        return sum(row.seconds or 0.0 for row in self.rows)

    @property
    def usage(self) -> Usage:
        """All tokens."""
        return Usage(**{name: sum(getattr(row.usage, name) for row in self.rows) for name in Usage.model_fields})

    @property
    def turns(self) -> int:
        """All turns."""
        return sum(row.turns or 0 for row in self.rows)

    @property
    def attempts(self) -> int:
        """All attempts."""
        return sum(row.attempts for row in self.rows)

    @property
    def files(self) -> int:
        """All changed files."""
        return sum(row.files for row in self.rows)

    @property
    def added(self) -> int:
        """All added lines."""
        return sum(row.added for row in self.rows)

    @property
    def removed(self) -> int:
        """All removed lines."""
        return sum(row.removed for row in self.rows)

    @property
    def leftovers(self) -> list[Leftover]:
        """Machines whose end is not confirmed."""
        return [leftover for row in self.rows for leftover in row.leftovers]

    @property
    def median_seconds(self) -> float | None:
        """The median of how long there were machines for a run."""
        return _median([row.seconds for row in self.rows if row.seconds is not None])

    @property
    def median_cost_usd(self) -> float | None:
        """The median of what a run's agents cost."""
        return _median([row.cost_usd for row in self.rows if row.cost_usd is not None])


def _median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None
