"""What the agent's end means. Pure: numbers and the result line in, the exit code out."""

from __future__ import annotations

from typing import Any

EX_SOFTWARE = 70
TIMED_OUT = 124  # what timeout(1) exits with
INTERRUPTED = 130  # 128 + SIGINT
KILLED = 137  # 128 + SIGKILL
TERMINATED = 143  # 128 + SIGTERM

_STOPPED = {
    "deadline": TIMED_OUT,
    "idle": TIMED_OUT,
    "orphan": TIMED_OUT,
    "cancelled": INTERRUPTED,
    "stopped": TERMINATED,
}


def exit_code(returncode: int | None, ended_by: str, result_line: dict[str, Any] | None) -> int | None:
    """The run's exit code.

    Claude Code exits 0 without a result line when it is interrupted and when its prompt is empty, and reports errors
    in a line whose subtype is "success": exit 0 counts only with a result line that is no error.

    Args:
        returncode: As `subprocess` gives it, negative for a signal; `None` when the agent never started.
        ended_by: What ended the run.
        result_line: The agent's last line of type `result`.
    """
    if returncode is None:
        return None
    code = 128 - returncode if returncode < 0 else returncode
    if code:
        return code
    if ended_by in _STOPPED:
        return _STOPPED[ended_by]
    if result_line is None or result_line.get("is_error"):
        return EX_SOFTWARE
    return 0


def process_exit_code(code: int | None, ended_by: str) -> int:
    """What the supervisor itself exits with: the agent's code, or what says why there is none."""
    if code is not None:
        return code
    return {"clone": 66, "image": 69}.get(ended_by, EX_SOFTWARE)
