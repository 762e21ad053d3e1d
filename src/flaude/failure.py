"""Why a run failed, and where in its life it was."""

from __future__ import annotations

from flaude.frozen import Frozen
from flaude.kinds import FailureKind, Phase

__all__ = ["Failure", "FailureKind", "Phase"]


class Failure(Frozen):
    """Why a run failed: `kind` for programs, `message` for people, `phase` for both."""

    kind: FailureKind
    phase: Phase
    message: str

    @property
    def retryable(self) -> bool:
        """Whether the same request may well succeed later, unchanged."""
        return self.kind.retryable
