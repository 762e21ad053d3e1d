"""How flaude scales: up to a thousand runs at once, on machines that the stand-in simulates.

The controller is a process of its own on one processor, the stand-in another one on the others: processor time and
memory are the controller's alone. The stand-in is this computer's too, so wall times are those of both together, and
when other programs want the processors these too wait for them: `starved_s` says how long.

    load       so many runs of 10 s at once, without a limit: what each costs the controller
    limits     the same under Fly's rate limits: whether runs are launched as fast as Fly allows, and without a 429
    cap        50 machines at once for runs of 1 to 20 s: how full they are kept
    detection  from an agent's end to its result
    older      flaude 0.6.1 from PyPI on the same stand-in
    startup    how long the command takes to start

    make bench
    python -m benchmarks.scale --only load,detection --runs 100 --json FILE --profile FILE
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks import older, startup
from benchmarks.computer import computer, usable_cpus
from benchmarks.controller import Taken, Task
from benchmarks.stand_in import APP, StandIn, stand_in

Row = dict[str, Any]

SECONDS = 10.0
CAP = 50
SEED = 1
BURST = 3
"""Creates that Fly lets pass at once, of each app."""
_REAL = 10
_WITHIN_S = 900
_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Options:
    """What the command line says.

    Attributes:
        runs: How many runs each part has, in place of its own numbers.
        scale: Durations of `cap` are multiplied by this.
        profile: File for the controller's profile.
        nice: Added to the priority number of controller and stand-in; below 0, which takes root, they go before others.
    """

    runs: int | None = None
    scale: float = 1.0
    profile: str = ""
    nice: int = 0

    def placed(self, task: Task) -> Task:
        """The task, and where and how it runs."""
        return replace(task, cpus=usable_cpus()[-1:], nice=self.nice, profile=self.profile)

    def sizes(self, *usual: int) -> Sequence[int]:
        """How many runs."""
        return usual if self.runs is None else (self.runs,)


def measure(options: Options, task: Task, *, box: str = "simulated", limits: bool = False) -> tuple[Taken, StandIn]:
    """What a batch took, and what the stand-in was asked."""
    with stand_in(box=box, limits=limits, cpus=usable_cpus()[:-1], nice=options.nice) as serving:
        argv = [sys.executable, "-m", "benchmarks.controller"]
        told = _control(argv, dict(os.environ), serving, options.placed(task))
    return Taken(**told), serving


def measure_older(options: Options, task: Task) -> tuple[Taken, StandIn]:
    """The same for the older flaude.

    Raises:
        NotThereError: It cannot be had.
    """
    argv = [str(older.python()), str(_ROOT / "benchmarks" / "older_controller.py")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with stand_in(box="simulated", cpus=usable_cpus()[:-1], nice=options.nice) as serving:
        told = _control(argv, environment, serving, options.placed(task))
    return Taken(**told), serving


def _control(argv: Sequence[str], environment: dict[str, str], serving: StandIn, task: Task) -> Row:
    try:
        done = subprocess.run(
            argv,
            input=json.dumps(asdict(task)),
            env={**environment, **serving.environment},
            cwd=_ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=_WITHIN_S,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise SystemExit(f"the controller failed: {error}") from error
    told: Row = json.loads(done.stdout)
    return told


def cost(taken: Taken, serving: StandIn, runs: int, ideal_s: float) -> Row:
    """What is told of every batch."""
    return {
        "runs": runs,
        "failed": len(taken.failures),
        "wall_s": taken.wall_s,
        "wall/ideal": taken.wall_s / ideal_s,
        "cpu_ms/run": 1000 * taken.cpu_s / runs,
        "peak_mb": taken.peak_mb,
        "kb/run": 1024 * (taken.peak_mb - taken.empty_mb) / runs,
        "calls/run": serving.count() / runs,
        "429s": serving.count(status=429),
        "starved_s": taken.starved_s,
        "stand-in cpu_s": serving.cpu_s,
        "stand-in starved_s": serving.starved_s,
    }


def load(options: Options) -> Iterator[Row]:
    """Many runs at once, no limits."""
    for runs in options.sizes(10, 100, 1000):
        box = "plain" if runs <= _REAL else "simulated"
        taken, serving = measure(options, Task(APP, [SECONDS] * runs), box=box)
        calls = {action: sum(counts.values()) / runs for action, counts in serving.requests.items()}
        yield {"machines": box, **cost(taken, serving, runs, SECONDS), "calls": calls, "failures": taken.failures[:3]}


def limits(options: Options) -> Iterator[Row]:
    """Fly's rate limits are on, and kept."""
    for shards in (1, 8):
        runs = options.runs or 60 * shards
        if runs <= shards * BURST:
            yield {"shards": shards, "runs": runs, "skipped": "so few may be launched at once"}
            continue
        task = Task(APP, [SECONDS] * runs, rate_limits=1, shards=shards)
        taken, serving = measure(options, task, limits=True)
        costs = cost(taken, serving, runs, (runs / shards - BURST) + SECONDS)
        yield {"shards": shards, **pace(taken.launched, shards), **costs, "failures": taken.failures[:3]}


def pace(launched: Sequence[float], shards: int) -> Row:
    """How many creates a second left once those had left that may leave at once, of all apps and of each."""
    if len(launched) <= shards * BURST:
        return {}  # most of them have failed
    a_second = (len(launched) - shards * BURST) / (launched[-1] - launched[0])
    return {"creates/s": a_second, "of the limit": a_second / shards}


def without_overhead_s(durations: Sequence[float], most: int) -> float:
    """How long they take, so many at once and begun in their order, when nothing but them takes time.

    Nobody who does not know how long each will take can do better on the average: the last ones that begin may be long.
    """
    free_at = [0.0] * most
    for duration in durations:
        heapq.heapreplace(free_at, free_at[0] + duration)
    return max(free_at)


def cap(options: Options) -> Iterator[Row]:
    """Runs of different lengths, and fewer machines than runs."""
    for runs in options.sizes(1000):
        drawn = random.Random(SEED)  # noqa: S311  # to be repeatable is its purpose
        durations = [round(options.scale * drawn.uniform(1, 20), 3) for _ in range(runs)]
        ideal_s = max(sum(durations) / CAP, *durations)
        taken, serving = measure(options, Task(APP, durations, max_concurrency=CAP))
        in_order_s = without_overhead_s(durations, CAP)
        yield {
            "cap": CAP,
            "durations x": options.scale,
            "ideal_s": ideal_s,
            "wall/in order": taken.wall_s / in_order_s,
        } | {
            **cost(taken, serving, runs, ideal_s),
            "failures": taken.failures[:3],
        }


def detection(options: Options) -> Iterator[Row]:
    """How soon a run's end is known, without Fly's limits and with them."""
    for runs in options.sizes(100):
        for limited in (False, True):
            task = Task(APP, [SECONDS] * runs, watch=True)
            task = replace(task, rate_limits=1, shards=8) if limited else task
            taken, _ = measure(options, task, limits=limited)
            for what, seconds in (("all its work is here", taken.to_work), ("result", taken.to_result)):
                row = {"runs": runs, "limits": limited, "from the agent's end to": what, "seen": len(seconds)}
                costs = {"failed": len(taken.failures), "starved_s": taken.starved_s}
                yield row | quantiles(seconds) | costs | {"failures": taken.failures[:3]}


def quantiles(seconds: Sequence[float]) -> Row:
    """Median and 99th percentile, which is not more than the most that was seen, however few there are."""
    if not seconds:
        return {}
    p99 = statistics.quantiles(seconds, n=100, method="inclusive")[98] if len(seconds) > 1 else seconds[0]
    return {"p50_s": statistics.median(seconds), "p99_s": p99}


def against_older(options: Options) -> Iterator[Row]:
    """What was before."""
    for runs in options.sizes(200):
        task = Task(APP, [SECONDS] * runs)
        try:
            before = cost(*measure_older(options, task), runs, SECONDS)
        except older.NotThereError as error:
            yield {"runs": runs, "skipped": f"flaude {older.VERSION}: {error}"}
            continue
        now = cost(*measure(options, task), runs, SECONDS)
        yield {"flaude": older.VERSION, **before}
        yield {"flaude": "this one", **now}
        ratios = {name: before[name] / now[name] for name in ("wall_s", "cpu_ms/run", "peak_mb", "kb/run", "calls/run")}
        yield {"flaude": "older / this", **ratios}


PARTS: dict[str, Callable[[Options], Iterator[Row]]] = {
    "load": load,
    "limits": limits,
    "cap": cap,
    "detection": detection,
    "older": against_older,
    "startup": lambda _: iter(startup.rows()),
}


def table(rows: Sequence[Row]) -> str:
    """Rows in columns; what is a collection has no column."""
    names = list(
        dict.fromkeys(name for row in rows for name, value in row.items() if not isinstance(value, dict | list))
    )
    cells = [names, *([_cell(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


def _cell(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def main() -> int:
    """Measure, print, write; fails when a run failed or was not seen."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description="How flaude scales.")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, with commas: {', '.join(PARTS)}")
    parser.add_argument("--runs", type=_positive(int), help="how many runs each part has, in place of its own numbers")
    parser.add_argument(
        "--scale", type=_positive(float), default=1.0, help="durations of the part cap are multiplied by this"
    )
    parser.add_argument("--json", type=Path, help="file for all that was measured")
    parser.add_argument("--profile", default="", help="file for cProfile's statistics of the last controller")
    parser.add_argument("--nice", type=int, default=0, help="priority of what is measured, as of nice(1)")
    given = parser.parse_args()
    parts = [name.strip() for name in given.only.split(",")]
    if unknown := set(parts) - PARTS.keys():
        parser.error(f"--only: no such part: {', '.join(sorted(unknown))}")
    about, found = computer(), dict[str, list[Row]]()
    try:
        _write(given.json, about, found)
        if given.profile:
            Path(given.profile).touch()
    except OSError as error:
        parser.error(str(error))
    profile = str(Path(given.profile).absolute()) if given.profile else ""
    options = Options(given.runs, given.scale, profile, given.nice)
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    for name in parts:
        began = time.monotonic()
        found[name] = list(PARTS[name](options))
        print(f"\n{name} ({time.monotonic() - began:.0f} s)\n{table(found[name])}", flush=True)
        for row in found[name]:
            if calls := row.get("calls"):
                told = ", ".join(f"{action} {number:.2f}" for action, number in calls.items())
                print(f"  {row['runs']} runs, calls/run: {told}", flush=True)
            for failure in row.get("failures", ()):
                print(f"  {row['runs']} runs, a failure: {failure}", flush=True)
        _write(given.json, about, found)
    return 1 if any(map(incomplete, chain.from_iterable(found.values()))) else 0


def incomplete(row: Row) -> bool:
    """Whether some of a row's runs failed, or were not seen."""
    return bool(row.get("failed")) or row.get("seen", row.get("runs")) != row.get("runs")


def _write(file: Path | None, about: Row, found: dict[str, list[Row]]) -> None:
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"computer": about, "parts": found}, indent=2) + "\n")


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def positive(text: str) -> float:
        number = kind(text)
        if not 0 < number < math.inf:
            raise ValueError
        return number

    return positive


if __name__ == "__main__":
    sys.exit(main())
