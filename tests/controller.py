"""A program that uses flaude as its users do, to be stopped and killed by tests: `python -m tests.controller JSON`.

Prints a JSON object a line: the batch's events as they come, at last what the batch came to.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from typing import Any

import anyio

from flaude import (
    BatchResult,
    ConcurrentExecutor,
    ExecutionRequest,
    Interrupted,
    MachineConfig,
    Terminated,
    Timeouts,
)
from flaude.events import Event, Finished, Output, PhaseBegan


def tell(**what: Any) -> None:
    """One line on stdout."""
    print(json.dumps(what), flush=True)  # noqa: T201  # that is how it tells


class Watcher:
    """Tells the phases, that an agent prints and that a run is over.

    At an agent's first line it does what `at_work` says: `tears` closes the event loop over the batch's head, `tears
    later` does so while a handler waits, `blocks` keeps the event loop for itself.
    """

    def __init__(self, at_work: str) -> None:
        self._at_work = at_work

    async def __call__(self, event: Event) -> None:
        """Take an event."""
        if isinstance(event, PhaseBegan):
            tell(phase=event.phase, tag=event.tag)
        if isinstance(event, Finished):
            tell(finished=event.tag)
        if isinstance(event, Output):
            tell(output=event.tag)
            at_work, self._at_work = self._at_work, ""
            match at_work:
                case "tears":
                    asyncio.get_running_loop().call_soon(sys.exit, 3)
                case "tears later":
                    asyncio.get_running_loop().call_soon(sys.exit, 3)
                    await asyncio.get_running_loop().create_future()
                case "blocks":
                    threading.Event().wait()


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


async def run(options: dict[str, Any], number: int) -> None:
    """Run a batch."""
    executor = ConcurrentExecutor(
        "my-app",
        on_event=Watcher(options.get("at_work", "")),
        max_concurrency=options.get("max_concurrency"),
        timeouts=Timeouts(**{"destroy": options.get("destroy", [120.0] * 9)[number], **options.get("timeouts", {})}),
    )
    requests = [
        ExecutionRequest(MachineConfig(prompt=prompt, repos=options.get("repos", [])), tag=f"{number}.{index}")
        for index, prompt in enumerate(options["prompts"])
    ]
    try:
        if options.get("completed"):
            batch = BatchResult([result async for result in executor.as_completed(requests)])
        else:
            batch = await executor.run_batch(requests)
    except (Interrupted, Terminated) as stopped:
        name = "Interrupted" if isinstance(stopped, Interrupted) else "Terminated"
        await asyncio.sleep(0)
        tell(raised=name, batches=len(stopped.batches), results=outcome(stopped.batch))
        if not options.get("swallows"):
            raise
        return
    tell(raised=None, results=outcome(batch))


async def main(options: dict[str, Any]) -> None:
    """Run one batch, or several side by side, with something of the program's own to clean up."""
    numbers = range(options.get("batches", 1))
    try:
        if len(numbers) == 1:
            await run(options, 0)
        elif options.get("group"):
            async with anyio.create_task_group() as tasks:
                for number in numbers:
                    tasks.start_soon(run, options, number)
        else:
            await asyncio.gather(*(run(options, number) for number in numbers))
    finally:
        await asyncio.sleep(0)
        tell(cleaned=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
