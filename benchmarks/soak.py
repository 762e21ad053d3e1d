"""Many short runs while one call in fifty goes wrong: nothing is left, all results are right, memory stays flat.

The baseline for memory is the same process after the first fifth of the runs: what grows with the number of runs would
show as a ratio well above 1. Controller and stand-in are one process here. The runs are spread over several apps,
because Fly allows one create a second and app, and flaude keeps to that here too.

    make soak
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from flaude import ConcurrentExecutor, ExecutionRequest, ExecutionResult, MachineConfig, Timeouts
from flaude._providers.fly import FlyClient
from flaude.local import (
    Answer,
    Delay,
    Dies,
    DropAfter,
    DropBefore,
    Effect,
    Fault,
    ListLag,
    LocalFly,
    Quirks,
    SlowDelete,
    Truncate,
)

RUNS = 500
APPS = 8
AT_ONCE_AND_APP = 3
CHANCE = 0.02

EFFECTS: tuple[Effect, ...] = (
    *(Answer(status, "soak") for status in (408, 429, 500, 502, 503, 504)),
    Answer(200, body=""),
    DropBefore(),
    DropAfter(),
    Truncate(),
    Delay(0.5),
)


@dataclass
class Soaked:
    """What came of it.

    Attributes:
        wrong: What was not as it must be, in words; empty when all is well.
        struck: How often which effect struck.
        attempts: Attempts in all; more than runs where machines died before their agent began.
        early_mb: The most memory until a fifth of the runs was done.
        peak_mb: The most memory in all.
    """

    runs: int
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)
    struck: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    early_mb: float = 0.0
    peak_mb: float = 0.0


async def soak(runs: int, apps: int, at_once_and_app: int, seed: int) -> Soaked:
    """Run so many runs and look at everything that is left."""
    names = [f"soak-{number}" for number in range(apps)]
    # Each call meets a fault with this chance; its kind is drawn anew from all of them.
    faults = [Fault("*", effect, chance=CHANCE / len(EFFECTS)) for effect in EFFECTS]
    special = [
        Fault("create_machine", Dies(0.3), chance=CHANCE),  # before its agent begins: its run goes on on another
        Fault("list_machines", ListLag(2), chance=CHANCE),
        Fault("delete_machine", SlowDelete(1), chance=CHANCE),
    ]
    quirks = Quirks(machine_limit=None)
    done = Soaked(runs)
    results: list[ExecutionResult] = []
    with tempfile.TemporaryDirectory(prefix="flaude-soak-") as folder:
        async with LocalFly(
            apps=names, box="plain", faults=[*special, *faults], seed=seed, remember_s=10, quirks=quirks
        ) as fly:
            began = time.monotonic()
            async with anyio.create_task_group() as tasks:
                for number, app in enumerate(names):
                    indices = range(number, runs, apps)
                    tasks.start_soon(_run, fly, app, indices, at_once_and_app, Path(folder), results, done)
            done.seconds = time.monotonic() - began
            done.peak_mb = _peak_mb()
            fly.faults.clear()
            await _check(fly, names, results, Path(folder), done)
            for (action, effect), count in fly.faults.struck.items():
                done.struck[f"{effect} {action}"] += count
    return done


async def _run(
    fly: LocalFly,
    app: str,
    indices: range,
    at_once: int,
    folder: Path,
    results: list[ExecutionResult],
    done: Soaked,
) -> None:
    executor = ConcurrentExecutor(app, fly=fly, max_concurrency=at_once, timeouts=Timeouts(grace=1))
    requests = [
        ExecutionRequest(
            MachineConfig(
                claude_code_oauth_token="none",  # noqa: S106  # goes nowhere
                prompt=f"::shell echo x >> {folder}/{index}\n::sleep 1\n::say run {index}",
            ),
            tag=str(index),
        )
        for index in indices
    ]
    async for result in executor.as_completed(requests):
        results.append(result)
        if len(results) == max(1, done.runs // 5):
            done.early_mb = _peak_mb()


async def _check(fly: LocalFly, apps: list[str], results: list[ExecutionResult], folder: Path, done: Soaked) -> None:
    if Counter(result.tag for result in results) != Counter(str(index) for index in range(done.runs)):
        done.wrong.append("not one result for each request")
    for result in results:
        run = result.run_result
        started = (folder / result.tag).read_text().split() if (folder / result.tag).exists() else []
        done.attempts += len(result.attempts)
        if not (result.success and run and run.text == f"run {result.tag}" and len(started) == 1):
            done.wrong.append(f"run {result.tag}: {result.failure}, started {len(started)} times")
        if not all(attempt.gone for attempt in result.attempts):
            done.wrong.append(f"run {result.tag}: a machine is not confirmed gone")
    async with FlyClient(base_url=fly.base_url, token=fly.token) as client:
        for app in apps:
            done.wrong += [f"{machine.name} is {machine.state}" for machine in await client.list_machines(app)]
    if fly.alive:
        done.wrong.append(f"{fly.alive} machines are alive")


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def main() -> int:
    """Soak, print, and fail when anything was not as it must be."""
    done = anyio.run(soak, RUNS, APPS, AT_ONCE_AND_APP, 1)
    print(f"{done.runs} runs in {done.seconds:.0f} s, {done.attempts} attempts, {done.struck.total()} faults")
    print(f"memory: {done.early_mb:.0f} MB after a fifth, {done.peak_mb:.0f} MB at most:", end=" ")
    print(f"ratio {done.peak_mb / done.early_mb:.2f}")
    print("\n".join(done.wrong) or "nothing left, all results right")
    return 1 if done.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
