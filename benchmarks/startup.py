"""How long it takes to begin: to import flaude, and to get an answer of its command.

The baseline is `python -c pass`. Each is a process of its own, with all bytecode there as after an installation; they
take turns, so that what else this computer does meets them alike, and the median counts.

    make bench
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any

TIMES = 15
BASELINE = "python -c pass"
_REAL_USE = "from flaude import ConcurrentExecutor, ExecutionRequest, MachineConfig"
STARTS = {
    BASELINE: ("-c", "pass"),
    "import flaude": ("-c", "import flaude"),
    _REAL_USE: ("-c", _REAL_USE),
    "flaude --version": ("-m", "flaude", "--version"),
    "flaude --help": ("-m", "flaude", "--help"),
    "flaude ps": ("-m", "flaude", "ps"),
}


def rows(times: int = TIMES) -> list[dict[str, Any]]:
    """For each start its `name`, the median of so many as `ms`, and its `ratio` to the baseline."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
            "PYTHONPYCACHEPREFIX": f"{folder}/bytecode",
            "FLAUDE_HOME": f"{folder}/journal",
        }
        for arguments in STARTS.values():
            _start_ms(arguments, environment)  # writes the bytecode, and the journal
        taken: dict[str, list[float]] = {name: [] for name in STARTS}
        for _ in range(times):
            for name, arguments in STARTS.items():
                taken[name].append(_start_ms(arguments, environment))
    medians = {name: statistics.median(each) for name, each in taken.items()}
    return [{"name": name, "ms": ms, "ratio": ms / medians[BASELINE]} for name, ms in medians.items()]


def _start_ms(arguments: tuple[str, ...], environment: Mapping[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=environment)
    return (time.perf_counter() - began) * 1000


def main() -> None:
    """Print them."""
    width = max(map(len, STARTS))
    print(f"{'':{width}}{'ms':>8}{'ratio':>8}")
    for row in rows():
        print(f"{row['name']:{width}}{row['ms']:8.0f}{row['ratio']:8.1f}")


if __name__ == "__main__":
    main()
