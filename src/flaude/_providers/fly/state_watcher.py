"""Waiting until machines are in a state: each by a call of its own, or many of them by one list."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from flaude._model.errors import FlyError
from flaude._providers.fly.diagnosis import ENDED_STATES, GONE

if TYPE_CHECKING:
    from flaude._providers.fly import FlyClient

_log = logging.getLogger(__name__)

_FEWEST = 8
_LISTED_FOR_A_CALL = 50  # so many machines in a list cost as much as one call for a single one (`make bench`)
_BETWEEN_LISTS_S = 0.25
_LISTS_WITHOUT_IT = 3


@dataclass(eq=False)
class _Waiting:
    machine_id: str
    wanted: str
    seen: str = ""
    lists: int = 0

    @property
    def over(self) -> bool:
        """Whether it is in its state, or never will be."""
        return self.seen == self.wanted or (self.wanted != GONE and self.seen in ENDED_STATES)


class MachineStates:
    """Sees how the machines of a batch are, in one app.

    A few that are waited for cost a call each, which Fly answers when the state is there. When many boot or go at the
    same time, one of those who wait asks for a list on behalf of all. A list is only a shorter way: a machine that the
    first few do not show is asked for by itself, then and later.

    Args:
        fly: The client.
        app: The app.
        metadata: What those machines have in their metadata, and as few others as possible.
    """

    def __init__(self, fly: FlyClient, app: str, metadata: Mapping[str, str]) -> None:
        self._fly = fly
        self._app = app
        self._metadata = metadata
        self._waiting: set[_Waiting] = set()
        self._listed = 0
        self._by_themselves: set[str] = set()
        self._looking: anyio.Event | None = None
        self._looked_at = float("-inf")

    async def wait(self, machine_id: str, state: str, *, timeout_s: int) -> bool:
        """Wait until a machine is in a state, and return whether it is.

        Returns early if the state can no longer be reached. Waiters share one list call; lists come from a replica and
        lag a little. A machine that is missing from the first three lists, or whose list fails, gets a wait call of its
        own, which may take another `timeout_s`.

        Args:
            machine_id: The machine.
            state: `started` or `destroyed`.
            timeout_s: Seconds, 1 to 60.

        Raises:
            NotFoundError: Fly does not know the machine: it is gone, or not visible yet.
            FlyError: Fly did not answer.
        """
        waiting = _Waiting(machine_id, state)
        self._waiting.add(waiting)
        try:
            if self._is_worth_a_list and machine_id not in self._by_themselves:
                with anyio.move_on_after(timeout_s):
                    if await self._see(waiting):
                        return waiting.seen == state
                    waiting.seen = ""
                if waiting.seen:
                    return False
                self._by_themselves.add(machine_id)
            return await self._fly.wait_machine(self._app, machine_id, state=state, timeout_s=timeout_s)
        finally:
            self._waiting.discard(waiting)

    @property
    def _is_worth_a_list(self) -> bool:
        return len(self._waiting) >= max(_FEWEST, self._listed // _LISTED_FOR_A_CALL)

    async def _see(self, waiting: _Waiting) -> bool:
        """Wait for a list in which it is over; False when lists do not show it."""
        while not waiting.over:
            if not waiting.seen and waiting.lists >= _LISTS_WITHOUT_IT:
                return False
            if self._looking is not None:
                await self._looking.wait()
                continue
            looking = self._looking = anyio.Event()
            try:
                await anyio.sleep_until(self._looked_at + _BETWEEN_LISTS_S)
                await self._look()
            except FlyError as error:
                _log.info("no list of the machines of %s: %s", self._app, error)
                return False  # not even a 404 is a word on the machine: it is said of the app
            finally:
                self._looking, self._looked_at = None, anyio.current_time()
                looking.set()
        return True

    async def _look(self) -> None:
        gone_too = any(waiting.wanted == GONE for waiting in self._waiting)
        found = await self._fly.machine_states(self._app, metadata=self._metadata, include_deleted=gone_too)
        self._listed = len(found)
        for waiting in self._waiting:
            waiting.seen = found.get(waiting.machine_id, waiting.seen)
            waiting.lists += 1


class StatesOfApps:
    """The same in all apps of a batch.

    Args:
        fly: The client.
        metadata: See `MachineStates`.
    """

    def __init__(self, fly: FlyClient, metadata: Mapping[str, str]) -> None:
        self._fly = fly
        self._metadata = metadata
        self._apps: dict[str, MachineStates] = {}

    def of(self, app: str) -> MachineStates:
        """Those of an app."""
        return self._apps.setdefault(app, MachineStates(self._fly, app, self._metadata))
