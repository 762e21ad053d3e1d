"""Options that several commands have, and values as people write them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from cyclopts import Group, Parameter, Token, convert

from flaude._model.durations import EXAMPLES, duration, seconds_of
from flaude._model.timeouts import LONGEST_S

RUN = Group("What runs", sort_key=1)
LIMITS = Group("Limits", sort_key=2)
WHERE = Group("Where", sort_key=3)
SHOWN = Group("What is shown", sort_key=4)


def _duration(_type: type[timedelta], tokens: Sequence[Token]) -> timedelta:
    seconds = seconds_of(tokens[0].value)
    if seconds is None:
        raise ValueError(f"{tokens[0].value!r} is not a duration; use {EXAMPLES}")
    if seconds > LONGEST_S:
        raise ValueError(f"{tokens[0].value!r} is too long; use up to {duration(LONGEST_S)}")
    return timedelta(seconds=seconds)


Duration: TypeAlias = Annotated[timedelta, Parameter(converter=_duration, metavar="DURATION")]
"""`90s`, `10m`, `2h`, `1d`."""


def _whole(type_: type[int], tokens: Sequence[Token]) -> int:
    if not re.fullmatch("[+-]?[0-9]+", tokens[0].value):  # 1.5 would be taken for 1
        raise ValueError(f"{tokens[0].value!r} is no whole number")
    return int(convert(type_, tokens))


Whole: TypeAlias = Annotated[int, Parameter(converter=_whole)]
"""A number without a fraction."""

Flag: TypeAlias = Annotated[bool, Parameter(negative="")]
"""An option without a value, and without a `--no-` form."""

App: TypeAlias = Annotated[str | None, Parameter(name="--app", group=WHERE)]
Local: TypeAlias = Annotated[bool, Parameter(name="--local", negative="", group=WHERE)]
Claude: TypeAlias = Annotated[Literal["scripted", "installed"], Parameter(name="--claude", group=WHERE)]
OutputDir: TypeAlias = Annotated[Path | None, Parameter(name="--output-dir", group=WHERE)]
Shards: TypeAlias = Annotated[int | None, Parameter(name="--shards", group=WHERE, converter=_whole)]
RemoveShards: TypeAlias = Annotated[bool, Parameter(name="--remove-shards", negative="", group=WHERE)]
MaxConcurrency: TypeAlias = Annotated[int | None, Parameter(name="--max-concurrency", group=LIMITS, converter=_whole)]
Budget: TypeAlias = Annotated[float | None, Parameter(name="--budget", group=LIMITS, metavar="USD")]
OrphanAfter: TypeAlias = Annotated[
    timedelta | None, Parameter(name="--orphan-after", group=LIMITS, converter=_duration, metavar="DURATION")
]
Json: TypeAlias = Annotated[bool, Parameter(name="--json", negative="", group=SHOWN)]
Plain: TypeAlias = Annotated[bool, Parameter(name="--plain", negative="", group=SHOWN)]
