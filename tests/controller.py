"""A program that uses flaude as its users do, to be stopped and killed by tests: `python -m tests.controller JSON`.

Prints a JSON object a line: the batch's events as they come, at last what the batch came to.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from flaude import (
    BatchResult,
    ConcurrentExecutor,
    ExecutionRequest,
    Interrupted,
    MachineConfig,
    Terminated,
    Timeouts,
)
from flaude.events import Event, Output, PhaseBegan


def tell(**what: Any) -> None:
    """One line on stdout."""
    print(json.dumps(what), flush=True)  # noqa: T201  # that is how it tells


class Watcher:
    """Tells the phases, and that an agent prints; with `tears` it closes the event loop over the batch's head then."""

    def __init__(self, *, tears: bool) -> None:
        self._tears = tears

    def __call__(self, event: Event) -> None:
        """Take an event."""
        if isinstance(event, PhaseBegan):
            tell(phase=event.phase, tag=event.tag)
        if isinstance(event, Output):
            tell(output=event.tag)
            if self._tears:
                self._tears = False
                asyncio.get_running_loop().call_soon(sys.exit, 3)


def outcome(batch: BatchResult) -> list[dict[str, Any]]:
    """What a test wants to know of a batch."""
    return [
        {
            "tag": result.tag,
            "success": result.success,
            "kind": result.failure.kind if result.failure else None,
            "message": result.failure.message if result.failure else "",
            "changed": [
                change.path
                for patch in (result.run_result.patches if result.run_result else ())
                for change in patch.changes
            ],
            "gone": all(attempt.gone for attempt in result.attempts),
        }
        for result in batch.results
    ]


async def main(options: dict[str, Any]) -> None:
    """Run a batch."""
    executor = ConcurrentExecutor(
        "my-app",
        on_event=Watcher(tears=options.get("tears", False)),
        max_concurrency=options.get("max_concurrency"),
        timeouts=Timeouts(**options.get("timeouts", {})),
    )
    requests = [
        ExecutionRequest(MachineConfig(prompt=prompt, repos=options.get("repos", [])), tag=str(index))
        for index, prompt in enumerate(options["prompts"])
    ]
    try:
        if options.get("completed"):
            batch = BatchResult([result async for result in executor.as_completed(requests)])
        else:
            batch = await executor.run_batch(requests)
    except (Interrupted, Terminated) as stopped:
        tell(raised=type(stopped).__name__, results=outcome(stopped.batch))
        raise
    tell(raised=None, results=outcome(batch))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
