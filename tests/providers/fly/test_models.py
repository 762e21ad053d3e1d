from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from flaude._providers.fly import ExecResult, Machine


def event(kind: str, **request: Any) -> dict[str, Any]:
    """An event as Fly shows it."""
    return {"type": kind, "status": "stopped", "source": "flyd", "timestamp": 1653047898717, "request": request}


def test_missing_null_and_unknown_fields() -> None:
    """Zero values may be missing or null, and fields that nobody knows yet do no harm."""
    machine = Machine.model_validate({"id": "1", "state": "brand_new", "config": None, "events": None, "later": 1})
    assert (machine.state, machine.metadata, machine.events, machine.exit_event) == ("brand_new", {}, (), None)
    assert ExecResult.model_validate({"stdout": "x"}) == ExecResult(exit_code=0, stdout="x")


@pytest.mark.parametrize("exited_at", [1653047897299, "2022-05-20T11:58:17.299Z"])
def test_exit_event_in_both_forms(exited_at: int | str) -> None:
    """`exited_at` is milliseconds in Fly's docs and RFC 3339 in Fly's Go client; both mean the same."""
    exit_event = {"exit_code": 137, "oom_killed": True, "exited_at": exited_at, "guest_signal": -1}
    machine = Machine.model_validate({"id": "1", "events": [event("exit", exit_event=exit_event)]})
    assert machine.exit_event is not None
    assert machine.exit_event.exited_at == datetime(2022, 5, 20, 11, 58, 17, 299000, tzinfo=UTC)
    assert (machine.exit_event.exit_code, machine.exit_event.oom_killed) == (137, True)


@pytest.mark.parametrize(
    "exited_at",
    [None, "", "never", {}, [], 10**30, 10**400, -(10**30), 1e300, float("nan"), float("inf"), "2026-13-40T00:00:00Z"],
)
def test_an_exit_at_no_time_is_an_exit(exited_at: Any) -> None:
    """An `exited_at` that nobody can read is left out, and the exit code beside it is not."""
    exit_event = {"exit_code": 137, "exited_at": exited_at}
    machine = Machine.model_validate({"id": "1", "events": [event("exit", exit_event=exit_event)]})
    assert machine.exit_event is not None
    assert (machine.exit_event.exit_code, machine.exit_event.exited_at) == (137, None)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"config": {"metadata": {"a": "1"}}}, {"a": "1"}),
        ({"config": None, "incomplete_config": {"metadata": {"a": "1"}}}, {"a": "1"}),
        ({"incomplete_config": {"metadata": {"a": "1"}}}, {"a": "1"}),
        ({"config": {"metadata": {"a": "1"}}, "incomplete_config": {"metadata": {"a": "2"}}}, {"a": "1"}),
        ({"config": {"image": "x"}, "incomplete_config": {"metadata": {"a": "2"}}}, {}),
        ({"config": None, "incomplete_config": None}, {}),
        ({"config": {"metadata": None}}, {}),
        ({"config": {"metadata": ["a"]}}, {}),
    ],
)
def test_metadata(fields: dict[str, Any], expected: dict[str, str]) -> None:
    """Metadata is `config`'s, and `incomplete_config`'s while the host does not answer with a config."""
    assert Machine.model_validate({"id": "1", **fields}).metadata == expected


def test_the_exit_belongs_to_the_last_start() -> None:
    """Events are newest first; an exit before the newest start is of an earlier run."""
    ended = event("exit", MonitorEvent={"exit_event": {"exit_code": 3}})
    assert (found := Machine.model_validate({"id": "1", "events": [ended, event("start")]}).exit_event)
    assert found.exit_code == 3
    assert Machine.model_validate({"id": "1", "events": [event("start"), ended]}).exit_event is None
