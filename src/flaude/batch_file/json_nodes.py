"""JSON to nodes: Python's own decoder says what is wrong with it, and a scan of its tokens where everything is."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from flaude.batch_file.nodes import (
    DEEPEST,
    MOST_DIGITS,
    MOST_VALUES,
    Lines,
    Node,
    Place,
    number_trouble,
    text_trouble,
)
from flaude.batch_file.problems import Problems, refusal

_TOO_DEEP = f"lists and objects are nested more than {DEEPEST} deep"
_WORD = re.compile(r'[ \t\r\n]*("(?:[^"\\]|\\.)*+"|[{}\[\]:,]|[^\s{}\[\]:,"]+)')


def read_json(text: str, lines: Lines, problems: Problems, offset: int = 0) -> Node:
    """The value of a JSON text.

    Args:
        text: A whole file, or a part of one.
        lines: Those of the file.
        problems: Takes what is wrong besides: names that are there twice, numbers that are none.
        offset: Where in the file `text` begins.

    Raises:
        BatchFileError: It is no JSON; the problem has the place.
    """
    try:
        # Numbers are looked at below: Python raises a plain ValueError at very long ones.
        json.loads(text, parse_int=_nothing, parse_float=_nothing, parse_constant=_nothing)
    except json.JSONDecodeError as error:
        # How deep Python reads differs between its versions, so our own limit is checked first.
        if (deep := _too_deep(text[: error.pos])) is not None:
            raise refusal(lines.place(offset + deep), _TOO_DEEP) from None
        at, message = _sentence(error, text)
        raise refusal(lines.place(offset + at), message) from None
    except RecursionError:
        raise refusal(lines.place(offset + (_too_deep(text) or 0)), _TOO_DEEP) from None
    return _Scan(lines, problems, offset).read(text)


def _nothing(_: str) -> None:
    return None


def _too_deep(text: str) -> int | None:
    """Where what is JSON up to its end is nested too deep; `None` when it is not."""
    open_ = 0
    for match in _WORD.finditer(text):
        open_ += (match[1] in {"[", "{"}) - (match[1] in {"]", "}"})
        if open_ > DEEPEST:
            return match.start(1)
    return None


def _sentence(error: json.JSONDecodeError, text: str) -> tuple[int, str]:
    at, rest = error.pos, text[error.pos :].lstrip()
    before = text[: error.pos].rstrip()
    first = rest[:1]
    if before.endswith(",") and first in {"}", "]"}:
        return len(before) - 1, f"a comma too many before `{first}`"
    if first == "," and rest[1:].lstrip()[:1] in {"}", "]"}:
        return at, f"a comma too many before `{rest[1:].lstrip()[:1]}`"
    if rest.startswith(("//", "/*", "#")):
        return at, "JSON has no comments; take them out, or write YAML, which has"
    if first == "'":
        return at, 'JSON has double quotes only: "…"'
    if error.msg == "Extra data":
        return at, "more follows than one JSON value; one task a line is --format jsonl, or a file named .jsonl"
    if error.msg.startswith("Unterminated string"):
        return at, "the quote that begins here is never closed"
    if not rest and "control character" not in error.msg:
        return at, "the file ends in the middle of a value; a bracket or a quote is not closed"
    if "control character" in error.msg:
        return at, "a line's end or a tab inside of a text; write it as \\n or \\t"
    return at, f"no JSON: {error.msg}"


class _Scan:
    """Reads the tokens of what is known to be JSON."""

    def __init__(self, lines: Lines, problems: Problems, offset: int) -> None:
        self._lines = lines
        self._problems = problems
        self._offset = offset
        self._values = 0

    def read(self, text: str) -> Node:
        open_: list[tuple[Node, list[tuple[str, Place]]]] = []
        whole = Node(None, self._lines.place(self._offset))
        for match in _WORD.finditer(text):
            word, place = match[1], self._lines.place(self._offset + match.start(1))
            if word in ":,":
                continue
            if word in "}]":
                open_.pop()
                continue
            parent, key = open_[-1] if open_ else (None, [])
            if parent is not None and isinstance(parent.value, dict) and not key:
                key.append((self._text(word, place), place))
                continue
            node = self._node(word, place)
            if parent is None:
                whole = node
            elif isinstance(parent.value, list):
                parent.value.append(node)
            else:
                self._add(parent, *key.pop(), node)
            if word in "{[":
                if len(open_) >= DEEPEST:
                    raise refusal(place, _TOO_DEEP)
                open_.append((node, []))
        return whole

    def _add(self, parent: Node, name: str, place: Place, node: Node) -> None:
        if name in parent.value:
            first = parent.keys[name]
            self._problems.add(place, name, f"is there twice, first in line {first.line}; remove one of them")
        else:
            parent.value[name] = node
            parent.keys[name] = place

    def _node(self, word: str, place: Place) -> Node:
        self._values += 1
        if self._values > MOST_VALUES:
            raise refusal(place, f"more than {MOST_VALUES} values")
        if word == "{":
            return Node({}, place)
        if word == "[":
            return Node([], place)
        if word.startswith('"'):
            return Node(self._text(word, place), place)
        value = _plain(word)
        if isinstance(value, float | int) and not isinstance(value, bool) and (trouble := number_trouble(value)):
            self._problems.add(place, "", f"{word[:MOST_DIGITS]} {trouble}")
            value = 0
        return Node(value, place, written=word)

    def _text(self, word: str, place: Place) -> str:
        text: str = json.loads(word)
        if trouble := text_trouble(text):
            self._problems.add(place, "", trouble)
            return ""
        return text


def _plain(word: str) -> Any:
    if word in {"NaN", "Infinity", "-Infinity"}:
        return math.nan
    if len(word) > MOST_DIGITS and word.lstrip("-").isdigit():
        return math.inf
    return json.loads(word)
