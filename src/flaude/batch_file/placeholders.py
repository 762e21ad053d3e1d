"""`{name}` in texts: which variables stand in a value, and the value with them filled in.

One brace pair around an identifier is a variable; each doubling of it is one literal pair, as in `str.format`:
`{name}` is the value, `{{name}}` the text `{name}`, `{{{name}}}` the value in braces. Any other brace stays as it is,
because prompts are full of JSON, code and `${{ … }}`, which nobody wants to escape.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from flaude._model.errors import ConfigError
from flaude._model.repos import RepoSpec

# Possessive (`++`): a long row of braces is looked at once. The lookbehind makes a match begin at its first brace.
_VARIABLE = re.compile(r"(?<!\{)(\{++)([^\W\d]\w*+)(\}++)")


def variables_in(value: object) -> set[str]:
    """The variables that stand in the texts of `value`; see `filled` for which texts those are."""
    return {match[2] for text in _texts(value) for match in _VARIABLE.finditer(text) if _pairs(match) % 2}


def filled(value: Any, variables: Mapping[str, str], *, where: str) -> Any:
    """`value` with the variables of its texts replaced.

    Texts are plain strings, alone or in lists, tuples and `RepoSpec`s, and the values (never the keys) of mappings.
    Everything else, a `SecretStr` above all, is returned as it is. What is put in is not looked at again.

    Args:
        value: A text, or what holds texts.
        variables: Each variable's text.
        where: The field that `value` belongs to, for errors.

    Raises:
        ConfigError: A variable is not there, or a `RepoSpec` is wrong when it is filled in.
    """
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _replacement(match, variables, where), value)
    if isinstance(value, RepoSpec):
        parts = {part.name: getattr(value, part.name) for part in fields(value)}
        return replace(value, **filled(parts, variables, where=where))
    if isinstance(value, Mapping):
        return {key: filled(item, variables, where=f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [filled(item, variables, where=f"{where}[{index}]") for index, item in enumerate(value)]
    return value


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, RepoSpec):
        yield from (value.url, value.branch, value.target_dir)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _pairs(match: re.Match[str]) -> int:
    # The braces of `{"a": {name}}` that have no partner here belong to the text around.
    return min(len(match[1]), len(match[3]))


def _replacement(match: re.Match[str], variables: Mapping[str, str], where: str) -> str:
    name, pairs = match[2], _pairs(match)
    if pairs % 2 == 0:
        text = name
    elif name in variables:
        text = variables[name]
    else:
        there = f"there is {', '.join(variables)}" if variables else "there is none"
        raise ConfigError(
            f"{where}: no column {name!r} for {{{name}}}; add the column ({there}), "
            f"or write {{{{{name}}}}} for the literal text"
        )
    around = pairs // 2
    return match[1][pairs:] + "{" * around + text + "}" * around + match[3][pairs:]
