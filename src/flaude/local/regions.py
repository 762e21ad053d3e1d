"""Where the stand-in puts a machine, by what `region` of its create names.

The codes and aliases are those of `flaude._model.regions`: this package imports nothing of flaude, and a test compares.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from flaude.local import replies

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

DEFAULT = "iad"


def choose(region: str, full: Collection[str] | None = ()) -> str:
    """The region where a machine is put: the first with room that a code, an alias, or a comma list of these allows.

    Args:
        region: What the create asks for; empty for the region that is near.
        full: The regions without room; None for all of them.

    Raises:
        RefusedError: 400, a word is neither a code nor an alias (Fly's words are not known); 422, there is no room.
    """
    found = [code for word in region.split(",") for code in _meant(word.strip())] if region else [DEFAULT]
    for code in found:
        if full is not None and code not in full:
            return code
    raise replies.insufficient_capacity()


def _meant(word: str) -> list[str]:
    found = codes(word)
    if not found:
        raise replies.invalid(f"invalid_argument: region {word} not found")
    return sorted(found, key=lambda code: code != DEFAULT)  # what is near comes first


def codes(word: str) -> tuple[str, ...]:
    """The codes that a code or an alias stands for, as far as they are known; none for an unknown one."""
    if word in REGIONS:
        return (word,)
    areas = _ALIASES.get(word, frozenset())
    return tuple(code for code, area in REGIONS.items() if area in areas)
