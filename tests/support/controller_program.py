"""A program that uses flaude as its users do, to be stopped and killed by tests.

Prints a JSON object a line: the batch's events as they come, at last what the batch came to.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import threading
from typing import Any

import anyio
from tests.support.blocking_detector import detecting

from flaude import (
    BatchResult,
    ConcurrentExecutor,
    ExecutionRequest,
    Interrupted,
    MachineConfig,
    Terminated,
    Timeouts,
)
from flaude.events import Event, Finished, Output, PhaseBegan, StopRequested
from flaude.journal import SqliteJournal


def tell(**what: Any) -> None:
    """One line on stdout."""
    print(json.dumps(what), flush=True)  # noqa: T201  # that is how it tells


class Watcher:
    """Tells the phases, that an agent prints, that a run is to stop and that it is over.

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
        if isinstance(event, StopRequested):
            tell(stops=event.tag, reason=event.reason, at_once=event.at_once)
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


async def steps(count: int) -> None:
    """Something that takes the event loop a while."""
    for _ in range(count):
        await asyncio.sleep(0)


class Program:
    """One batch in the main task, or several in tasks of their own, and something to clean up.

    Args:
        options: What the test wants.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._working_on: set[int] = set()
        self._all_work_on = asyncio.Event()

    async def main(self) -> None:
        """Run it."""
        try:
            await self._batches(range(self._options.get("batches", 1)))
        except (Interrupted, Terminated):
            await steps(50)
            tell(came="to main")
            if not self._options.get("main_swallows"):
                raise
        finally:
            await steps(50)
            tell(cleaned=True)

    async def _batches(self, numbers: range) -> None:
        if len(numbers) == 1:
            await self._batch(0)
        elif self._options.get("group"):
            async with anyio.create_task_group() as tasks:
                for number in numbers:
                    tasks.start_soon(self._batch, number)
        elif self._options.get("works_on"):
            workers = [asyncio.ensure_future(self._batch(number)) for number in numbers]
            await self._all_work_on.wait()
            for worker in workers:
                worker.cancel()
            await asyncio.wait(workers)
        else:
            await asyncio.gather(*(self._batch(number) for number in numbers))

    async def _batch(self, number: int) -> None:
        options = self._options
        executor = ConcurrentExecutor(
            "my-app",
            on_event=Watcher(options.get("at_work", "")),
            max_concurrency=options.get("max_concurrency"),
            shards=options.get("shards", 1),
            keep_shards=options.get("keep_shards", True),
            journal=SqliteJournal(options["journal"]) if "journal" in options else None,
            output_dir=options.get("output_dir", "flaude-output"),
            timeouts=Timeouts(
                **{"destroy": options.get("destroy", [120.0] * 9)[number], **options.get("timeouts", {})}
            ),
        )
        requests = [
            ExecutionRequest(
                MachineConfig(prompt=prompt, repos=options.get("repos", []), **options.get("config", {})),
                tag=f"{number}.{index}",
            )
            for index, prompt in enumerate(options["prompts"])
        ]
        try:
            if options.get("completed"):
                batch = BatchResult([result async for result in executor.as_completed(requests)])
            else:
                batch = await executor.run_batch(requests)
        except (Interrupted, Terminated) as stopped:
            if not options.get("group"):  # there, one that is over cancels the others
                await steps(5 * number)
            name = "Interrupted" if isinstance(stopped, Interrupted) else "Terminated"
            tell(raised=name, batches=len(stopped.batches), results=outcome(stopped.batch))
            if options.get("works_on"):
                self._working_on.add(number)
                if len(self._working_on) == options["batches"]:
                    self._all_work_on.set()
                await asyncio.get_running_loop().create_future()
            if options.get("swallows"):
                return
            raise
        tell(raised=None, results=outcome(batch))


async def main(options: dict[str, Any]) -> None:
    """Run the program."""
    await Program(options).main()


if __name__ == "__main__":
    # A shell has its background jobs ignore SIGINT, and who runs the tests may be one.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with detecting(lambda what: tell(blocked=what)):
        asyncio.run(main(json.loads(sys.argv[1])))
