"""YAML 1.2 to nodes, from the parser's events: every value has its place, and nothing is made that nobody asked for.

Plain words are read by YAML 1.2's core schema: `no` and `2026-01-01` are texts, `010` is ten. There are no tags but
`!!str`, and no keys but texts.
"""

from __future__ import annotations

import math
import re
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

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
from flaude.batch_file.problems import Problems, refusal, shown
from flaude.batch_file.yaml_hints import sentence

_NULL = re.compile(r"null|Null|NULL|~|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_CUT_OFF = re.compile(r"[ \t]+(#[^\s#]\S*)")

_MERGE = "<<"
_STR = "tag:yaml.org,2002:str"


def read_yaml(text: str, file: str, problems: Problems) -> Node | None:
    """The one document of a YAML text; `None` when it is empty.

    Raises:
        BatchFileError: It is no YAML; the problem has the place. What is wrong besides goes to `problems`.
    """
    lines = Lines(text, file)
    reader = _Reader(lines, problems)
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            reader.take(event)
    except ReaderError as error:
        character = shown(chr(error.character)) if isinstance(error.character, int) else shown(str(error.character))
        raise refusal(lines.place(error.position), f"the character {character} may not be in YAML; remove it") from None
    except MarkedYAMLError as error:
        offset, message = sentence(error, lines)
        raise refusal(lines.place(offset), message) from None
    except (YAMLError, ValueError, OverflowError):
        # An escape beyond the last character of Unicode is a plain ValueError.
        raise refusal(reader.last, "what follows here is no YAML; look for an odd escape such as \\U00110000") from None
    return reader.root


class _Open:
    """A list or mapping whose end has not come yet."""

    def __init__(self, node: Node, anchor: str | None) -> None:
        self.node = node
        self.anchor = anchor
        self.key: tuple[str, Place] | None = None
        self.expects_key = isinstance(node.value, dict)
        self.merged: list[Node] = []


class _Reader:
    """Builds nodes from events, without recursion: a file may be nested as deeply as it likes."""

    def __init__(self, lines: Lines, problems: Problems) -> None:
        self._lines = lines
        self._problems = problems
        self._open: list[_Open] = []
        self._anchors: dict[str, Node | None] = {}  # None: its end has not come yet
        self._sizes: dict[int, int] = {}
        self._documents = 0
        self.root: Node | None = None
        self.last = lines.place(0)

    def take(self, event: Any) -> None:
        place = self.last = self._lines.place(event.start_mark.index)
        match event:
            case DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise refusal(place, "a second document begins here; one file is one batch: remove the line `---`")
            case MappingStartEvent() | SequenceStartEvent():
                self._begin(event, place)
            case MappingEndEvent() | SequenceEndEvent():
                self._end()
            case ScalarEvent():
                self._put(self._scalar(event, place), event.anchor)
            case AliasEvent():
                self._put(self._aliased(event.anchor, place), None)

    def _begin(self, event: Any, place: Place) -> None:
        if len(self._open) >= DEEPEST:
            raise refusal(place, f"lists and mappings are nested more than {DEEPEST} deep")
        mapping = isinstance(event, MappingStartEvent)
        bracket = ("{" if mapping else "[") if event.flow_style else ""
        self._tag(event, place)
        if event.anchor:
            self._anchors[event.anchor] = None
        self._open.append(_Open(Node({} if mapping else [], place, written=bracket), event.anchor))

    def _end(self) -> None:
        done = self._open.pop()
        for merged in done.merged:
            for name, value in merged.value.items():
                if name not in done.node.value:
                    done.node.value[name] = value
                    done.node.keys[name] = merged.keys[name]
        self._put(done.node, done.anchor)

    def _put(self, node: Node, anchor: str | None) -> None:
        if anchor:
            self._anchors[anchor] = node
        self._count(node)
        if not self._open:
            self.root = node
            return
        parent = self._open[-1]
        if not isinstance(parent.node.value, dict):
            parent.node.value.append(node)
        elif parent.expects_key:
            parent.key = self._key(node)
            parent.expects_key = False
        else:
            parent.expects_key = True
            self._add(parent, node)

    def _add(self, parent: _Open, node: Node) -> None:
        if parent.key is None:
            return
        name, place = parent.key
        if node.value is None and not node.written:
            node.place = place  # nothing is where the next thing begins, says the parser
        if name == _MERGE:
            for merged in node.value if isinstance(node.value, list) else [node]:
                if isinstance(merged.value, dict):
                    parent.merged.append(merged)
                else:
                    self._problems.add(merged, _MERGE, "takes a mapping in, or a list of mappings")
        elif name in parent.node.value:
            first = parent.node.keys[name]
            self._problems.add(place, name, f"is there twice, first in line {first.line}; remove one of them")
        else:
            parent.node.value[name] = node
            parent.node.keys[name] = place

    def _key(self, node: Node) -> tuple[str, Place] | None:
        if isinstance(node.value, str):
            return node.value, node.place
        if isinstance(node.value, dict | list):
            message = "a text that begins with { or [ goes in quotes"
        elif node.value is None:
            message = "a name is missing before the colon"
        else:
            message = f'the name {node.written} is no text; put it in quotes: "{node.written}"'
        self._problems.add(node, "", message)
        return None

    def _aliased(self, name: str, place: Place) -> Node:
        if name not in self._anchors:
            raise refusal(place, f"`*{name}` is an alias of nothing; a text that begins with * goes in quotes")
        node = self._anchors[name]
        if node is None:
            raise refusal(place, f"`*{name}` is inside of what it stands for")
        return node

    def _count(self, node: Node) -> None:
        # An alias counts with all that it stands for, or a few lines could stand for more than any memory holds.
        inside = node.value.values() if isinstance(node.value, dict) else node.value
        size = 1 + (sum(self._sizes[id(item)] for item in inside) if isinstance(node.value, dict | list) else 0)
        self._sizes[id(node)] = size
        if size > MOST_VALUES:
            raise refusal(node.place, f"this stands for more than {MOST_VALUES} values")

    def _tag(self, event: Any, place: Place) -> None:
        tag = str(event.tag) if event.tag else ""
        if tag not in {"", "!", _STR}:
            self._problems.add(place, "", "a text that begins with ! goes in quotes; there are no tags here")

    def _scalar(self, event: Any, place: Place) -> Node:
        value: str = event.value
        self._tag(event, place)
        if event.style is not None or event.tag:
            return self._text(value, place)
        if _NULL.fullmatch(value):
            return Node(None, place, written=value)
        if _BOOL.fullmatch(value):
            return Node(value.lower() == "true", place, written=value)
        if (number := _number(value)) is not None:
            if trouble := number_trouble(number):
                self._problems.add(place, "", f"{value[:MOST_DIGITS]} {trouble}; if it is a text, put it in quotes")
                number = 0
            return Node(number, place, written=value)
        self._cut_off(value, event.end_mark.index)
        return self._text(value, place)

    def _text(self, value: str, place: Place) -> Node:
        if trouble := text_trouble(value):
            self._problems.add(place, "", trouble)
            value = ""
        return Node(value, place)

    def _cut_off(self, value: str, end: int) -> None:
        """`prompt: Fix issue #12 now` is `Fix issue` to YAML: nobody means that."""
        cut = _CUT_OFF.match(self._lines.text, end)
        if cut and (" " in value or cut[1][1].isdigit()):
            message = (
                f"the text ends before {shown(cut[1], 20)}, which YAML takes for a comment; put the text in quotes, or "
                "begin the comment with `# `"
            )
            self._problems.add(self._lines.place(cut.start(1)), "", message)


def _number(text: str) -> float | None:
    if _NO_NUMBER.fullmatch(text):
        return math.nan
    if _INT.fullmatch(text):
        return int(text) if len(text) <= MOST_DIGITS else math.inf
    if _OCTAL.fullmatch(text):
        return int(text, 8)
    if _HEXADECIMAL.fullmatch(text):
        return int(text, 16)
    return float(text) if _FLOAT.fullmatch(text) else None
