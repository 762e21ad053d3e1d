"""What a line of Claude Code's says, where it counts. Pure."""

from __future__ import annotations

import json
import math
import re
from typing import Any

_MOST_LEVELS = 100
_SESSION = re.compile(r"[0-9A-Za-z-]{1,100}")


def parse(line: bytes) -> dict[str, Any] | None:
    """The line as JSON, when it is one that counts: the beginning of a session, a result, or a rate limit.

    None for all others, and for what a reader on the way to the caller could not take in: text that only Python takes
    for JSON (NaN, numbers that are infinite), and what is nested too deep. No line of Claude Code's is like that.
    """
    if line[:1] != b"{":
        return None
    try:
        found = json.loads(line, parse_constant=_refuse, parse_float=_finite, parse_int=_whole)
    except (ValueError, RecursionError):
        return None
    if not _counts(found) or _is_deep(found):
        return None
    return dict(found)


def session_id(found: dict[str, Any]) -> str:
    """The session that a line belongs to; empty when it names none that could be a file's name."""
    told = found.get("session_id")
    return told if isinstance(told, str) and _SESSION.fullmatch(told) else ""


def _counts(found: dict[str, Any]) -> bool:
    kind = found.get("type")
    if kind == "system":
        return found.get("subtype") == "init"
    return kind == "result" or (kind == "rate_limit_event" and isinstance(found.get("rate_limit_info"), dict))


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is more than a number can hold")
    return number


def _whole(text: str) -> int:
    _finite(text)  # and none of thousands of digits, which take Python long, or which it refuses
    return int(text)


def _is_deep(value: Any) -> bool:
    """Whether it has lists or objects inside of each other over more than so many levels."""
    level = [value]
    for _ in range(_MOST_LEVELS):
        inner = [part.values() if isinstance(part, dict) else part for part in level if isinstance(part, (dict, list))]
        level = [item for items in inner for item in items]
        if not level:
            return False
    return True
