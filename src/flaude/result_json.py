"""An `ExecutionResult` as JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flaude.errors import ConfigError, FlaudeError, RunFailedError
from flaude.failure import Failure
from flaude.results import ExecutionResult
from flaude.run_result import Attempt, RunResult


def dump_result(result: ExecutionResult) -> dict[str, Any]:
    """All of it, as `json.dumps` takes it; bytes are base64."""
    error, failure = result.error, getattr(result.error, "failure", None)
    return {
        "tag": result.tag,
        "success": result.success,
        "run_result": result.run_result.model_dump(mode="json") if result.run_result else None,
        "error": None
        if error is None
        else {
            "type": type(error).__name__,
            "message": str(error),
            "failure": failure.model_dump(mode="json") if isinstance(failure, Failure) else None,
        },
        "attempts": [attempt.model_dump(mode="json") for attempt in result.attempts],
        "superseded": [run.model_dump(mode="json") for run in result.superseded],
    }


def load_result(kept: Mapping[str, Any]) -> ExecutionResult:
    """The result again. An error comes back as what a caller decides by: its failure, or its sentence."""
    run = kept["run_result"]
    return ExecutionResult(
        tag=kept["tag"],
        run_result=RunResult.model_validate(run) if run else None,
        error=_error(kept["error"]) if kept["error"] else None,
        attempts=tuple(Attempt.model_validate(attempt) for attempt in kept["attempts"]),
        superseded=tuple(RunResult.model_validate(run) for run in kept["superseded"]),
    )


def _error(kept: Mapping[str, Any]) -> FlaudeError:
    if kept["type"] == ConfigError.__name__:
        return ConfigError(kept["message"])
    if kept["failure"]:
        return RunFailedError(Failure.model_validate(kept["failure"]))
    return FlaudeError(kept["message"])
