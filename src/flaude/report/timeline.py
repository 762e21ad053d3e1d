"""When each run was in which phase, and where that is on the page. Pure geometry; horizontal places are per cent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, pairwise
from math import ceil
from typing import TypeAlias

from flaude._model.failures import Phase
from flaude._model.run_result import Times
from flaude.events import Event, Finished, PhaseBegan, Retried
from flaude.report.data import ReportRun
from flaude.report.summary import Row, State
from flaude.report.text import brief
from flaude.report.units import duration, round_duration

SHOWN = tuple(phase for phase in Phase if phase is not Phase.DONE)
"""The phases that last."""

_HEIGHT = 800
_LEAST_ROW, _MOST_ROW = 2, 22
_ROOM_FOR_WORDS = 14
STEPS = (1, 2, 5, 10, 15, 30, *(60 * n for n in (1, 2, 5, 10, 15, 30)), *(3600 * n for n in (1, 2, 3, 6, 12)))
"""Seconds between two marks of an axis, as people find them round."""

_DAY = 86400
_MOST_TICKS = 8


@dataclass(frozen=True)
class Span:
    """A phase of an attempt, which is numbered from 1."""

    phase: Phase
    began: datetime
    ended: datetime
    attempt: int

    @property
    def seconds(self) -> float:
        """How long it was."""
        return (self.ended - self.began).total_seconds()


def spans_of(run: ReportRun, now: datetime | None = None) -> list[Span]:
    """When a run was in which phase.

    Args:
        run: The run; where its attempts do not say it, its events do.
        now: Until when a phase goes on that has not ended; a run that has a result is over all the same.
    """
    attempts = run.result.attempts if run.result else ()
    spans = [span for attempt in attempts for span in _between(_begun(attempt.times), attempt.number)]
    if spans or not run.events:
        return spans
    tries = _tries(run.events)
    if run.result is None and tries[-1]:
        tries[-1].append((Phase.DONE, now or run.events[-1].at))
    return [span for number, begun in enumerate(tries, 1) for span in _between(begun, number)]


_Begun: TypeAlias = list[tuple[Phase, datetime]]
"""When each phase of an attempt began."""


def _begun(times: Times) -> _Begun:
    return [(phase, at) for phase in Phase if (at := getattr(times, phase)) is not None]


def _tries(events: Sequence[Event]) -> list[_Begun]:
    """The same of all attempts, as their events tell it."""
    tries: list[_Begun] = [[]]
    for event in events:
        match event:
            case PhaseBegan(phase=phase):
                tries[-1].append((phase, event.at))
            case Retried():
                tries[-1].append((Phase.DONE, event.at))
                tries.append([])
            case Finished():
                tries[-1].append((Phase.DONE, event.at))
            case _:
                pass
    return tries


def _between(begun: _Begun, attempt: int) -> Iterator[Span]:
    for (phase, at), (_, then) in pairwise(begun):
        if phase is not Phase.DONE:
            # A clock that was set back makes a phase short, not its bar negative.
            yield Span(phase, at, max(at, then), attempt)


@dataclass(frozen=True)
class Bar:
    """A phase on the page: from where, how wide."""

    phase: Phase
    x: str
    width: str


@dataclass(frozen=True)
class Lane:
    """A run on the page.

    Attributes:
        index: Its place in the batch.
        tag: Its tag.
        state: What became of it.
        y: How far down it is, in pixels.
        bars: Its phases; those of all attempts.
        end: Where its last phase ends.
        told: All of it in words.
    """

    index: int
    tag: str
    state: State
    y: int
    bars: tuple[Bar, ...]
    end: str
    told: str


@dataclass(frozen=True)
class Tick:
    """A time on the axis."""

    x: str
    text: str


@dataclass(frozen=True)
class Timeline:
    """All runs over time.

    Attributes:
        lanes: A lane for each run.
        ticks: The axis.
        row: Height of a lane, in pixels.
        seconds: How long all of it is.
        phases: How long all runs together were in each phase, in seconds; none that there was not.
    """

    lanes: tuple[Lane, ...]
    ticks: tuple[Tick, ...]
    row: int
    seconds: float
    phases: Mapping[Phase, float]

    @property
    def height(self) -> int:
        """Of all lanes, in pixels."""
        return self.row * len(self.lanes)

    @property
    def bar(self) -> int:
        """Height of a bar, in pixels."""
        return self.row - (1 if self.row < _ROOM_FOR_WORDS else 6) if self.row > _LEAST_ROW else self.row

    @property
    def has_words(self) -> bool:
        """Whether a lane is high enough for its tag."""
        return self.row >= _ROOM_FOR_WORDS


def timeline_of(runs: Sequence[tuple[Row, Sequence[Span]]], began: datetime | None = None) -> Timeline | None:
    """The timeline of a batch.

    Args:
        runs: Each run, and when it was in which phase.
        began: When the batch began; when its first run did, unless that was later.

    Returns:
        `None` when nothing has a time.
    """
    all_spans = [span for _, spans in runs for span in spans]
    if not all_spans:
        return None
    first = min(span.began for span in all_spans)
    start = first if began is None else min(first, began)
    whole = max((max(span.ended for span in all_spans) - start).total_seconds(), 1.0)
    row = min(max(_HEIGHT // len(runs), _LEAST_ROW), _MOST_ROW)
    phases = {phase: sum(span.seconds for span in all_spans if span.phase is phase) for phase in SHOWN}

    def place(at: datetime) -> float:
        return 100 * (at - start).total_seconds() / whole

    def lane(number: int, one: Row, spans: Sequence[Span]) -> Lane:
        bars = [Bar(span.phase, _percent(place(span.began)), _percent(100 * span.seconds / whole)) for span in spans]
        visible = tuple(bar for bar in bars if bar.width != _percent(0))
        end = _percent(max((place(span.ended) for span in spans), default=0.0))
        return Lane(one.index, one.tag, one.state, number * row, visible, end, _told(one, spans))

    lanes = tuple(lane(number, one, spans) for number, (one, spans) in enumerate(runs))
    return Timeline(lanes, _ticks(whole), row, whole, {phase: sum_ for phase, sum_ in phases.items() if sum_ > 0})


def _percent(number: float) -> str:
    return f"{number:.2f}%"


def _told(row: Row, spans: Sequence[Span]) -> str:
    tries = []
    for number, group in groupby(spans, key=lambda span: span.attempt):
        phases = ", ".join(f"{span.phase} {duration(span.seconds)}" for span in group)
        tries.append(f"attempt {number}: {phases}" if spans[-1].attempt > 1 else phases)
    return "; ".join([f"{brief(row.tag) or f'run {row.index}'}: {brief(row.outcome)}", *tries])


def _ticks(whole: float) -> tuple[Tick, ...]:
    step = next((step for step in STEPS if whole / step < _MOST_TICKS), 0)
    if not step:
        step = _DAY * ceil(whole / _DAY / _MOST_TICKS)
    return tuple(Tick(_percent(100 * at / whole), round_duration(at)) for at in range(0, int(whole) + 1, step))
