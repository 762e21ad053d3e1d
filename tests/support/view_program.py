"""A program that shows a batch as the command does, for tests on a pseudo-terminal."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import warnings
from typing import Any

from flaude import ConcurrentExecutor, ExecutionRequest, Interrupted, MachineConfig, Timeouts
from flaude.cli.view.choosing import choose_view
from flaude.events import Event, Started


async def main(options: dict[str, Any]) -> int:
    """Run the prompts; ends as the command does."""
    view = choose_view(
        json=options.get("json", False), plain=False, stdout=sys.stdout, stderr=sys.stderr, environ=os.environ
    )
    launched = False

    def take(event: Event) -> None:
        nonlocal launched
        if not launched:
            launched = True
            view.launched(event.batch, "my-app", len(options["prompts"]))
        if isinstance(event, Started):
            logging.getLogger("flaude.test").warning("\x1b[31ma warning\x1b[0m about %s\n  in two lines", event.tag)
            warnings.warn(f"an old way in {event.tag}", stacklevel=1)
        view.take(event)

    executor = ConcurrentExecutor("my-app", on_event=take, timeouts=Timeouts(**options.get("timeouts", {})))
    requests = [ExecutionRequest(MachineConfig(prompt=prompt), tag=tag) for tag, prompt in options["prompts"].items()]
    async with view:
        try:
            batch = await executor.run_batch(requests)
        except Interrupted as stopped:
            view.ended(stopped.batch, 130)
            raise
        view.ended(batch, 0 if batch.all_succeeded else 1)
    return 0 if batch.all_succeeded else 1


if __name__ == "__main__":
    # A shell has its background jobs ignore SIGINT, and who runs the tests may be one.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.exit(asyncio.run(main(json.loads(sys.argv[1]))))
    except KeyboardInterrupt:
        sys.exit(130)
