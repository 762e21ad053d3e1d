"""TOML to nodes: `tomllib` reads the values, and a scan of what it has found to be TOML finds their places."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from flaude.batch_file.nodes import DEEPEST, MOST_DIGITS, MOST_VALUES, Lines, Node, Place, number_trouble, text_trouble
from flaude.batch_file.problems import Problems, refusal

_Path = tuple[str | int, ...]

_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*+")
_SPACE = re.compile(r"[ \t]*+")
_STRINGS = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*+"{3,5}' r"|'''(?:[^']|'(?!''))*+'{3,5}" r'|"(?:[^"\\\n]|\\.)*+"' r"|'[^'\n]*+'",
    re.DOTALL,
)
_PLAIN = re.compile(r"\d{4}-\d\d-\d\d \d\d:[^\s,\]}#]*|[^\s,\]}#]+")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def read_toml(text: str, file: str, problems: Problems) -> Node:
    """The table of a TOML text.

    Raises:
        BatchFileError: It is no TOML; the problem has the place. What is wrong besides goes to `problems`.
    """
    lines = Lines(text, file)
    try:
        values = tomllib.loads(text)
        places = _Scan(text)
        places.read()
    except tomllib.TOMLDecodeError as error:
        raise refusal(*_sentence(error, lines)) from None
    except RecursionError:
        raise refusal(lines.place(0), f"lists and tables are nested more than {DEEPEST} deep") from None
    except ValueError:  # a number with more digits than Python reads
        raise refusal(lines.place(0), "no TOML: a number or a date is out of range") from None
    return _Nodes(lines, problems, places).node(values, ())


def _sentence(error: tomllib.TOMLDecodeError, lines: Lines) -> tuple[Place, str]:
    # Newer Pythons have the place in attributes as well; this is in all of them.
    message = str(error)
    found = _AT.search(message)
    words = message[: found.start()] if found else message
    if not found or not found[1]:
        place = lines.place(len(lines.text.rstrip()))
    else:
        place = Place(lines.file, int(found[1]), int(found[2]))
    line = lines.line(place.line)
    if words == "Invalid value":
        rest = line[place.column - 1 :]
        words = "no value; a text goes in quotes" if rest.strip() else "the value is missing after the `=`"
    elif words.startswith("Expected '=' after a key") and re.match(r"\s*[\w-]+\s*:", line):
        words = "TOML has `=` between a name and its value, not `:`"
    elif words.startswith("Cannot overwrite a value"):
        words = "this name is there twice; remove one of them"
    elif words.startswith("Cannot declare") and "twice" in words:
        words = "this table is there twice; a list of tables is written [[…]]"
    else:
        words = f"no TOML: {words}"
    return place, words


class _Scan:
    """Where each key and each value of a TOML text begins.

    Attributes:
        values: Offsets of the values, by their paths.
        keys: Offsets of the keys, likewise.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._lengths: dict[_Path, int] = {}
        self.values: dict[_Path, int] = {}
        self.keys: dict[_Path, int] = {}

    def read(self) -> None:
        table: _Path = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)

    def _header(self) -> _Path:
        start, many = self._at, self._text.startswith("[[", self._at)
        self._at += 2 if many else 1
        path: _Path = ()
        for name, offset in self._names():
            path = (*path, name)
            self._first(path, offset, start)
            if path in self._lengths:
                path = (*path, self._lengths[path] - 1)
        if many:
            # The last name is a list: another item of it begins here.
            path = path[:-1] if path and isinstance(path[-1], int) else path
            self._lengths[path] = self._lengths.get(path, 0) + 1
            path = (*path, self._lengths[path] - 1)
            self.values[path] = start
        self._at += 2 if many else 1
        return path

    def _first(self, path: _Path, key: int, value: int) -> None:
        self.keys.setdefault(path, key)
        self.values.setdefault(path, value)

    def _names(self) -> list[tuple[str, int]]:
        names = []
        while True:
            self._skip(_SPACE)
            offset = self._at
            if quoted := _STRINGS.match(self._text, offset):
                self._at = quoted.end()
                names.append((next(iter(tomllib.loads(f"{quoted[0]} = 0"))), offset))
            elif bare := _BARE_KEY.match(self._text, offset):
                self._at = bare.end()
                names.append((bare[0], offset))
            self._skip(_SPACE)
            if self._text[self._at : self._at + 1] != ".":
                return names
            self._at += 1

    def _pair(self, table: _Path) -> None:
        path = table
        names = self._names()
        self._at += 1  # the `=`
        self._skip(_SPACE)
        for name, offset in names:
            path = (*path, name)
            self._first(path, offset, self._at)
        self._value(path)

    def _value(self, path: _Path) -> None:
        self.values.setdefault(path, self._at)
        first = self._text[self._at : self._at + 1]
        if first == "[":
            self._items(path)
        elif first == "{":
            self._inline(path)
        else:
            found = _STRINGS.match(self._text, self._at) or _PLAIN.match(self._text, self._at)
            self._at = found.end() if found else self._at + 1

    def _items(self, path: _Path) -> None:
        self._at += 1
        index = 0
        self._skip(_BLANK)
        while self._text[self._at : self._at + 1] not in {"]", ""}:
            self._value((*path, index))
            index += 1
            self._skip(_BLANK)
            if self._text[self._at : self._at + 1] == ",":
                self._at += 1
                self._skip(_BLANK)
        self._at += 1

    def _inline(self, path: _Path) -> None:
        self._at += 1
        self._skip(_BLANK)
        while self._text[self._at : self._at + 1] not in {"}", ""}:
            self._pair(path)
            self._skip(_BLANK)
            if self._text[self._at : self._at + 1] == ",":
                self._at += 1
                self._skip(_BLANK)
        self._at += 1

    def _skip(self, pattern: re.Pattern[str]) -> None:
        if found := pattern.match(self._text, self._at):
            self._at = found.end()


class _Nodes:
    """Values and their places put together."""

    def __init__(self, lines: Lines, problems: Problems, places: _Scan) -> None:
        self._lines = lines
        self._problems = problems
        self._places = places
        self._values = 0

    def node(self, value: Any, path: _Path) -> Node:
        place = self._lines.place(self._places.values.get(path, 0))
        self._values += 1
        if self._values > MOST_VALUES:
            raise refusal(place, f"more than {MOST_VALUES} values")
        if len(path) > DEEPEST:
            raise refusal(place, f"lists and tables are nested more than {DEEPEST} deep")
        if isinstance(value, dict):
            keys = {name: self._lines.place(self._places.keys.get((*path, name), 0)) for name in value}
            return Node({name: self.node(item, (*path, name)) for name, item in value.items()}, place, keys=keys)
        if isinstance(value, list):
            return Node([self.node(item, (*path, index)) for index, item in enumerate(value)], place)
        if isinstance(value, str):
            if trouble := text_trouble(value):
                self._problems.add(place, "", trouble)
            return Node("" if trouble else value, place)
        written = str(value).lower() if isinstance(value, bool) else str(value)
        if isinstance(value, int | float) and (trouble := number_trouble(value)):
            self._problems.add(place, "", f"{written[:MOST_DIGITS]} {trouble}")
            value = 0
        return Node(value, place, written=written)
