"""The process that is measured: one batch of agents that sleep, and what it took, as JSON on stdout.

Its task is a JSON object on stdin, see `Task`. It is a process of its own so that its processor time and its memory are
those of the controller alone, and it is prepared as the command prepares its own.
"""

from __future__ import annotations

import cProfile
import json
import os
import resource
import sys
import time
from dataclasses import asdict, dataclass, field
from datetime import datetime

import anyio

from benchmarks.computer import starved_s
from flaude import ConcurrentExecutor, ExecutionRequest, ExecutionResult, MachineConfig
from flaude.cli.process import prepare_process
from flaude.events import Destroying, Event, Finished, OtherOutput


@dataclass(frozen=True)
class Task:
    """What to run.

    Attributes:
        app: The app.
        durations: Seconds that each agent sleeps.
        max_concurrency: How many machines at once; None for no limit.
        rate_limits: The executor's; None for calls without pacing.
        shards: The executor's.
        watch: Whether to look at each run's events, for when its agent ended.
        profile: File for cProfile's statistics.
        cpus: The processors that the controller may use; all when left out.
        nice: Added to its priority number.
    """

    app: str
    durations: list[float]
    max_concurrency: int | None = None
    rate_limits: float | None = None
    shards: int = 1
    watch: bool = False
    profile: str = ""
    cpus: list[int] = field(default_factory=list)
    nice: int = 0


@dataclass
class Taken:
    """What it took.

    Attributes:
        wall_s: From the batch's begin to its last result.
        cpu_s: Seconds of processor time for it.
        starved_s: Seconds for which others had the processor meanwhile.
        empty_mb: The most memory before it, with all connections' pools there.
        peak_mb: The most memory in all.
        failures: What went wrong, in words.
        launched: When each run's create call left, in seconds since the epoch, first to last.
        to_work: Seconds from each agent's end to all of its work being here; watched runs only.
        to_result: Seconds from each agent's end to its result, its machine confirmed gone; watched runs only.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    starved_s: float = 0.0
    empty_mb: float = 0.0
    peak_mb: float = 0.0
    failures: list[str] = field(default_factory=list)
    launched: list[float] = field(default_factory=list)
    to_work: list[float] = field(default_factory=list)
    to_result: list[float] = field(default_factory=list)


class Watcher:
    """Takes the times of a batch's events: an agent that ticks once says when it is at its end."""

    def __init__(self, taken: Taken) -> None:
        self._taken = taken
        self._ended: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        """Take an event."""
        match event:
            case OtherOutput(line={"type": "tick", "at": float(at)}):
                self._ended[event.tag] = at
            case Destroying() if event.tag in self._ended:
                self._taken.to_work.append(time.time() - self._ended[event.tag])
            case Finished() if event.tag in self._ended:
                self._taken.to_result.append(time.time() - self._ended[event.tag])
            case _:
                pass


async def run(task: Task) -> Taken:
    """Do it."""
    taken = Taken()
    prompt = "::tick 1 {:g}" if task.watch else "::sleep {:g}"
    async with ConcurrentExecutor(
        task.app,
        max_concurrency=task.max_concurrency,
        on_event=Watcher(taken) if task.watch else None,
        rate_limits=task.rate_limits,
        shards=task.shards,
    ) as executor:
        taken.empty_mb = _peak_mb()
        requests = [
            ExecutionRequest(
                MachineConfig(claude_code_oauth_token="none", prompt=prompt.format(seconds)),  # noqa: S106  # goes nowhere
                tag=str(number),
            )
            for number, seconds in enumerate(task.durations)
        ]
        began, cpu, starved = time.monotonic(), time.process_time(), starved_s()
        batch = await executor.run_batch(requests)
        taken.wall_s, taken.cpu_s = time.monotonic() - began, time.process_time() - cpu
        taken.starved_s = starved_s() - starved
    taken.peak_mb = _peak_mb()
    taken.failures = [str(result.failure or result.error) for result in batch.results if not result.success]
    taken.launched = sorted(moment.timestamp() for result in batch.results for moment in _launches(result))
    return taken


def _launches(result: ExecutionResult) -> list[datetime]:
    return [attempt.times.create for attempt in result.attempts if attempt.times.create]


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def main() -> None:
    """Read the task, do it, print what it took."""
    prepare_process()
    task = Task(**json.load(sys.stdin))
    if task.cpus:
        os.sched_setaffinity(0, task.cpus)
    os.nice(task.nice)
    if task.profile:
        with cProfile.Profile() as profile:
            taken = anyio.run(run, task)
        profile.dump_stats(task.profile)
    else:
        taken = anyio.run(run, task)
    print(json.dumps(asdict(taken)))


if __name__ == "__main__":
    main()
