"""`render`: a batch as one HTML page that needs nothing else, no network, no other file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from flaude._version import __version__
from flaude.report import units
from flaude.report.data import ReportData
from flaude.report.detail import detail_of
from flaude.report.histogram import Histogram, histogram_of
from flaude.report.limits import Allowance, Limits
from flaude.report.summary import Row, Sums, row_of
from flaude.report.text import brief, plain
from flaude.report.timeline import STEPS, Span, spans_of, timeline_of

_DOLLARS = [factor * 10.0**power for power in range(-4, 4) for factor in (1, 2, 5)]
_TAG_IN_LANE = 22
_BUFFER = 200
"""Pieces of a template that are handed out together: most are a few characters."""


def render(data: ReportData, *, limits: Limits | None = None) -> Iterator[str]:
    """The page, in pieces.

    Every text of a batch (prompts, answers, names, diffs) stays text on it, and nothing in it is fetched or run: only
    the page's own script and style are, by their hashes, and the Content-Security-Policy forbids all else. What is too
    large for a page is cut, and the page says what is not there.

    Args:
        data: The batch. Its runs are gone through once.
        limits: How much goes into the page; what a browser shows with ease by default.
    """
    limits = limits or Limits()
    environment = _environment()
    allowance = Allowance(limits.page, len(data.runs))
    rows, lanes, bodies = list[Row](), list[tuple[Row, list[Span]]](), list[Markup]()
    body = environment.get_template("run.html.jinja")
    for run in data.runs:
        row, spans = row_of(run), spans_of(run, data.ended or data.made)
        detail = detail_of(run, row, spans, data, limits, allowance.share())
        allowance.used(detail.size)
        rows.append(row)
        lanes.append((row, spans))
        bodies.append(Markup(body.render(detail=detail, row=row)))  # noqa: S704  # escaped by its template
    sums = Sums(rows)
    script, style = _own("page.js"), _own("page.css")
    stream = environment.get_template("page.html.jinja").stream(
        data=data,
        rows=rows,
        bodies=bodies,
        sums=sums,
        chips={outcome: number for number, (outcome, _, _) in enumerate(sums.outcomes)},
        seconds=_wall_seconds(data, lanes),
        timeline=timeline_of(lanes, data.began),
        charts=_charts(rows),
        settings=dict(_flat(data.settings)),
        version=__version__,
        script=Markup(script),  # noqa: S704  # our own
        style=Markup(style),  # noqa: S704  # our own
        policy=_policy(script, style),
    )
    stream.enable_buffering(_BUFFER)
    return iter(stream)


@cache
def _environment() -> Environment:
    """The templates; compiled once, which takes longer than a small batch takes to be written."""
    environment = Environment(
        loader=PackageLoader("flaude.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    formats = (units.count, units.plural, units.short, units.dollars, units.duration, units.size, units.moment)
    environment.filters.update({format_.__name__: format_ for format_ in formats})
    environment.filters |= {"brief": brief, "lane_tag": _lane_tag}
    return environment


def _shown(value: object) -> object:
    """What a template writes of a value: nothing of `None`, and no odd character as it is."""
    if value is None:
        return ""
    return value if isinstance(value, Markup | int | float) else plain(str(value))


def _lane_tag(tag: str) -> str:
    return tag if len(tag) <= _TAG_IN_LANE else tag[: _TAG_IN_LANE - 1] + "…"


def _own(name: str) -> str:
    return (resources.files("flaude.report") / "templates" / name).read_text(encoding="utf-8")


def _policy(script: str, style: str) -> str:
    """The Content-Security-Policy: this script and this style, and nothing else from nowhere."""
    return (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _wall_seconds(data: ReportData, lanes: list[tuple[Row, list[Span]]]) -> float | None:
    spans = [span for _, spans in lanes for span in spans]
    began = data.began or min((span.began for span in spans), default=None)
    ended = data.ended or data.made or max((span.ended for span in spans), default=None)
    return None if began is None or ended is None else (ended - began).total_seconds()


def _charts(rows: list[Row]) -> dict[str, Histogram]:
    charts = {
        "Time on machines": histogram_of(
            rows, lambda row: row.seconds, text=units.duration, mark=units.round_duration, steps=STEPS
        ),
        "Cost of the agents": histogram_of(
            rows, lambda row: row.cost_usd, text=units.dollars, mark=units.round_dollars, steps=_DOLLARS
        ),
    }
    return {name: chart for name, chart in charts.items() if chart is not None}


def _flat(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Settings as names and texts, those in others as `timeouts.idle`; none that is empty."""
    for name, value in settings.items():
        if is_dataclass(value) and not isinstance(value, type):
            value = asdict(value)  # noqa: PLW2901  # a mapping like any other
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        elif isinstance(value, list | tuple):
            if value:
                yield before + str(name), ", ".join(map(str, value))
        elif value is not None and value != "":
            yield before + str(name), str(value)
