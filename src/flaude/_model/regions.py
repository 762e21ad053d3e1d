"""Fly's regions: their codes, and the words that stand for several of them. Pure.

Source: Fly docs, "Regions" and "Machine placement": 18 codes; `region` of a create takes one code, a comma list, or an
alias, and tries one after the other; a single code is strict.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

REGIONS: Mapping[str, str] = {
    "ams": "eu", "arn": "eu", "bom": "apac", "cdg": "eu", "dfw": "us", "ewr": "us", "fra": "eu", "gru": "sa",
    "iad": "us", "jnb": "africa", "lax": "us", "lhr": "eu", "nrt": "apac", "ord": "us", "sin": "apac", "sjc": "us",
    "syd": "apac", "yyz": "na",
}  # fmt: skip
"""Every code, and the smallest area that it belongs to."""

_ALIASES: Mapping[str, frozenset[str]] = {
    "apac": frozenset({"apac"}),
    "eu": frozenset({"eu"}),
    "na": frozenset({"na", "us"}),
    "sa": frozenset({"sa"}),
    "us": frozenset({"us"}),
    "usa": frozenset({"us"}),
    "any": frozenset(REGIONS.values()),
}
_WORD = re.compile(r"[a-z]{2,6}")  # a code has three letters; Fly may have more aliases than those that are known here

WANTED = "give a region's code such as iad, several of them (iad,ewr,ord), or one of " + ", ".join(_ALIASES)


def as_regions(value: object) -> str:
    """What `region` takes, as Fly does: words with commas between them, each of them once; empty for Fly's choice.

    Raises:
        ValueError: A word has not the form of a region's; whether there is such a region is for Fly to say.
    """
    if isinstance(value, str):
        words = value.split(",") if value.strip() else []
    elif isinstance(value, Sequence) and value and all(isinstance(word, str) for word in value):
        words = [word for one in value for word in one.split(",")]
    else:
        raise ValueError(WANTED)
    words = [word.strip() for word in words]
    for word in words:
        if not _WORD.fullmatch(word):
            near = f"; write {word.lower()}" if _WORD.fullmatch(word.lower()) else ""
            raise ValueError(f"{word!r} is not a region code{near or '; ' + WANTED}")
    return ",".join(dict.fromkeys(words))


def codes(word: str) -> tuple[str, ...]:
    """The codes that a code or an alias stands for, as far as they are known; none for an unknown one."""
    if word in REGIONS:
        return (word,)
    areas = _ALIASES.get(word, frozenset())
    return tuple(code for code, area in REGIONS.items() if area in areas)
