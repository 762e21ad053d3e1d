"""Replaces secret values in whatever leaves the machine."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

MARK = "[redacted]"
_SHORTEST = 4
"""Shorter values are left: they hide nothing, and replacing `1` or `:` everywhere would ruin the output."""

OURS = frozenset({"type", "state", "ended_by", "job_id", "status", "file", "patch", "mail", "sha256", "data"})
"""Names of what the guest says in its own words, or that must come as it is."""

_SHORTEST_WORD = 16
"""The same for a single word of a value of several lines: a line of a key has 64, its names and marks have fewer."""


class Redactor:
    """Replaces every value, also as it stands in JSON text; longer ones first, so that none is left inside another.

    Output comes line by line: of a value that has several lines (a private key, a file of credentials) each long word
    is replaced for itself.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        parts = {part for value in values for part in _parts(value)}
        forms = {form for part in parts for form in _forms(part)}
        self._forms = sorted((form for form in forms if len(form) >= _SHORTEST), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text without the values."""
        for form in self._forms:
            text = text.replace(form, MARK)
        return text

    def beginning(self, text: str) -> str:
        """The same for a text whose end was cut off, maybe in the middle of a value."""
        text = self(text)
        for form in self._forms:
            for length in range(min(len(form) - 1, len(text)), _SHORTEST - 1, -1):
                if text.endswith(form[:length]):
                    return text[:-length] + MARK
        return text

    def json(self, value: Any) -> Any:
        """The same for every text in a JSON value; lone surrogates, which no UTF-8 can hold, become `?`."""
        if isinstance(value, str):
            return self(value.encode("utf-8", "replace").decode("utf-8"))
        if isinstance(value, list):
            return [self.json(item) for item in value]
        if isinstance(value, dict):
            return {self.json(key): self.json(item) for key, item in value.items()}
        return value

    def told(self, value: Any, name: str = "") -> Any:
        """The same for a message of our own: its keys, and what stands under `OURS`, are ours and hide nothing.

        A secret may be any word, and a message without its own words could not be read.
        """
        if isinstance(value, list):
            return [self.told(item, name) for item in value]
        if isinstance(value, dict):
            return {key: self.told(item, key) for key, item in value.items()}
        return value if name in OURS else self.json(value)


def _forms(part: str) -> set[str]:
    """The part as it is, as it stands in JSON, and as it stands in JSON that is a text in JSON."""
    once = {json.dumps(part)[1:-1], _plain_json(part)}
    return {part, *once, *(json.dumps(form)[1:-1] for form in once), *map(_plain_json, once)}


def _parts(value: str) -> list[str]:
    """The value, the same without the line break that a file ends with, and its long words if it has several lines."""
    whole = value.strip()
    words = [word.strip("\"',;:") for word in whole.split()] if "\n" in whole else []
    return [value, whole, *(word for word in words if len(word) >= _SHORTEST_WORD)]


def _plain_json(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)[1:-1]
