"""When the next run gets a machine: a cap that shrinks at the limits of accounts and of Fly, pauses, and a breaker."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import anyio
from anyio.lowlevel import checkpoint

from flaude._executor.capacity import MachineCapacity, Refusal
from flaude._model.errors import MachineLimitError, NoCapacityError
from flaude._model.failures import FailureKind
from flaude._run.shutdown import Shutdown, Stage

_log = logging.getLogger(__name__)

_LONGEST_NAP_S = 60.0
_LONGEST_LIMIT_S = 8 * 24 * 3600.0  # the longest of Claude's limits is a week's: what lies beyond it is no time
_AT_ITS_LIMITS = (FailureKind.USAGE_LIMIT, FailureKind.OVERLOADED)


@dataclass(eq=False)
class _Waiter:
    """Who waits for a place; `number` is that of its launch, once it has one."""

    ticket: int = 0
    number: int | None = None
    woken: anyio.Event = field(default_factory=anyio.Event)


@dataclass
class _Place:
    room: MachineCapacity
    has_machine: bool


class AdmissionControl:
    """Places for runs, shared by all batches that use one account at the same time.

    A run that ends as `usage_limit` or `overloaded` halves how many may go on at once; every success then allows one
    more, up to `max_concurrency`. Of runs that were under way together only the first one halves: they all met the
    same wall. When Claude Code says at what time an account's limit is lifted, no run of this account gets a place
    until then.

    Where Fly has no room for a machine, its run leaves its place and waits for another one: that is a state of all runs
    that want such a machine, and no failure of one; see `MachineCapacity`.

    Args:
        max_concurrency: How many runs may go on at once; `None` or 0 for no limit.
        clock: Seconds since the epoch.
        capacity_s: How long to wait for room at Fly, in seconds: `Timeouts.capacity`.
    """

    def __init__(
        self, max_concurrency: int | None, clock: Callable[[], float] = time.time, *, capacity_s: float = 900.0
    ) -> None:
        self._most: float = max_concurrency or math.inf
        self._allowed = self._most
        self._clock = clock
        self._capacity_s = capacity_s
        self._resumes_at: dict[int, float] = {}
        self._launched = self._tickets = 0
        self._slowed_at = 0
        self._organization = MachineCapacity(capacity_s, halves=False)
        self._rooms: dict[Hashable, MachineCapacity] = {}
        self._held: dict[int, _Place] = {}
        self._waiting: dict[tuple[int, Hashable], deque[_Waiter]] = {}

    @property
    def allowed(self) -> float:
        """How many runs may go on at once now."""
        return self._allowed

    @property
    def is_full(self) -> bool:
        """Whether nobody gets a place before somebody has left one."""
        if len(self._held) >= self._allowed:
            return True
        rooms = {self._room(where) for _, where in self._waiting}
        now = anyio.current_time()
        return self._organization.alive > 0 and bool(rooms) and all(self._opens_in(room, now) > 0 for room in rooms)

    @asynccontextmanager
    async def place(
        self, shutdown: Shutdown, account: int = 0, *, where: Hashable = (), under_way: bool = False
    ) -> AsyncIterator[int | None]:
        """A place, once there is one: the launch's number, or `None` when launching was stopped before.

        Args:
            shutdown: Tells when launching stops.
            account: Who pays for the agent.
            where: What tells apart the places at Fly that runs ask for.
            under_way: Whether the run has a machine already, or may have: it has its place at once, beyond the cap if
                it must be, and whether or not launching was stopped.
        """
        if under_way:
            number: int | None = self._take(where, has_machine=True)
        else:
            number = await self._wait(shutdown, (account, where))
        try:
            yield number
        finally:
            if number is not None:
                self._leave(number)

    async def _wait(self, shutdown: Shutdown, group: tuple[int, Hashable]) -> int | None:
        waiter = _Waiter()
        with shutdown.interrupts(Stage.LAUNCHES):
            await checkpoint()  # who is stopped already gets none
            self._tickets += 1
            waiter.ticket = self._tickets
            queue = self._waiting.setdefault(group, deque())
            queue.append(waiter)
            try:
                while waiter.number is None:
                    self._admit()
                    if waiter.number is None:
                        waiter.woken = anyio.Event()
                        # Only the first one looks at the time: the others come after it.
                        with anyio.move_on_after(self._nap_s(group) if queue[0] is waiter else math.inf):
                            await waiter.woken.wait()
            except BaseException:
                if waiter.number is not None:
                    self._leave(waiter.number)
                else:
                    self._remove(group, waiter)
                raise
            return waiter.number
        return None

    def _admit(self) -> None:
        """Give out the places that there are, in the order of asking among those who may have one now."""
        while self._waiting and len(self._held) < self._allowed:
            now = anyio.current_time()
            # Nobody waits out a pause, or for room, in a place that another one could use.
            open_ = [group for group in self._waiting if self._paused_s(group[0]) <= 0 and self._opens(group, now) <= 0]
            if not open_:
                return
            group = min(open_, key=lambda group: self._waiting[group][0].ticket)
            waiter = self._waiting[group][0]
            waiter.number = self._take(group[1])
            self._remove(group, waiter)
            waiter.woken.set()

    def _changed(self) -> None:
        """Places may have become free, or the time when one will."""
        self._admit()
        for queue in self._waiting.values():
            queue[0].woken.set()

    def _remove(self, group: tuple[int, Hashable], waiter: _Waiter) -> None:
        queue = self._waiting[group]
        was_first = queue[0] is waiter
        queue.remove(waiter)
        if not queue:
            del self._waiting[group]
        elif was_first:
            queue[0].woken.set()  # it looks at the time from now on

    def _take(self, where: Hashable, *, has_machine: bool = False) -> int:
        self._launched += 1
        place = self._held[self._launched] = _Place(self._room(where), has_machine)
        for room in (self._organization, place.room):
            room.enter(self._launched, has_machine=has_machine)
        return self._launched

    def _leave(self, number: int) -> None:
        place, now = self._held.pop(number), anyio.current_time()
        for room in (self._organization, place.room):
            room.leave(number, now, had_machine=place.has_machine)
        self._changed()

    def _room(self, where: Hashable) -> MachineCapacity:
        return self._rooms.setdefault(where, MachineCapacity(self._capacity_s, halves=True))

    def _opens(self, group: tuple[int, Hashable], now: float) -> float:
        return self._opens_in(self._room(group[1]), now)

    def _opens_in(self, room: MachineCapacity, now: float) -> float:
        return max(room.opens_in(now), self._organization.opens_in(now))

    def _nap_s(self, group: tuple[int, Hashable]) -> float:
        """How long to sleep before it is worth another look."""
        if len(self._held) >= self._allowed:
            return math.inf
        paused_s, opens_s = self._paused_s(group[0]), self._opens(group, anyio.current_time())
        # In naps: the clock of a laptop that slept has gone on, the event loop's has not.
        naps = [*([min(paused_s, _LONGEST_NAP_S)] if paused_s > 0 else []), *([opens_s] if opens_s > 0 else [])]
        return max(naps, default=0.0)

    def _paused_s(self, account: int) -> float:
        return self._resumes_at.get(account, 0.0) - self._clock()

    def made(self, number: int) -> None:
        """A launch has its machine."""
        place = self._held[number]
        if place.has_machine:
            return
        place.has_machine = True
        for room in (self._organization, place.room):
            room.made(number, anyio.current_time())
        self._changed()

    def refused(self, number: int, error: MachineLimitError | NoCapacityError, *, asked: float = -math.inf) -> Refusal:
        """Fly has no room for the machine of a launch, which is to leave its place now.

        Args:
            number: Its launch's number.
            error: Fly's refusal.
            asked: When its run was asked for, by the event loop's clock.
        """
        if not self._capacity_s:
            return Refusal(is_news=False, is_final=True, tries=1, waited_s=0.0, alive=self._organization.alive)
        limit = isinstance(error, MachineLimitError)
        room = self._organization if limit else self._held[number].room
        return room.refused(number, self._launched, anyio.current_time(), asked)

    def succeeded(self) -> None:
        """A run has succeeded: one more may go on at once, if there were more before."""
        if self._allowed < self._most:
            self._allowed += 1
            self._changed()

    def failed(self, number: int, kind: FailureKind, *, lifted_at: float | None, account: int = 0) -> str:
        """A run has failed.

        Args:
            number: Its launch's number.
            kind: Why it failed.
            lifted_at: When the account's limit is lifted, in seconds since the epoch, if Claude Code said it.
            account: Who paid for the agent.

        Returns:
            What this changes, for people; empty when nothing.
        """
        if kind not in _AT_ITS_LIMITS:
            return ""
        told = []
        if number > self._slowed_at:
            self._slowed_at = self._launched
            self._allowed = max(1, len(self._held) // 2)
            told.append(f"at most {self.allowed:g} at once from now on")
        now = self._clock()
        if lifted_at is not None and max(now, self._resumes_at.get(account, 0.0)) < lifted_at < now + _LONGEST_LIMIT_S:
            self._resumes_at[account] = lifted_at
            told.append(f"no launches before {datetime.fromtimestamp(lifted_at, UTC):%Y-%m-%d %H:%M:%S} UTC")
        message = f"{kind}: {', '.join(told)}" if told else ""
        if message:
            _log.warning("%s", message)
        return message


class CircuitBreaker:
    """Stops the launches of a batch whose credentials do not work, before the rest has failed likewise.

    Args:
        shutdown: The batch's.
        after: How many authentication failures in a row are enough; 0 for never.
    """

    def __init__(self, shutdown: Shutdown, after: int) -> None:
        self._shutdown = shutdown
        self._after = after
        self._in_a_row = 0

    def ended(self, kind: FailureKind | None) -> None:
        """A run has ended; `None` for a success. What is no word on the credentials changes nothing."""
        if kind is FailureKind.AUTH:
            self._in_a_row += 1
        elif kind is None or kind in _CREDENTIALS_WORK:
            self._in_a_row = 0
        if self._after and self._in_a_row >= self._after:
            reason = f"{self._in_a_row} runs in a row failed to authenticate; check the Claude Code credentials"
            self._shutdown.ask(Stage.LAUNCHES, reason)


_CREDENTIALS_WORK = frozenset(
    {FailureKind.MAX_TURNS, FailureKind.BUDGET, FailureKind.USAGE_LIMIT, FailureKind.OVERLOADED}
)
