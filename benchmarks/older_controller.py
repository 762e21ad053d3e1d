"""The same as `benchmarks.controller` for flaude 0.6.1, run by the Python of an environment that has it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import flaude
from flaude import fly_client  # type: ignore[attr-defined]


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _starved_s() -> float:
    file = Path("/proc/self/schedstat")
    return int(file.read_text().split()[1]) / 1e9 if file.exists() else 0.0


async def main(task: dict[str, Any]) -> None:
    """Run the batch and print what it took."""
    logging.disable()
    base_url = os.environ["FLY_FLAPS_BASE_URL"]
    if task["cpus"]:
        os.sched_setaffinity(0, task["cpus"])
    os.nice(task["nice"])
    fly_client.FLY_API_BASE = f"{base_url}/v1"
    fly_client.FLY_PLATFORM_API_BASE = base_url
    executor = flaude.ConcurrentExecutor(task["app"])
    requests = [
        flaude.ExecutionRequest(
            config=flaude.MachineConfig(claude_code_oauth_token="none", prompt=f"::sleep {seconds:g}"),  # noqa: S106  # goes nowhere
            tag=str(number),
        )
        for number, seconds in enumerate(task["durations"])
    ]
    empty_mb, began, cpu, starved = _peak_mb(), time.monotonic(), time.process_time(), _starved_s()
    batch = await executor.run_batch(requests)
    taken = {
        "wall_s": time.monotonic() - began,
        "cpu_s": time.process_time() - cpu,
        "starved_s": _starved_s() - starved,
        "empty_mb": empty_mb,
        "peak_mb": _peak_mb(),
        "failures": [str(result.error) for result in batch.results if not result.success],
    }
    print(json.dumps(taken))


if __name__ == "__main__":
    asyncio.run(main(json.load(sys.stdin)))
