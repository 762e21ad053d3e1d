"""`--json`: a batch as one JSON object a line, for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from flaude._model.results import BatchResult
from flaude.cli.view.nonblocking_writer import Outlet
from flaude.cli.view.streaming_view import StreamedView
from flaude.events import Event
from flaude.events.codec import dump_event


class JsonLines(StreamedView):
    """A `launch` object, then every event, then a `done` object.

    It is ASCII and strict JSON, whatever the agents print: numbers that JSON does not have are null.

    Args:
        stdout: Where to.
    """

    def __init__(self, stdout: TextIO) -> None:
        super().__init__(Outlet(stdout, "ascii"))
        self._batch = ""

    def launched(self, batch: str, app: str, total: int, shards: int = 1) -> None:
        """See `View`."""
        self._batch = batch
        at = datetime.now(UTC).isoformat()
        self._outlet.write(
            _line({"event": "launch", "batch": batch, "app": app, "shards": shards, "total": total, "at": at})
        )

    def text_of(self, event: Event) -> str:
        """An event as `flaude.events.codec` writes it."""
        return _line(dump_event(event))

    def tell_end(self, result: BatchResult, exit_code: int) -> None:
        """What the batch came to, without the results: those were in the events."""
        self._outlet.write(
            _line(
                {
                    "event": "done",
                    "batch": self._batch,
                    "total": result.total,
                    "succeeded": result.succeeded,
                    "failed": result.failed,
                    "cost_usd": result.cost_usd,
                    "machine_cost_usd": result.machine_cost_usd,
                    "seconds": result.seconds,
                    "stopped_by": result.stopped_by,
                    "leftovers": [leftover.model_dump() for leftover in result.leftovers],
                    "shards_left": result.shards_left,
                    "exit_code": exit_code,
                }
            )
        )


def _line(value: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        text = json.dumps(_strict(value))
    return text + "\n"


def _strict(value: Any) -> Any:
    """The value with null for the numbers that JSON does not have."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: _strict(item) for key, item in value.items()}
        case list():
            return [_strict(item) for item in value]
        case _:
            return value
