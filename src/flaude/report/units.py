"""Numbers as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

NOTHING = "\N{EN DASH}"
"""For a number that there is not."""

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_STEP = 1024


def count(number: float | None) -> str:
    """`1,204`."""
    return NOTHING if number is None else f"{number:,.0f}"


def plural(number: int, one: str, many: str = "") -> str:
    """`1 run`, `1,204 runs`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def short(number: float) -> str:
    """`940`, `12.3k`, `4.56M`: three digits that count."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size * 0.9995:
            return f"{number / size:#.3g}".rstrip(".") + letter
    return f"{number:.0f}"


def dollars(usd: float | None) -> str:
    """`$12.34`; below ten cents with four digits, for a cent is much there."""
    if usd is None:
        return NOTHING
    return f"${usd:,.4f}" if 0 < abs(usd) < 0.1 else f"${usd:,.2f}"  # noqa: PLR2004  # ten cents


def round_dollars(usd: float) -> str:
    """A round sum: `$0.0002`, `$0.03`, `$0.10`, `$25.00`."""
    cents, _, rest = f"{usd:,.4f}".partition(".")
    return f"${cents}.{rest[:2]}{rest[2:].rstrip('0')}"


def duration(seconds: float | None) -> str:
    """`0.8 s`, `42 s`, `2:05 min`, `1:02:05 h`, `3 d 1:02 h`."""
    if seconds is None:
        return NOTHING
    whole = round(max(seconds, 0))
    if whole < _MINUTE:
        return f"{seconds:.1f} s" if 0 < seconds < 9.95 else f"{whole} s"  # noqa: PLR2004  # two digits that count
    if whole < _HOUR:
        return f"{whole // _MINUTE}:{whole % _MINUTE:02} min"
    if whole < _DAY:
        return f"{whole // _HOUR}:{whole % _HOUR // _MINUTE:02}:{whole % _MINUTE:02} h"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR}:{whole % _HOUR // _MINUTE:02} h"


def round_duration(seconds: float) -> str:
    """A round one: `0 s`, `1:30 min`, `4 min`, `2:30 h`, `3 d`."""
    if seconds < _MINUTE:
        return f"{seconds:g} s"
    if seconds % _DAY == 0:
        return f"{seconds / _DAY:.0f} d"
    length, unit = (_HOUR, "h") if seconds >= _HOUR else (_MINUTE, "min")
    whole, rest = divmod(seconds, length)
    return f"{whole:.0f} {unit}" if rest == 0 else f"{whole:.0f}:{rest * _MINUTE // length:02.0f} {unit}"


def size(number: int | None) -> str:
    """`17 bytes`, `1.2 KB`, `34 MB`: in steps of 1024, as flaude's limits (`max_patch_mb`) and the machine count."""
    if number is None:
        return NOTHING
    value = float(number)
    for unit in ("bytes", "KB", "MB"):
        if round(value, 1) < _STEP:
            return f"{value:.1f}".removesuffix(".0") + f" {unit}"
        value /= _STEP
    return f"{value:,.1f} GB"


def moment(at: datetime | None) -> str:
    """`2026-11-26 15:04:05 UTC`."""
    return NOTHING if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
