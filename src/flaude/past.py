"""What is known of a batch when a controller begins it: nothing, or what another one has left."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from flaude.left_run import LeftRun
from flaude.results import ExecutionResult


def new_batch_id() -> str:
    """An id that no other batch has; it is in the names of the machines."""
    return secrets.token_hex(5)


@dataclass(frozen=True)
class Past:
    """What has happened to a batch before.

    Attributes:
        id: The batch's id.
        partly: Whether only some of its open runs are taken up.
        finished: The results of runs that are over, by their index.
        left: Where other runs were left, by their index.
        spent_usd: What agents that are no longer under way have cost, in US dollars; what is not known, with all that
            it might have been.
        machine_seconds: How long machines that are gone have been there, in seconds.
    """

    id: str = field(default_factory=new_batch_id)
    partly: bool = False
    finished: Mapping[int, ExecutionResult] = field(default_factory=dict)
    left: Mapping[int, LeftRun] = field(default_factory=dict)
    spent_usd: float = 0.0
    machine_seconds: float = 0.0
