"""What a batch may cost: dollars for the agents, which are reserved at each launch."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal

import anyio

from flaude._run.shutdown import Shutdown, Stage


@dataclass(eq=False)
class Reservation:
    """A run's part of the budget, until it is over.

    Attributes:
        usd: US dollars that it may cost.
        granted: Whether it may be launched; not when it does not fit and nothing can free any more.
        spent: What it did cost; what is not known is taken for all of it.
    """

    usd: Decimal
    granted: bool = False
    spent: Decimal | None = None
    decided: anyio.Event = field(default_factory=anyio.Event)

    def charge(self, usd: float | None, *, agent_started: bool) -> None:
        """What the run did cost: its agent's word, nothing without an agent, and else all that it might have."""
        if usd is not None:
            self.spent = _exact(usd)
        elif not agent_started:
            self.spent = Decimal(0)


class Budget:
    """The dollars of one batch.

    Launches that do not fit wait, in their order, for what others leave when they end. One that does not fit when no
    other is under way never will.

    Args:
        usd: US dollars; None for no limit.
        spent: What of it is spent already, in US dollars.
    """

    def __init__(self, usd: float | None, spent: float = 0.0) -> None:
        self._usd = None if usd is None else _exact(usd)
        self._spent = _exact(spent)
        self._reserved = Decimal(0)
        self._under_way = 0
        self._waiting: deque[Reservation] = deque()
        self.refused = 0

    @property
    def told(self) -> str:
        """How much of it is spent, in words."""
        return f"budget_usd: {dollars(self._spent)} of {dollars(self._usd or Decimal(0))} are spent"

    @asynccontextmanager
    async def reserve(
        self, usd: float | None, shutdown: Shutdown, *, under_way: bool = False
    ) -> AsyncIterator[Reservation]:
        """A part of the budget, once there is one, or the word that there is none; see `Reservation.granted`.

        Args:
            usd: US dollars that the run may cost; nothing to reserve when the batch has no budget.
            shutdown: Tells when launching stops; then it is not granted.
            under_way: Whether the run has been launched before: then nobody asks whether it may be.
        """
        reservation = Reservation(Decimal(0) if usd is None or self._usd is None else _exact(usd))
        if under_way:
            self._grant(reservation)
        else:
            self._waiting.append(reservation)
            self._decide()
        try:
            if not under_way:
                with shutdown.interrupts(Stage.LAUNCHES):
                    await reservation.decided.wait()
            yield reservation
        finally:
            self._end(reservation)

    def _decide(self) -> None:
        """Grant what fits, in the order of asking; refuse the first when nobody is left to wait for."""
        while self._waiting:
            first = self._waiting[0]
            fits = self._usd is None or self._spent + self._reserved + first.usd <= self._usd
            if not fits and self._under_way:
                return
            self._waiting.popleft()
            if fits:
                self._grant(first)
            else:
                self.refused += 1
            first.decided.set()

    def _grant(self, reservation: Reservation) -> None:
        reservation.granted = True
        self._reserved += reservation.usd
        self._under_way += 1

    def _end(self, reservation: Reservation) -> None:
        if reservation.granted:
            self._reserved -= reservation.usd
            self._under_way -= 1
            self._spent += reservation.usd if reservation.spent is None else reservation.spent
        elif reservation in self._waiting:
            self._waiting.remove(reservation)
        self._decide()


def _exact(usd: float) -> Decimal:
    # As it is written, not as it is stored: ten times 0.1 is 1 here.
    return Decimal(repr(float(usd)))


def dollars(amount: Decimal) -> str:
    """An amount for people: cents, or as many digits as it takes."""
    cents = amount.quantize(Decimal("0.01"))
    return f"${cents if cents == amount else amount.normalize():f}"
