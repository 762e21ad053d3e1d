"""How a batch is told to stop: in stages, each more urgent than the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum

import anyio

from flaude._model.failures import FailureKind


class Stage(IntEnum):
    """What a batch has been asked to leave undone; each stage includes those before it."""

    NOTHING = 0
    LAUNCHES = 1
    """No further run gets a machine; those that have one go on to their end."""
    AGENTS = 2
    """Agents are asked to stop; what they have done is collected, and their machines are destroyed."""
    COLLECTING = 3
    """Nothing more is collected: machines are destroyed at once."""
    DETACH = 4
    """Nothing more is done: machines are left as they are, for another controller."""


class Shutdown:
    """The stage that has been reached, and why. It only ever goes up, and the first reason of a stage stays.

    It takes the place of cancelling tasks: a task that is cancelled cannot say how urgent it is, and one that is
    cancelled twice cannot defend its cleanup.

    Args:
        told: Called with every stage that is reached and its reason.
    """

    def __init__(self, told: Callable[[Stage, str], None] | None = None) -> None:
        self.stage = Stage.NOTHING
        self.reason = ""
        self.kind = FailureKind.CANCELLED
        self.final = False
        self._told = told
        self._requested = False
        self._scopes: dict[anyio.CancelScope, tuple[Stage, float]] = {}
        self._children: list[Shutdown] = []

    def child(self, told: Callable[[Stage, str], None] | None = None) -> Shutdown:
        """One that may stop earlier, and stops whenever this one does.

        Args:
            told: See `Shutdown`.
        """
        child = Shutdown(told)
        child.ask(self.stage, self.reason, self.kind, final=self.final)
        self._children.append(child)
        return child

    def ask(self, stage: Stage, reason: str, kind: FailureKind = FailureKind.CANCELLED, *, final: bool = False) -> None:
        """Go up to `stage`; one that has been reached already changes nothing.

        Args:
            stage: What to leave undone.
            reason: Why, in a sentence.
            kind: What the runs fail with that are stopped, or not launched, for this reason.
            final: Whether somebody wants what is not launched now never to be.
        """
        if stage <= self.stage:
            return
        self.stage, self.reason, self.kind, self.final = stage, reason, kind, self.final or final
        for child in self._children:
            child.ask(stage, reason, kind, final=final)
        for scope, (from_, after_s) in list(self._scopes.items()):
            if from_ <= stage:
                _leave(scope, after_s)
        if self._told is not None:
            self._told(stage, reason)

    def request(self, reason: str) -> None:
        """Somebody wants the end: agents are to stop, if nothing else has asked them to yet."""
        self._requested = True
        self.ask(Stage.AGENTS, reason)

    def next(self, reason: str) -> None:
        """Somebody wants the end or, who has wanted it before, wants it at once: nothing more is collected."""
        if self._requested:
            self.ask(Stage.COLLECTING, reason)
        else:
            self.request(reason)

    @contextmanager
    def interrupts(self, from_: Stage, *, after_s: float = 0.0) -> Iterator[anyio.CancelScope]:
        """A block that is left as soon as `from_` is reached, or so many seconds later; see its `cancelled_caught`."""
        with anyio.CancelScope() as scope:
            self._scopes[scope] = from_, after_s
            if self.stage >= from_:
                _leave(scope, after_s)
            try:
                yield scope
            finally:
                del self._scopes[scope]


def _leave(scope: anyio.CancelScope, after_s: float) -> None:
    if after_s:
        scope.deadline = min(scope.deadline, anyio.current_time() + after_s)
    else:
        scope.cancel()
