"""What a report costs: its size and the time that it takes, of batches of 200 and of 1,000 runs.

The baseline is the same batch as JSON, as a journal keeps it: all results and all events. A page has a limit, so that a
browser shows it: of a large batch it has less than the whole, and says so.

    make bench
"""

from __future__ import annotations

import json
import time

from benchmarks.sample_batch import sample_batch
from flaude._model.codec import dump_result
from flaude.events.codec import dump_event
from flaude.report import ReportData, render

SIZES = (200, 1000)
MB = 1e6


def as_json(data: ReportData) -> int:
    """The size of the batch as JSON, in bytes."""
    size = 0
    for run in data.runs:
        size += len(json.dumps(dump_result(run.result)).encode()) if run.result else 0
        size += sum(len(json.dumps(dump_event(event)).encode()) for event in run.events)
    return size


def as_page(data: ReportData) -> int:
    """The size of its page, in bytes."""
    return sum(len(piece.encode()) for piece in render(data))


def main() -> None:
    """Print both, and their ratios."""
    as_page(sample_batch(1))  # the templates are compiled once
    print(f"{'':12}{'':>6}{'JSON':>10}{'page':>10}{'ratio':>8}")
    for runs in SIZES:
        data = sample_batch(runs)
        began = time.perf_counter()
        base = as_json(data)
        between = time.perf_counter()
        size = as_page(data)
        seconds = between - began, time.perf_counter() - between
        print(f"{f'{runs:,} runs':12}{'MB':>6}{base / MB:10.1f}{size / MB:10.1f}{size / base:8.2f}")
        print(f"{'':12}{'s':>6}{seconds[0]:10.2f}{seconds[1]:10.2f}{seconds[1] / seconds[0]:8.2f}")


if __name__ == "__main__":
    main()
