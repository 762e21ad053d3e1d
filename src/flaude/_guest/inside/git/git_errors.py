"""Which file git means when it gives up. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

# A name stands there as it is: it may have quotes and line breaks itself.
_NAMES = tuple(
    re.compile(pattern, re.MULTILINE | re.DOTALL)
    for word in (rb"^fatal: ", rb"^error: ")
    for pattern in (
        word + rb"(?:git update-index: )?(?:unable to \w+ )?([^\n]+?)(?:: |$)",
        word + rb"(?:[^'\n]*?)'(.+?)'",
        word + rb"(?:[^'\n]*?)'([^\n]+)'",
        word + rb"(?:[^\"\n]*?)\"(.+?)\"",
    )
)


def path(told: bytes, is_one: Callable[[bytes], bool]) -> bytes | None:
    """The path that an error of git's is about, if it names one.

    Args:
        told: What git said.
        is_one: Whether there is such a path.
    """
    return next((name for name in _candidates(told) if is_one(name)), None)


def _candidates(told: bytes) -> Iterator[bytes]:
    for pattern in _NAMES:
        for match in pattern.finditer(told):
            yield match.group(1)
