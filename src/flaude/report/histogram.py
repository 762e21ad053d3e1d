"""How often what was how much: the small charts of the page. Pure geometry; horizontal places are per cent."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

from flaude.report.summary import Row
from flaude.report.text import brief
from flaude.report.units import plural

_MOST_BINS = 20
_HEIGHT = 96
_TAIL = 0.9


@dataclass(frozen=True)
class Bin:
    """How many runs lie between two values.

    Attributes:
        x: Where it begins.
        width: How wide it is.
        ok: Height of those that succeeded, in pixels.
        failed: Height of the others, which stand on them.
        told: The same in words.
    """

    x: str
    width: str
    ok: float
    failed: float
    told: str


@dataclass(frozen=True)
class Histogram:
    """How a number is spread over the runs.

    Attributes:
        bins: From the smallest values to the largest.
        height: In pixels.
        marks: Where on the axis which value is.
        told: What can be said of it in words.
        unknown: Runs for which the number is not known.
    """

    bins: tuple[Bin, ...]
    height: int
    marks: tuple[tuple[str, str], ...]
    told: str
    unknown: int


def histogram_of(
    rows: Sequence[Row],
    value: Callable[[Row], float | None],
    *,
    text: Callable[[float], str],
    mark: Callable[[float], str],
    steps: Sequence[float],
) -> Histogram | None:
    """The histogram of a number.

    Args:
        rows: The runs.
        value: The number of a run; `None` where it is not known.
        text: A value for people.
        mark: A round value, for the axis.
        steps: Widths of a bin that people find round, from the smallest on.

    Returns:
        `None` when the number is known for fewer than two runs: one is no distribution.
    """
    known = [(found, row) for row in rows if (found := value(row)) is not None]
    if len(known) < 2:  # noqa: PLR2004  # see above
        return None
    values = sorted(found for found, _ in known)
    most = values[-1]
    step = next((step for step in steps if most / step < _MOST_BINS), most / (_MOST_BINS - 1) or 1.0)
    number = int(most / step) + 1
    counted = [[0, 0] for _ in range(number)]
    for found, row in known:
        counted[int(found / step)][row.state != "ok"] += 1
    highest = max(sum(pair) for pair in counted)
    width = 100 / number

    def bin_(place: int, ok: int, failed: int) -> Bin:
        told = f"{mark(place * step)} to {mark((place + 1) * step)}: {plural(ok + failed, 'run')}"
        told += f", {failed} of them not succeeded" if failed else ""
        # What is there is to be seen, even beside a bin of a thousand.
        low, high = (max(2.0, round((_HEIGHT - 4) * part / highest, 1)) if part else 0.0 for part in (ok, failed))
        return Bin(f"{place * width:.2f}%", f"{width:.2f}%", low, high, told)

    bins = tuple(bin_(place, *pair) for place, pair in enumerate(counted) if any(pair))
    every = max(1, ceil(number / 5))
    marks = tuple((f"{place * width:.2f}%", mark(place * step)) for place in range(0, number + 1, every))
    longest = max(known, key=lambda pair: pair[0])[1]
    name = brief(longest.tag) or f"run {longest.index}"
    told = (
        f"Median {text(statistics.median(values))}; {_TAIL:.0%} of the runs at most "
        f"{text(values[ceil(_TAIL * len(values)) - 1])}; most {text(most)} ({name})."
    )
    return Histogram(bins, _HEIGHT, marks, told, len(rows) - len(known))
