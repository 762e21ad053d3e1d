"""Fly's regions, and what `region` of a create may name."""

from __future__ import annotations

from flaude.local import replies

DEFAULT = "iad"

# Fly docs, "Regions": code and the alias that it belongs to.
REGIONS = {
    "ams": "eu", "arn": "eu", "bom": "apac", "cdg": "eu", "dfw": "na", "ewr": "na", "fra": "eu", "gru": "sa",
    "iad": "na", "jnb": "africa", "lax": "na", "lhr": "eu", "nrt": "apac", "ord": "na", "sin": "apac", "sjc": "na",
    "syd": "apac", "yyz": "na",
}  # fmt: skip


def choose(region: str) -> str:
    """The region where a machine is put: the first that a code, an alias, a comma list of these or `any` allows.

    Raises:
        RefusedError: 400, a word is neither a code nor an alias (Fly's words are not known).
    """
    if not region:
        return DEFAULT
    return next(code for code in [_one(word.strip()) for word in region.split(",")] if code)


def _one(word: str) -> str:
    if word in REGIONS:
        return word
    if word in ("any", "na", "us", "usa"):
        return DEFAULT
    matches = [code for code, alias in REGIONS.items() if alias == word]
    if not matches:
        raise replies.invalid(f"invalid_argument: region {word} not found")
    return matches[0]
