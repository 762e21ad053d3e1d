"""Where the stand-in puts a machine, by what `region` of its create names."""

from __future__ import annotations

from collections.abc import Collection

from flaude.local import replies
from flaude.regions import codes

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
