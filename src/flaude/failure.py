"""Why a run failed, and where in its life it was."""

from __future__ import annotations

from flaude.frozen import Frozen
from flaude.kinds import FailureKind, Phase

__all__ = ["Failure", "FailureKind", "Phase"]


class Failure(Frozen):
    """Why a run failed: `kind` for programs, `message` for people, `phase` for both.

    `transient` says of this one failure that the network or a service caused it, whatever its kind usually means: an
    `image` whose `npm install` failed because the registry did not answer, a `clone` whose connection was reset.
    """

    kind: FailureKind
    phase: Phase
    message: str
    transient: bool = False

    @property
    def retryable(self) -> bool:
        """Whether the same request may well succeed later, unchanged."""
        return self.transient or self.kind.retryable
