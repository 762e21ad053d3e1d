"""Who is told how far a run is, so that another controller can take it up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from flaude._model.results import ExecutionResult
from flaude._model.run_result import RunResult
from flaude._run.checkpoint import CollectedWork
from flaude.events import Event

StoredCheckpoint = tuple[str, Mapping[str, Any]]
"""A run's phase, and where another controller takes it up, as JSON."""


class RunRecorder(Protocol):
    """Takes what is to be known of one run. Nothing of it raises, but for `durable`."""

    checkpoint: Callable[[], StoredCheckpoint] | None
    """Tells how far the run is, whenever that is written."""

    def event(self, event: Event) -> None:
        """Something has happened; it is written soon."""

    def moved(self) -> None:
        """The run has come further; it is written soon."""

    async def durable(self) -> None:
        """Return when all that was told before is written, and the batch is still this process's.

        Raises:
            LeaseLostError: Another one has it.
            JournalError: It could not be written.
        """

    async def collected(self, attempt: int, collected: CollectedWork) -> bool:
        """Keep what the machine of an attempt has given, before it is told that it may go; whether it is kept."""

    async def attempted(self, number: int, brought: RunResult) -> None:
        """Keep what an attempt has brought that is not the last one."""

    async def over(self, result: ExecutionResult, last: Event | None = None) -> None:
        """Keep the result of the run.

        Args:
            result: The result.
            last: The run's last event, written together with the result. A later `event` with it writes nothing.
        """


class NullRecorder:
    """For a batch without a journal."""

    checkpoint: Callable[[], StoredCheckpoint] | None = None

    def event(self, event: Event) -> None:
        """Take an event."""

    def moved(self) -> None:
        """Take a step."""

    async def durable(self) -> None:
        """Nothing is to be written."""

    async def collected(self, attempt: int, collected: CollectedWork) -> bool:  # noqa: ARG002  # as the protocol has it
        """Take a harvest."""
        return True

    async def attempted(self, number: int, brought: RunResult) -> None:
        """Take an attempt."""

    async def over(self, result: ExecutionResult, last: Event | None = None) -> None:
        """Take a result."""
