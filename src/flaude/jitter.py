"""Waits of uneven length, so that calls that failed together are not repeated together."""

from __future__ import annotations

import random


def jitter(seconds: float) -> float:
    """Half to one and a half of it."""
    return seconds * random.uniform(0.5, 1.5)  # noqa: S311  # guards nothing
