"""Why an agent ended as it did, and when a limit of its account is lifted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flaude._agent.output import ResultLine
from flaude._model.failures import FailureKind

_LATEST_TIME = 253_402_300_800
"""The year 10000, in seconds since the epoch: what is not before it is no time."""


def failure_kind(result: ResultLine | None, rate_limit: Mapping[str, Any] | None) -> FailureKind:
    """Why an agent that ended badly did so, from its `result` line and its last `rate_limit_info`."""
    if result is None:
        return FailureKind.AGENT_ERROR
    match result.subtype, result.api_error_status:
        case "error_max_turns", _:
            return FailureKind.MAX_TURNS
        case "error_max_budget_usd", _:
            return FailureKind.BUDGET
        case _, 401 | 403:
            return FailureKind.AUTH
        case _, 429:
            return _limit(result.result, rate_limit or {})
        case _, 503 | 529:
            return FailureKind.OVERLOADED
        case _:
            return FailureKind.AUTH if "/login" in result.result and result.is_error else FailureKind.AGENT_ERROR


def _limit(text: str, rate_limit: Mapping[str, Any]) -> FailureKind:
    """A 429 is the account's usage limit when it names a reset, else only too many requests at once."""
    text = text.lower()
    if rate_limit.get("status") == "rejected" and rate_limit.get("resetsAt"):
        return FailureKind.USAGE_LIMIT
    named = "limit reached" in text or ("usage limit" in text and "not your usage limit" not in text)
    return FailureKind.USAGE_LIMIT if named else FailureKind.OVERLOADED


def lifted_at(rate_limit: Mapping[str, Any] | None) -> float | None:
    """When a limit that was met is lifted, in seconds since the epoch, from the agent's last `rate_limit_info`."""
    return resets_at(rate_limit) if rate_limit and rate_limit.get("status") == "rejected" else None


def resets_at(rate_limit: Mapping[str, Any]) -> float | None:
    """The time that a `rate_limit_info` names, in seconds since the epoch."""
    found = rate_limit.get("resetsAt")
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return float(found) if 0 < found < _LATEST_TIME else None
