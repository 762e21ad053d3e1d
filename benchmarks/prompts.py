"""What a prompt costs by its length until its agent has it: calls and seconds, and the size of a machine's create.

The local Fly server keeps to Fly's rate limits and behaves as in the worst reading of what is known: no standard input,
bodies up to 16 KiB. The baseline, in the same run, is the best reading: standard input arrives, and any body is taken,
so that every prompt goes with one call. Prompts are English prose (Python's own reference).

    make bench
    python benchmarks/prompts.py
"""

from __future__ import annotations

import base64
import io
import json
import os
import tempfile
import time
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pydoc_data.topics import topics

import anyio

from flaude import ConcurrentExecutor, MachineConfig
from flaude._guest import archive
from flaude._providers.fly.probe.saved import Saved, save
from flaude.events import Event, Started
from flaude.local import Exchange, LocalFly, Quirks

APP = "bench"
SIZES = {"1 KB": 1_000, "20 KB": 20_000, "100 KB": 100_000, "1 MB": 1_000_000}
PROSE = "\n".join(topics[name] for name in sorted(topics)) * 2


@dataclass
class Cost:
    """What it took until the agent had its prompt; seconds from the machine's `started` on."""

    calls: int = 0
    largest_body: int = 0
    create_bytes: int = 0
    seconds: float = 0.0


async def cost(prompt: str, quirks: Quirks) -> Cost:
    """One run with that prompt."""
    found, started, began = Cost(), anyio.Event(), 0.0

    def look(exchange: Exchange) -> None:
        nonlocal began
        body = len(json.dumps(exchange.request or {}))
        if exchange.path.endswith("/machines") and exchange.method == "POST":
            found.create_bytes = body
        if exchange.path.endswith("/wait") and exchange.status == 200 and not began:  # noqa: PLR2004  # HTTP
            began = time.monotonic()
        if exchange.path.endswith("/exec") and not started.is_set():
            found.calls += 1
            found.largest_body = max(found.largest_body, body)

    def watch(event: Event) -> None:
        if isinstance(event, Started):
            found.seconds = time.monotonic() - began
            started.set()

    async with LocalFly(apps=[APP], box="plain", limits=True, quirks=quirks, on_exchange=look) as fly:
        if quirks.exec_stdin:
            measured = Saved(at=datetime.now(UTC), body_bytes=1 << 30, stdin=True)
            await anyio.to_thread.run_sync(save, fly.base_url, measured)
        executor = ConcurrentExecutor(APP, base_url=fly.base_url, token=fly.token, on_event=watch)
        config = MachineConfig(claude_code_oauth_token="none", prompt=prompt)  # noqa: S106  # goes nowhere
        result = await executor.run_one(config)
        if not result.success:
            raise SystemExit(f"the run failed: {result.failure}")
    return found


async def main() -> None:
    """Measure every size in both readings, and print each next to its baseline."""
    print(f"{'prompt':<8}{'calls':>7}{'base':>6}{'ratio':>7}{'seconds':>10}{'base':>6}{'ratio':>7}{'largest body':>14}")
    create = 0
    for name, characters in SIZES.items():
        worst, best = await cost(PROSE[:characters], Quirks()), await cost(PROSE[:characters], Quirks.kind())
        create = worst.create_bytes
        calls, seconds = worst.calls / best.calls, worst.seconds / best.seconds
        print(
            f"{name:<8}{worst.calls:>7}{best.calls:>6}{calls:>7.2f}{worst.seconds:>10.1f}{best.seconds:>6.1f}"
            f"{seconds:>7.2f}{worst.largest_body:>14,}"
        )
    before = len(base64.b64encode(_whole()))
    print(f"create: {create:,} bytes; with the sources as they are {create - _packed() + before:,}, ratio", end=" ")
    print(f"{create / (create - _packed() + before):.2f}")


def _packed() -> int:
    return len(base64.b64encode(archive.build()))


def _whole() -> bytes:
    """A zip of the same modules, as they are written: what a create held before."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as whole:
        for name, text in archive.sources().items():
            if name not in archive.NOT_IN_IT:
                whole.writestr(f"flaude_guest/{name}.py", text)
    return buffer.getvalue()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="flaude-bench-") as home:
        os.environ["FLAUDE_HOME"] = home
        anyio.run(main)
