"""Times, money and numbers for people."""

from __future__ import annotations

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_MANY_DOLLARS = 100


def clock(seconds: float) -> str:
    """How long something took: `0:07`, `12:34`, `1:02:03`, `23h 59m`, `1d 04h`; seven characters at most, for years."""
    whole = max(0, int(seconds))
    if whole >= _DAY:
        return f"{whole // _DAY}d {whole % _DAY // _HOUR:02}h"
    if whole >= 10 * _HOUR:
        return f"{whole // _HOUR}h {whole % _HOUR // _MINUTE:02}m"
    if whole >= _HOUR:
        return f"{whole // _HOUR}:{whole % _HOUR // _MINUTE:02}:{whole % _MINUTE:02}"
    return f"{whole // _MINUTE}:{whole % _MINUTE:02}"


def about(seconds: float) -> str:
    """How long something will take, no more exactly than one can know: `40 s`, `12 min`, `3 h`."""
    if seconds < 2 * _MINUTE:
        return f"{max(10, round(seconds / 10) * 10)} s"
    if seconds < 2 * _HOUR:
        return f"{round(seconds / _MINUTE)} min"
    return f"{round(seconds / _HOUR)} h"


def dollars(usd: float) -> str:
    """US dollars, with as many decimals as tell small ones apart."""
    return f"${usd:.2f}" if usd >= _MANY_DOLLARS else f"${usd:.4f}"


def count(number: int, word: str) -> str:
    """So many of something: `1 machine`, `2 machines`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def apps_text(app: str, shards: int) -> str:
    """The apps of a batch: `my-app`, `my-app and 2 shards`."""
    return app if shards <= 1 else f"{app} and {count(shards - 1, 'shard')}"
