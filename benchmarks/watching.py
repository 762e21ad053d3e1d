"""How fast a run is told: from a line that the agent prints to the event in the caller, and from its end to the result.

1, 20 and 100 runs at once, each printing one line a second; 100 MB of output of one run. The baseline is the single
run: the ratios say what many at once cost. Everything runs on this computer, the machines too, and flaude keeps to the
pace that Fly allows (one exec a second and machine): with 100 machines on a few CPUs it is the machines that are slow.

    make bench
"""

from __future__ import annotations

import os
import resource
import statistics
import time
from dataclasses import dataclass, field

import anyio

from flaude import ConcurrentExecutor, ExecutionRequest, MachineConfig
from flaude.events import Collecting, Destroying, Event, Finished, OtherOutput
from flaude.local import LocalFly, Quirks

AT_ONCE = (1, 20, 100)
RUNS_AND_APP = 10  # Fly allows one create a second and app
TICKS = 20
OUTPUT_MB = 100
LINE_BYTES = 1000


@dataclass
class Seen:
    """What was seen of some runs at once, all in seconds.

    Attributes:
        latencies: From a line's printing to its event.
        taken: From the agent's last line to all of its work being here.
        over: From the agent's last line to the result, its machine confirmed gone.
    """

    latencies: list[float] = field(default_factory=list)
    taken: list[float] = field(default_factory=list)
    over: list[float] = field(default_factory=list)


class Watcher:
    """Takes the times of the events of some runs."""

    def __init__(self) -> None:
        self.seen = Seen()
        self._last: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        """Take an event."""
        now = time.time()
        match event:
            case OtherOutput(line={"type": "tick", "at": float(at)}):
                self.seen.latencies.append(now - at)
                self._last[event.tag] = at
            case Destroying() if event.tag in self._last:
                self.seen.taken.append(now - self._last[event.tag])
            case Finished() if event.tag in self._last:
                self.seen.over.append(now - self._last[event.tag])
            case _:
                pass


async def watch(runs: int) -> Seen:
    """So many runs at once."""
    apps = [f"bench-{number}" for number in range(-(-runs // RUNS_AND_APP))]
    watcher = Watcher()
    # All machines print at the same time only if the last one is there before the first one is done.
    prompt = f"::sleep {2 * min(runs, RUNS_AND_APP)}\n::tick {TICKS} 1"

    async def run(app: str, indices: range) -> None:
        executor = ConcurrentExecutor(app, fly=fly, on_event=watcher)
        config = MachineConfig(claude_code_oauth_token="none", prompt=prompt)  # noqa: S106  # goes nowhere
        done = await executor.run_batch(ExecutionRequest(config, tag=str(index)) for index in indices)
        if not done.all_succeeded:
            raise SystemExit(f"not a fair run: {[result.failure for result in done.results if not result.success]}")

    async with (
        LocalFly(apps=apps, box="plain", quirks=Quirks(machine_limit=None)) as fly,
        anyio.create_task_group() as tasks,
    ):
        for number, app in enumerate(apps):
            tasks.start_soon(run, app, range(number, runs, len(apps)))
    return watcher.seen


async def pour() -> tuple[float, int]:
    """Seconds from the agent's first line to its last of `OUTPUT_MB`, in the caller, and how many lines arrived."""
    arrived, began, ended = 0, 0.0, 0.0

    def take(event: Event) -> None:
        nonlocal arrived, began, ended
        match event:
            case OtherOutput(line=str()):
                began, ended, arrived = began or time.time(), time.time(), arrived + 1
            case Collecting():
                pass
            case _:
                pass

    count = OUTPUT_MB * 1_000_000 // LINE_BYTES
    prompt = f"::lines {count} {LINE_BYTES}"
    async with LocalFly(apps=["bench"], box="plain") as fly:
        executor = ConcurrentExecutor("bench", fly=fly, on_event=take)
        config = MachineConfig(claude_code_oauth_token="none", prompt=prompt)  # noqa: S106  # goes nowhere
        result = await executor.run_one(config)
    if not result.success:
        raise SystemExit(f"not a fair run: {result.failure}")
    return ended - began, arrived


def main() -> None:
    """Print all of it."""
    print(f"{os.cpu_count()} CPUs; seconds, and ratios to the single run")
    print(f"{'runs':>5}{'line to event':>24}{'p99':>8}{'end to work':>22}{'end to result':>24}")
    base: tuple[float, ...] | None = None
    for runs in AT_ONCE:
        seen = anyio.run(watch, runs)
        row = (
            statistics.median(seen.latencies),
            statistics.quantiles(seen.latencies, n=100)[98],
            statistics.median(seen.taken),
            statistics.median(seen.over),
        )
        base = base or row
        told = "".join(f"{value:12.2f} ({value / first:4.1f}x)" for value, first in zip(row, base, strict=True))
        print(f"{runs:5}{told}", flush=True)
    seconds, arrived = anyio.run(pour)
    print(f"{OUTPUT_MB} MB of output: {OUTPUT_MB / seconds:.1f} MB/s, {arrived} lines as events")
    print(f"memory, at most: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
