"""Why a run failed, and where in its life it was."""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """Where in its life a run is; the order of the members is the order of time."""

    QUEUED = "queued"
    CREATE = "create"
    BOOT = "boot"
    CLONE = "clone"
    AGENT = "agent"
    COLLECT = "collect"
    DESTROY = "destroy"
    DONE = "done"


class FailureKind(StrEnum):
    """What made a run fail, in one word that a program can decide by."""

    CREATE_REFUSED = "create_refused"
    CAPACITY = "capacity"
    BOOT_TIMEOUT = "boot_timeout"
    IMAGE = "image"
    CLONE = "clone"
    AUTH = "auth"
    USAGE_LIMIT = "usage_limit"
    OVERLOADED = "overloaded"
    MAX_TURNS = "max_turns"
    BUDGET = "budget"
    COLLECT = "collect"
    AGENT_ERROR = "agent_error"
    IDLE = "idle"
    DEADLINE = "deadline"
    OOM = "oom"
    MACHINE_LOST = "machine_lost"
    MACHINE_STOPPED = "machine_stopped"
    CANCELLED = "cancelled"
    API = "api"
    INTERNAL = "internal"

    @property
    def retryable(self) -> bool:
        """Whether the same request may well succeed later, unchanged."""
        return self in _RETRYABLE


_RETRYABLE = frozenset(
    {
        FailureKind.CAPACITY,
        FailureKind.BOOT_TIMEOUT,
        FailureKind.USAGE_LIMIT,
        FailureKind.OVERLOADED,
        FailureKind.IDLE,
        FailureKind.MACHINE_LOST,
        FailureKind.MACHINE_STOPPED,
        FailureKind.CANCELLED,
        FailureKind.API,
    }
)
