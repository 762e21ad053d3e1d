"""For how many machines Fly has room, as its refusals show it. Pure: times go in, and a verdict comes out.

A refusal makes of what is there the most that there may be. Whoever waits gets the place of a machine that has gone;
and after a while one more is tried beyond that. When it gets its machine, more are, and more at a time, until the
next refusal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from flaude._model.backoff import jitter

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_FORGOTTEN_S = 600.0
"""After so many seconds without a refusal the next one is news."""


@dataclass(frozen=True)
class Refusal:
    """What a refusal means.

    Attributes:
        is_news: Whether it is the first one: later ones are more of the same.
        is_final: Whether there was no room for as long as one waits for it.
        tries: How many were refused since the last machine was there.
        waited_s: For how many seconds there was no room, and no machine that would make some.
        alive: How many machines are there.
    """

    is_news: bool
    is_final: bool
    tries: int
    waited_s: float
    alive: int


class MachineCapacity:
    """One kind of place at Fly: in certain regions and for a size, or in the whole organisation.

    All times are seconds of one clock. A launch has a number, higher than those before it.

    Args:
        wait_s: For how long one waits while no machine of ours is there.
        halves: Whether a refusal halves what may be there: the room is not only ours, and nobody knows how much it is.
        spread: Makes pauses uneven, so that many controllers do not ask at the same time.
    """

    def __init__(self, wait_s: float, *, halves: bool, spread: Callable[[float], float] = jitter) -> None:
        self.width = math.inf
        self.held = self.alive = 0
        self._wait_s = wait_s
        self._halves = halves
        self._spread = spread
        self._pause_s = _FIRST_PAUSE_S
        self._try_at = 0.0
        self._tried = 0  # the launch that was let in beyond the width, until its create has an answer
        self._grows = False
        self._last = self._halved = 0
        self._tries = 0
        self._since: float | None = None
        self._is_over = False
        self._refused_at = self._said_at = -math.inf

    def opens_in(self, now: float) -> float:
        """Seconds until somebody else is let in; `inf` when that depends on those who are in."""
        if self.held < self.width:
            return 0.0
        return max(0.0, self._try_at - now)

    def enter(self, number: int, *, has_machine: bool = False) -> None:
        """A launch is let in; or is in already, as it has a machine, or may have."""
        if self.held >= self.width and not has_machine:
            self._tried, self._try_at = number, math.inf
        self.held += 1
        self.alive += has_machine

    def made(self, number: int, now: float) -> None:
        """The launch has its machine."""
        self.alive += 1
        self._since, self._tries = None, 0
        if number == self._tried or (self._grows and number > self._last):
            self._tried, self._grows, self._pause_s = 0, True, _FIRST_PAUSE_S
            self.width = max(self.width, self.held) + 2
            self._try_at = now + self._spread(self._pause_s)

    def leave(self, number: int, now: float, *, had_machine: bool) -> None:
        """The launch is over, or it waits again."""
        self.held -= 1
        self.alive -= had_machine
        if number == self._tried:  # nobody knows what would have come of it
            self._tried, self._try_at = 0, now + self._spread(self._pause_s)

    def refused(self, number: int, launched: int, now: float, asked: float = -math.inf) -> Refusal:
        """There was no room for the launch, which is still in.

        Args:
            number: The launch.
            launched: The number of the last launch: all up to it are under way together.
            now: The time.
            asked: When its run was asked for. Who comes later waits as long as those who have waited in vain.
        """
        given_up = self._is_over and asked > self._refused_at  # by all who have waited
        forgotten = given_up or now - self._refused_at > _FORGOTTEN_S
        is_news = math.isinf(self.width) or forgotten or asked > self._said_at
        self._refused_at = now
        if is_news:
            self._said_at = now
        if forgotten:
            self._since, self._tries, self._pause_s = None, 0, _FIRST_PAUSE_S
        rest = self.held - 1
        if self._halves and number > self._halved:
            self._halved = launched
            rest = min(rest, self.held // 2)
        self.width = min(self.width, rest)
        self._last, self._grows = launched, False
        if number == self._tried:
            self._tried, self._pause_s = 0, min(2 * self._pause_s, _LONGEST_PAUSE_S)
        self._tries += 1
        self._since = None if self.alive else now if self._since is None else self._since
        since = None if self._since is None else max(self._since, asked)
        waited_s = 0.0 if since is None else now - since
        until = math.inf if since is None else since + self._wait_s
        is_final = self._is_over = now >= until  # as the last try is timed: `waited_s` may be rounded to less
        self._try_at = now if is_final else min(now + self._spread(self._pause_s), until)  # once more at the end
        return Refusal(is_news, is_final, self._tries, waited_s, self.alive)


def no_room(refusal: Refusal, *, limit: bool, regions: str, wait_s: float) -> str:
    """The first refusal, for people; all runs that want such a machine are meant.

    Args:
        refusal: The refusal.
        limit: Whether it is the organisation's limit.
        regions: What was asked for.
        wait_s: For how long runs wait while no machine is there.
    """
    where = "more machines: the organisation has reached its machine limit" if limit else f"such a machine in {regions}"
    what = f"Fly has no room for {where if limit or regions else 'such a machine'}"
    if not refusal.alive:
        return f"{what}; the runs wait, up to {wait_s:g} s (timeouts.capacity)"
    there = "1 machine of this batch is" if refusal.alive == 1 else f"{refusal.alive} machines of this batch are"
    return f"{what}; {there} there, and the other runs wait for their places"


def never_room(refusal: Refusal, *, limit: bool, regions: str) -> str:
    """What to do about the last refusal, for people; the arguments are those of `no_room`."""
    tried = f"{refusal.tries} tries in {refusal.waited_s:.0f} s" if refusal.tries > 1 else "1 try"
    if limit:
        return (
            f"{tried}, and no machine of this batch was there that could make room (timeouts.capacity): delete what is "
            "not needed (`flaude reap`, `fly apps list`), or ask billing@fly.io for a higher limit, and run it again"
        )
    where = f" in {regions}" if regions else ""
    return f"{tried}{where} (timeouts.capacity): give other regions in `region`, a smaller `vm_size`, or run it later"
