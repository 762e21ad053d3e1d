"""`--quirk NAME=VALUE`: how the local Fly server behaves where sources disagree about Fly."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import Field, fields, replace
from difflib import get_close_matches
from typing import Any

from flaude._model.errors import ConfigError
from flaude.local import Quirks

_NONE = "none"
_TRUTHS = {"yes": True, "true": True, "no": False, "false": False}


def quirks(settings: Iterable[str], *, kind: bool) -> Quirks:
    """The quirks that the options ask for.

    Args:
        settings: `NAME=VALUE` each.
        kind: Whether the rest is the best reading instead of the worst.

    Raises:
        ConfigError: A setting is of no use.
    """
    known = {field.name: field for field in fields(Quirks)}
    changed: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        field = known.get(name.strip().replace("-", "_"))
        if not equals:
            raise ConfigError(f'--quirk: "{setting}" has no value; use NAME=VALUE, for example exec_stdin=yes')
        if field is None:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(known)}"
            raise ConfigError(f'--quirk: "{name}" is not a quirk; {hint}')
        changed[field.name] = _value(field, value.strip().lower())
    return replace(Quirks.kind() if kind else Quirks(), **changed)


def _value(field: Field[Any], text: str) -> Any:
    """What the text means for a field: the types of `Quirks` are bool, int and float, some of them or None."""
    wanted = str(field.type)
    if wanted == "bool":
        if text not in _TRUTHS:
            raise ConfigError(f'--quirk {field.name}: "{text}" is neither yes nor no')
        return _TRUTHS[text]
    if text == _NONE and _NONE in wanted.lower():
        return None
    try:
        number = float(text) if "float" in wanted else int(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        words = "a number from 0" + (", or none" if _NONE in wanted.lower() else "")
        raise ConfigError(f'--quirk {field.name}: "{text}" is not {words}')
    return number
