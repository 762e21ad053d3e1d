"""What flaude adds to a run: batches of agents that do nothing, against the same agents without flaude.

The baseline is the scripted `claude` started as a bare process, as many times and as many at once. Everything runs on
this computer, the machines too, so processor time counts both the controller and the stand-in; ratios are what matters.
Wall time is bound by the pace that Fly allows, one create a second and app, which flaude keeps here too.

    make bench
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from typing import Self

import anyio

from flaude import ConcurrentExecutor, ExecutionRequest, MachineConfig
from flaude.local import LocalFly

RUNS = 16
AT_ONCE = 4
PROMPT = "::say done"


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock, and seconds of processor time in this process and in its children."""

    wall: float
    own: float
    children: float


class Stopwatch:
    """Takes the `Cost` of a block."""

    def __enter__(self) -> Self:
        """Start."""
        self._began = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.cost = Cost(*(after - before for before, after in zip(self._began, self._now(), strict=True)))

    @staticmethod
    def _now() -> tuple[float, float, float]:
        own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.perf_counter(), own.ru_utime + own.ru_stime, children.ru_utime + children.ru_stime


def bare() -> Cost:
    """The scripted agent alone."""
    script = str(files("flaude.local") / "scripted_claude.py")
    argv = [sys.executable, script, "-p", "--output-format", "stream-json", "--verbose"]
    environment = {"PATH": os.environ["PATH"], "CLAUDE_CODE_OAUTH_TOKEN": "none"}

    def once(_: int) -> None:
        subprocess.run(argv, input=PROMPT, text=True, check=True, stdout=subprocess.DEVNULL, env=environment)

    with Stopwatch() as watch, ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(once, range(RUNS)))
    return watch.cost


async def batch() -> Cost:
    """The same agents, each on a local machine of its own."""
    async with LocalFly(apps=["bench"]) as fly:
        executor = ConcurrentExecutor("bench", fly=fly, max_concurrency=AT_ONCE)
        config = MachineConfig(claude_code_oauth_token="none", prompt=PROMPT)  # noqa: S106  # goes nowhere
        with Stopwatch() as watch:
            done = await executor.run_batch(ExecutionRequest(config) for _ in range(RUNS))
        if not done.all_succeeded or fly.alive:
            raise SystemExit(f"not a fair run: {done.succeeded}/{done.total} succeeded, {fly.alive} alive")
    return watch.cost


def main() -> None:
    """Print both, and their ratios."""
    base = bare()
    cost = anyio.run(batch)
    print(f"{RUNS} runs, {AT_ONCE} at once, {os.cpu_count()} CPUs; ratios to the bare agents")
    print(f"{'':10}{'bare':>10}{'flaude':>10}{'ratio':>8}")
    for name, before, after in (
        ("wall s", base.wall, cost.wall),
        ("CPU s", base.own + base.children, cost.own + cost.children),
    ):
        print(f"{name:10}{before:10.2f}{after:10.2f}{after / before:8.1f}")
    print(f"controller and stand-in: {1000 * cost.own / RUNS:.0f} ms of processor time a run")
    print(f"memory, at most: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
