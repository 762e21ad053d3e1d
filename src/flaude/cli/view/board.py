"""What is known of a batch while it goes on: a row for each run, and sums. Pure: no clock, no terminal.

An event costs the same however many runs there are, and a run takes the same memory however much it says.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from rich.cells import cell_len

from flaude._model.failures import Phase
from flaude._model.results import ExecutionResult
from flaude.cli.text.action import action_of
from flaude.cli.text.one_line import one_line
from flaude.cli.view.last_minute import LastMinute
from flaude.events import (
    AssistantText,
    Booted,
    Created,
    Creating,
    Destroyed,
    Detached,
    Event,
    Finished,
    Message,
    PhaseBegan,
    Queued,
    Resumed,
    Retried,
    Started,
    StopRequested,
    ToolUse,
)

_LONGEST_TAG = 80
_CREATE_EVERY_S = 1.0  # Fly's pace, for each app
_WITH_MACHINE = (Phase.BOOT, Phase.CLONE, Phase.AGENT, Phase.COLLECT, Phase.DESTROY)
_AT_ONCE = (Phase.CREATE, *_WITH_MACHINE)


@dataclass(slots=True)
class Row:
    """A run.

    Attributes:
        index: Its place in the batch.
        tag: Its tag as one line, or its place.
        phase: Where in its life it is.
        created: When Fly was asked for its machine; the last one, when there were several.
        turns: Turns that its agent took; while it works, as far as they can be told from what it prints.
        cost_usd: What its agents cost; None until it is over, or when they did not say.
        last: What was seen of it last, in a line.
        seconds: Wall time of its last machine; None until it is over.
        success: Whether it succeeded; None until it is over.
        has_machine: Whether there is one.
        retries: Whether it waits for another attempt.
        stops: Whether it has been told to stop.
        detached: Whether it was left to go on without us.
    """

    index: int
    tag: str
    phase: Phase = Phase.QUEUED
    created: datetime | None = None
    turns: int = 0
    cost_usd: float | None = None
    last: str = ""
    seconds: float | None = None
    success: bool | None = None
    has_machine: bool = False
    retries: bool = False
    stops: bool = False
    detached: bool = False
    _speaks: bool = False

    def lasted(self, now: datetime) -> float | None:
        """Seconds since Fly was asked for its machine, until it is over; None before."""
        if self.success is not None:
            return self.seconds
        return None if self.created is None else max(0.0, (now - self.created).total_seconds())

    def hear(self, event: Message) -> None:
        """A message of its agent's: a turn is what the model says until it has an answer of its tools."""
        speaks = isinstance(event, AssistantText | ToolUse)
        self.turns += speaks and not self._speaks
        self._speaks = speaks


@dataclass(frozen=True)
class StopOrder:
    """What the batch was told last: why to stop, and whether at once, without collecting anything more."""

    reason: str
    at_once: bool


class Board:
    """A batch: its runs by how they stand, and its sums. Every run that was heard of is in exactly one of the four.

    Args:
        total: How many runs there will be.
        started_at: When the batch began, in UTC.
        shards: Over how many apps it is spread.

    Attributes:
        waiting: Runs that wait for a place, by their index; so are the other three.
        active: Runs that have one: from the first create call on, also between two attempts.
        succeeded: Runs that are over, in the order in which they ended.
        failed: Likewise.
        live: How many machines there are.
        phases: How many of the active runs are in each phase.
        cost_usd: What the agents of the runs that are over cost, as far as they said.
        machine_cost_usd: What their machines cost; None when the price of one is not known.
        leftovers: How many machines of theirs are not confirmed gone.
        stopping: How many of those that were told to stop are not over.
        longest_tag: How many cells of a terminal the longest tag takes.
    """

    def __init__(self, total: int, started_at: datetime, shards: int = 1) -> None:
        self.started_at = started_at
        self.waiting: dict[int, Row] = {}
        self.active: dict[int, Row] = {}
        self.succeeded: dict[int, Row] = {}
        self.failed: dict[int, Row] = {}
        self.live = 0
        self.phases = dict.fromkeys(Phase, 0)
        self.cost_usd = 0.0
        self.machine_cost_usd: float | None = 0.0
        self.leftovers = 0
        self.stopping = 0
        self.longest_tag = 0
        self._stop: StopOrder | None = None
        self._total = total
        self._create_every_s = _CREATE_EVERY_S / shards
        self._rows: dict[int, Row] = {}
        self._creates = LastMinute()
        self._highest = LastMinute()
        self._last_create = started_at
        self._timed, self._timed_s = 0, 0.0

    @property
    def total(self) -> int:
        """How many runs there are."""
        return max(self._total, len(self._rows))

    @property
    def over(self) -> int:
        """How many runs are over."""
        return len(self.succeeded) + len(self.failed)

    @property
    def not_begun(self) -> int:
        """How many runs wait for a place, those that nothing was heard of yet too."""
        return self.total - self.over - len(self.active)

    @property
    def at_once(self) -> int:
        """How many runs have a machine now, or ask for one."""
        return sum(self.phases[phase] for phase in _AT_ONCE)

    @property
    def stop(self) -> StopOrder | None:
        """What runs that are not over were told last; None when none is to stop."""
        return self._stop if self.stopping else None

    def pace(self, now: datetime) -> int:
        """How many machines Fly has made in the last minute."""
        return self._creates.total(now)

    def ends_in_s(self, now: datetime) -> float | None:
        """In how many seconds the last run will be over, as far as one can tell from those that are.

        None when one cannot tell: no run is over, the batch stops, or those that go on have passed the mean.
        """
        if not self._timed or self.stop is not None or self.over == self.total:
            return None
        mean = self._timed_s / self._timed
        if self.not_begun:
            at_once = max(1, self.at_once, self._highest.highest(now))
            return self.not_begun * max(mean / at_once, self._create_every_s) + mean
        left = mean - (now - self._last_create).total_seconds()
        return left if left > 0 else None

    def take(self, event: Event) -> None:
        """Take an event. What comes after a run's end changes nothing."""
        row = self._rows.get(event.index) or self._heard_of(event)
        if row.success is not None:
            return
        match event:
            case PhaseBegan():
                self._enter(row, event)
            case Resumed(phase=phase):
                self._resume(row, event, phase)
            case Retried(attempt=attempt, failure=failure, pause_s=pause_s):
                row.retries = True
                row.last = one_line(f"attempt {attempt} failed, again in {pause_s:.0f} s: {failure.message[:400]}")
            case StopRequested(reason=reason, at_once=at_once):
                self.stopping += not row.stops
                row.stops = True
                if self._stop is None or at_once or not self._stop.at_once:
                    self._stop = StopOrder(one_line(reason), at_once)
            case Detached():
                row.detached = True
            case Finished(result=result):
                self._finish(row, event, result)
            case _:
                if isinstance(event, Message):
                    row.hear(event)
                row.last = action_of(event) or row.last

    def _heard_of(self, event: Event) -> Row:
        row = Row(event.index, one_line(event.tag, _LONGEST_TAG) or f"#{event.index}")
        self._rows[event.index] = self.waiting[event.index] = row
        self.longest_tag = max(self.longest_tag, cell_len(row.tag))
        return row

    def _enter(self, row: Row, event: PhaseBegan) -> None:
        match event:
            case Queued():
                self._move(row, self.waiting, Phase.QUEUED)
                return
            case Creating():
                row.created, row.turns, row.retries, row.last = event.at, 0, False, ""
                self._last_create = max(event.at, self._last_create)
            case Created(region=region):
                self._creates.add(event.at)
                row.last = one_line(f"machine {event.machine_id} in {region}" if region else event.machine_id)
            case Booted() | Started():
                row.last = ""  # what came before was not the agent's doing
            case Destroyed(confirmed=False) if event.machine_id:
                row.last = one_line(f"machine {event.machine_id} is not confirmed gone")
            case _:
                pass
        self._move(row, self.active, event.phase)
        self._has_machine(row, has_it=event.phase in _WITH_MACHINE and bool(event.machine_id))
        self._highest.reach(event.at, self.at_once)

    def _resume(self, row: Row, event: Resumed, phase: Phase) -> None:
        if phase is Phase.QUEUED:
            return
        row.created = row.created or event.at
        row.last = "taken up again"
        self._move(row, self.active, phase)
        self._has_machine(row, has_it=phase in _WITH_MACHINE and bool(event.machine_id))

    def _finish(self, row: Row, event: Finished, result: ExecutionResult) -> None:
        run, failure = result.run_result, result.failure
        row.seconds = run.times.seconds if run else None
        if row.seconds is None:
            row.seconds = row.lasted(event.at)
        self._has_machine(row, has_it=False)
        self.stopping -= row.stops
        row.success = result.success
        row.cost_usd = result.cost_usd
        if run is not None and run.num_turns is not None:
            row.turns = run.num_turns
        if result.success:
            row.last = one_line(run.text if run else "")
        else:
            why = f"{failure.kind}: {failure.message[:400]}" if failure else str(result.error or "failed")[:400]
            row.last = one_line(why)
        self._move(row, self.succeeded if result.success else self.failed, Phase.DONE)
        self.cost_usd += result.cost_usd or 0.0
        self.leftovers += sum(not attempt.gone for attempt in result.attempts)
        paid = result.machine_cost_usd
        known = self.machine_cost_usd is not None and paid is not None
        self.machine_cost_usd = (self.machine_cost_usd or 0.0) + (paid or 0.0) if known else None
        if row.seconds is not None and run is not None:
            self._timed, self._timed_s = self._timed + 1, self._timed_s + row.seconds

    def _move(self, row: Row, to: dict[int, Row], phase: Phase) -> None:
        if row.index in self.active:
            self.phases[row.phase] -= 1
        row.phase = phase
        if to is self.active:
            self.phases[phase] += 1
        if row.index not in to:
            for standing in (self.waiting, self.active):
                standing.pop(row.index, None)
            to[row.index] = row

    def _has_machine(self, row: Row, *, has_it: bool) -> None:
        self.live += has_it - row.has_machine
        row.has_machine = has_it
