"""The stand-in as a process of its own, started by its command, and how often it was asked for what."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.computer import starved_s

APP = "bench"
_ENDS_WITHIN_S = 20


@dataclass
class StandIn:
    """A stand-in that serves.

    Attributes:
        environment: Of its clients.
        requests: How often each action was answered with each HTTP status; there when it has ended.
        cpu_s: Seconds of processor time that it took, its machines too; there when it has ended.
        starved_s: Seconds for which others had the processor meanwhile; there when it has ended.
    """

    environment: dict[str, str]
    requests: dict[str, dict[str, int]] = field(default_factory=dict)
    cpu_s: float = 0.0
    starved_s: float = 0.0

    def count(self, *, action: str = "", status: int | None = None) -> int:
        """How many requests there were, of one action or of all, with one status or any."""
        counts = [self.requests.get(action, {})] if action else self.requests.values()
        return sum(number for of in counts for code, number in of.items() if status is None or code == str(status))


@contextmanager
def stand_in(*, box: str, limits: bool = False, cpus: Sequence[int] = (), nice: int = 0) -> Iterator[StandIn]:
    """Serve while inside the block.

    Args:
        box: What its machines are.
        limits: Whether it keeps to Fly's rate limits.
        cpus: The processors that it and its machines may use; all when left out.
        nice: Its priority number.
    """
    argv = [sys.executable, "-m", "flaude", "local", "serve", "--port", "0", "--app", APP, "--box", box]
    argv += ["--quirk", "machine_limit=none", "--quirk", "young_app_s=0"]  # a thousand at once, in apps made just now
    process = subprocess.Popen([*argv, *(["--limits"] if limits else [])], stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout is None:
            raise SystemExit("the stand-in has no output")
        if cpus:
            os.sched_setaffinity(process.pid, cpus)
        if nice:
            os.setpriority(os.PRIO_PROCESS, process.pid, nice)
        exports = [process.stdout.readline().removeprefix("export ").strip().partition("=") for _ in range(2)]
        serving = StandIn({name: value for name, _, value in exports})
        if not all(serving.environment):
            raise SystemExit("the stand-in did not start")
        starved = starved_s(process.pid)
        yield serving
        serving.starved_s = starved_s(process.pid) - starved
        process.send_signal(signal.SIGINT)
        *_, last = process.stdout.read().splitlines()
        serving.requests = json.loads(last.removeprefix("# requests: "))
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
        serving.cpu_s = usage.ru_utime + usage.ru_stime
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)  # its machines may be processes, which only it can end
            try:
                process.wait(_ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stdout is not None:
            process.stdout.close()
