"""When the next run gets a machine: a cap, which shrinks while the account is at its limits, pauses, and a breaker."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import anyio

from flaude.failure import FailureKind
from flaude.stopping import Stop, Stopping

_log = logging.getLogger(__name__)

_LONGEST_NAP_S = 60.0
_LONGEST_LIMIT_S = 8 * 24 * 3600.0  # the longest of Claude's limits is a week's: what lies beyond it is no time
_AT_ITS_LIMITS = (FailureKind.USAGE_LIMIT, FailureKind.OVERLOADED)


class Launching:
    """Places for runs, shared by all batches that use one account at the same time.

    A run that ends as `usage_limit` or `overloaded` halves how many may go on at once; every success then allows one
    more, up to `max_concurrency`. Of runs that were under way together only the first one halves: they all met the
    same wall. When Claude Code says at what time an account's limit is lifted, no run of this account gets a place
    until then.

    Args:
        max_concurrency: How many runs may go on at once; `None` or 0 for no limit.
        clock: Seconds since the epoch.
    """

    def __init__(self, max_concurrency: int | None, clock: Callable[[], float] = time.time) -> None:
        self._most: float = max_concurrency or math.inf
        self._places = anyio.CapacityLimiter(self._most)
        self._clock = clock
        self._resumes_at: dict[int, float] = {}
        self._launched = 0
        self._slowed_at = 0

    @property
    def allowed(self) -> float:
        """How many runs may go on at once now."""
        return self._places.total_tokens

    @property
    def is_full(self) -> bool:
        """Whether nobody gets a place before somebody has left one."""
        return self._places.available_tokens <= 0

    @asynccontextmanager
    async def place(
        self, stopping: Stopping, account: int = 0, *, under_way: bool = False
    ) -> AsyncIterator[int | None]:
        """A place, once there is one: the launch's number, or `None` when launching was stopped before.

        Args:
            stopping: Tells when launching stops.
            account: Who pays for the agent.
            under_way: Whether the run has a machine already, or may have: it has its place at once, beyond the cap if
                it must be, and whether or not launching was stopped.
        """
        number: int | None = None
        who = object()
        if under_way:
            with suppress(anyio.WouldBlock):
                self._places.acquire_on_behalf_of_nowait(who)
                number = self._launched = self._launched + 1
            if number is None:
                yield 0
                return
        with stopping.interrupts(Stop.LAUNCHES):
            while number is None:
                await self._pause(account)
                await self._places.acquire_on_behalf_of(who)
                # Nobody waits out a pause in a place that another account could use.
                if self._paused_s(account) > 0:
                    self._places.release_on_behalf_of(who)
                    continue
                self._launched += 1
                number = self._launched
        try:
            yield number
        finally:
            if number is not None:
                self._places.release_on_behalf_of(who)

    async def _pause(self, account: int) -> None:
        """Return when the account is at no limit that has a time to be lifted."""
        while (left := self._paused_s(account)) > 0:  # noqa: ASYNC110  # only the clock knows
            # In naps: the clock of a laptop that slept has gone on, the event loop's has not.
            await anyio.sleep(min(left, _LONGEST_NAP_S))

    def _paused_s(self, account: int) -> float:
        return self._resumes_at.get(account, 0.0) - self._clock()

    def succeeded(self) -> None:
        """A run has succeeded: one more may go on at once, if there were more before."""
        if self.allowed < self._most:
            self._places.total_tokens = self.allowed + 1

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
            self._places.total_tokens = max(1, self._places.borrowed_tokens // 2)
            told.append(f"at most {self.allowed:g} at once from now on")
        now = self._clock()
        if lifted_at is not None and max(now, self._resumes_at.get(account, 0.0)) < lifted_at < now + _LONGEST_LIMIT_S:
            self._resumes_at[account] = lifted_at
            told.append(f"no launches before {datetime.fromtimestamp(lifted_at, UTC):%Y-%m-%d %H:%M:%S} UTC")
        message = f"{kind}: {', '.join(told)}" if told else ""
        if message:
            _log.warning("%s", message)
        return message


class Breaker:
    """Stops the launches of a batch whose credentials do not work, before the rest has failed likewise.

    Args:
        stopping: The batch's.
        after: How many authentication failures in a row are enough; 0 for never.
    """

    def __init__(self, stopping: Stopping, after: int) -> None:
        self._stopping = stopping
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
            self._stopping.ask(Stop.LAUNCHES, reason)


_CREDENTIALS_WORK = frozenset(
    {FailureKind.MAX_TURNS, FailureKind.BUDGET, FailureKind.USAGE_LIMIT, FailureKind.OVERLOADED}
)
