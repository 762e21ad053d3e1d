"""`Retries`: which failed runs are tried again, on a new machine."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flaude._model.backoff import doubled, jitter
from flaude._model.errors import ConfigError
from flaude._model.failures import FailureKind

if TYPE_CHECKING:
    from flaude._model.run_result import Failure

INFRASTRUCTURE = frozenset(
    {
        FailureKind.CAPACITY,
        FailureKind.BOOT_TIMEOUT,
        FailureKind.MACHINE_LOST,
        FailureKind.MACHINE_STOPPED,
        FailureKind.API,
    }
)
"""Failures that are Fly's and not the request's: another machine may well do."""

_LONGEST_WAIT_S = 30.0


@dataclass(frozen=True)
class Retries:
    """Which failed runs are tried again, each time on a new machine.

    Attributes:
        more: How many more attempts a run may have; 0 for none.
        kinds: The kinds of failure that are worth another. If there are any, so is a failure that is `transient`.
        after_start: Also when the agent has started, or may have: its work is done, and paid for, once more.
        wait: Seconds until the second attempt; twice as long each time, 30 at most, with jitter.

    Raises:
        ConfigError: A value is of no use.
    """

    more: int = 2
    kinds: AbstractSet[FailureKind] = INFRASTRUCTURE
    after_start: bool = False
    wait: float = 1.0

    def __post_init__(self) -> None:
        """Check every value."""
        if isinstance(self.more, bool) or not isinstance(self.more, int) or self.more < 0:
            raise ConfigError(f"retries.more: give a number from 0, not {self.more!r}")
        if not self.wait >= 0:
            raise ConfigError(f"retries.wait: give seconds from 0, not {self.wait!r}")
        try:
            object.__setattr__(self, "kinds", frozenset(FailureKind(kind) for kind in self.kinds))
        except (TypeError, ValueError) as error:
            known = ", ".join(FailureKind)
            raise ConfigError(f"retries.kinds: {error}; give some of {known}") from None

    def again(self, failure: Failure, *, attempts: int, agent_started: bool) -> bool:
        """Whether a run that has had `attempts` attempts, the last one with this failure, gets another."""
        kind_counts = failure.kind in self.kinds or (failure.transient and bool(self.kinds))
        worth_it = attempts <= self.more and kind_counts
        return worth_it and (self.after_start or not agent_started)

    def pause_s(self, attempts: int) -> float:
        """Seconds to wait after that many attempts."""
        return min(jitter(doubled(self.wait, attempts, _LONGEST_WAIT_S)), _LONGEST_WAIT_S)
