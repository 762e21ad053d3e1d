"""Events as JSON objects, and back: what `--json` prints and what a journal keeps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from flaude import events
from flaude._model.codec import dump_result, load_result
from flaude._model.errors import FlaudeError
from flaude._model.failures import Phase
from flaude._model.results import ExecutionResult
from flaude._model.run_result import Failure
from flaude.events import Event


def _word(kind: type[Event]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


_KINDS: dict[str, type[Event]] = {
    _word(kind): kind
    for kind in vars(events).values()
    if isinstance(kind, type) and issubclass(kind, Event) and not kind.__subclasses__()
}


def kind_of(event: Event) -> str:
    """The event's word, such as `created` or `assistant_text`."""
    return _word(type(event))


def dump_event(event: Event, *, without: str = "") -> dict[str, Any]:
    """All of it but one field: `event` is its kind, the rest are its fields; times are ISO 8601 in UTC."""
    values = {field.name: _plain(getattr(event, field.name)) for field in fields(event) if field.name != without}
    return {"event": kind_of(event), **values}


def load_event(kept: Mapping[str, Any]) -> Event:
    """The event again.

    Raises:
        FlaudeError: There is no such kind of event.
    """
    values = dict(kept)
    kind = _KINDS.get(values.pop("event", ""))
    if kind is None:
        raise FlaudeError(f"event: {kept.get('event')!r} is no kind of event")
    values["at"] = datetime.fromisoformat(values["at"])
    if values.get("resets_at"):
        values["resets_at"] = datetime.fromisoformat(values["resets_at"])
    if "phase" in values:
        values["phase"] = Phase(values["phase"])
    if "failure" in values:
        values["failure"] = Failure.model_validate(values["failure"])
    if "result" in values:
        values["result"] = load_result(values["result"])
    return kind(**values)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Failure):
        return value.model_dump(mode="json")
    if isinstance(value, ExecutionResult):
        return dump_result(value)
    return value
