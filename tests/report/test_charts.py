from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import pytest
from benchmarks.sample_batch import sample_batch
from hypothesis import given
from hypothesis import strategies as st
from tests.report.hostile import NOW

from flaude import Attempt, BatchResult, ExecutionResult, Phase, Times
from flaude.report import ReportRun
from flaude.report.histogram import histogram_of
from flaude.report.summary import Row, Sums, row_of
from flaude.report.timeline import STEPS, spans_of, timeline_of
from flaude.report.units import count, dollars, duration, round_dollars, round_duration, short, size

DATA = sample_batch(80, steps=2)


def test_the_sums_are_the_batchs() -> None:
    """The page adds up as `BatchResult` does."""
    results = [run.result for run in DATA.runs if run.result is not None]
    batch, sums = BatchResult(results), Sums([row_of(run) for run in DATA.runs])
    assert (sums.of("ok"), sums.of("failed"), sums.of("open")) == (batch.succeeded, batch.failed, 0)
    assert sums.cost_usd == pytest.approx(batch.cost_usd) and sums.unknown_costs == batch.unknown_costs
    assert sums.machine_cost_usd == pytest.approx(batch.machine_cost_usd)
    assert sums.machine_seconds == pytest.approx(batch.machine_seconds)
    assert sums.usage == batch.usage and sums.leftovers == batch.leftovers
    assert sum(number for _, _, number in sums.outcomes) == 80


def test_an_unknown_price_is_no_price() -> None:
    """When the price of one machine is not known, the sum is not known."""
    attempt = Attempt(number=1, name="n", gone=True, machine_seconds=5, machine_cost_usd=None)
    rows = [row_of(run) for run in (*DATA.runs, ReportRun(80, "t", result=ExecutionResult("t", attempts=(attempt,))))]
    assert Sums(rows).machine_cost_usd is None and Sums(rows[:-1]).machine_cost_usd is not None


def test_events_and_attempts_tell_the_same_times() -> None:
    """Where no result says it, the events tell when a run was in which phase; retries included."""
    tried_again = 0
    for run in DATA.runs:
        told = spans_of(replace(run, result=None), DATA.ended)
        kept = spans_of(run)
        tried_again += kept[-1].attempt > 1
        assert [span for span in told if span.phase is not Phase.QUEUED] == [
            span for span in kept if span.phase is not Phase.QUEUED
        ]
    assert tried_again, "a sample without a retry shows nothing"


def test_every_attempt_has_its_bars() -> None:
    """A retry is a second piece of the same lane, after a gap, and is told with its number."""
    run = next(run for run in DATA.runs if run.result is not None and len(run.result.attempts) == 2)
    timeline = timeline_of([(row_of(run), spans_of(run))])
    assert timeline is not None
    (lane,) = timeline.lanes
    assert [bar.phase for bar in lane.bars].count(Phase.BOOT) == 2
    assert "attempt 1: queued" in lane.told and "attempt 2: " in lane.told


@pytest.mark.parametrize("number", [1, 40, 200, 1000])
def test_any_number_of_runs_can_be_read(number: int) -> None:
    """Lanes are lower the more there are; all bars and marks lie on the page."""
    runs = [(row_of(run), spans_of(run)) for run in DATA.runs]
    timeline = timeline_of([runs[index % len(runs)] for index in range(number)], DATA.began)
    assert timeline is not None
    assert 2 <= timeline.row <= 22 and timeline.height <= max(2 * number, 880) and 0 < timeline.bar <= timeline.row
    assert 2 <= len(timeline.ticks) <= 8
    for lane in timeline.lanes:
        assert all(of(bar.x) >= 0 and of(bar.x) + of(bar.width) <= 100.03 for bar in lane.bars)


def of(percent: str) -> float:
    """The number."""
    assert percent.endswith("%")
    return float(percent[:-1])


def test_a_clock_that_was_set_back() -> None:
    """A phase that ends before it began is a short one."""
    times = Times(create=NOW, boot=NOW + timedelta(seconds=9), clone=NOW + timedelta(seconds=5), done=NOW)
    attempt = Attempt(number=1, name="n", gone=True, times=times)
    spans = spans_of(ReportRun(0, "t", result=ExecutionResult("t", attempts=(attempt,))))
    assert [span.seconds for span in spans] == [9, 0, 0]


def test_a_batch_without_times_has_no_timeline() -> None:
    """Nothing is drawn of nothing."""
    assert timeline_of([(Row(0, "t", "open", "queued"), [])]) is None


@given(st.lists(st.floats(min_value=0, max_value=1e7) | st.none(), max_size=60))
def test_a_histogram_counts_every_run(values: list[float | None]) -> None:
    """Each run whose number is known is in one of at most twenty bins, the others are counted."""
    rows = [Row(index, "t", "ok" if index % 3 else "failed", "x", cost_usd=value) for index, value in enumerate(values)]
    known = [value for value in values if value is not None]
    chart = histogram_of(rows, lambda row: row.cost_usd, text=dollars, mark=dollars, steps=STEPS)
    if len(known) < 2:
        assert chart is None
        return
    assert chart is not None and len(chart.bins) <= 20 and chart.unknown == len(values) - len(known)
    told = [re.search(r": ([\d,]+) runs?", bin_.told) for bin_ in chart.bins]
    assert sum(int(found[1]) for found in told if found) == len(known)
    assert all(0 < bin_.ok + bin_.failed <= chart.height for bin_ in chart.bins)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (duration(0), "0 s"), (duration(0.84), "0.8 s"), (duration(59.6), "1:00 min"), (duration(125), "2:05 min"),
        (duration(3599.7), "1:00:00 h"), (duration(90_000), "1 d 1:00 h"), (duration(None), "\N{EN DASH}"),
        (round_duration(90), "1:30 min"), (round_duration(240), "4 min"), (round_duration(7200), "2 h"),
        (round_duration(9000), "2:30 h"),
        (round_dollars(0.03), "$0.03"), (round_dollars(0.0002), "$0.0002"), (round_dollars(1000), "$1,000.00"),
        (dollars(0.0123), "$0.0123"), (dollars(12.345), "$12.35"), (dollars(1234), "$1,234.00"), (dollars(0), "$0.00"),
        (short(940), "940"), (short(12_345), "12.3k"), (short(999_960), "1.00M"), (short(4_560_000), "4.56M"),
        (size(17), "17 bytes"), (size(1204), "1.2 KB"), (size(200 * 2**20), "200 MB"), (size(5_300_000_000), "4.9 GB"),
        (count(1204), "1,204"),
    ],
)  # fmt: skip
def test_numbers_as_people_read_them(text: str, shown: str) -> None:
    """Each number has as many digits as count."""
    assert text == shown
