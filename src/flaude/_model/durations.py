"""Durations as people write them, in files and on the command line: `90s`, `10m`, `2h`, `1d`, `1h30m`."""

from __future__ import annotations

import re

PATTERN = r"^(?=[0-9])([0-9]+(\.[0-9]+)?d)?([0-9]+(\.[0-9]+)?h)?([0-9]+(\.[0-9]+)?m)?([0-9]+(\.[0-9]+)?s)?$"
"""As a regular expression of JSON Schema: days, hours, minutes, seconds, in this order. No other unit, and no `M`."""

EXAMPLES = "90s, 10m, 2h or 1d"

_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)([dhms])")
_FITS = re.compile(PATTERN.removesuffix("$"))
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def seconds_of(text: str) -> float | None:
    """The seconds that a text means; `None` when it is no duration."""
    found = _FITS.match(text)
    if not found or found.end() != len(text):
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


def duration(seconds: float) -> str:
    """Seconds as such a text, rounded to whole ones: `1h30m`."""
    whole = round(seconds)
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, whole = divmod(whole, size)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts[:2]) or "0s"
