"""Text of anybody's as one line that a terminal shows, and does not obey."""

from __future__ import annotations

import re
import unicodedata

_ESCAPE = re.compile(
    r"""
    (?: \x1b\[ | \x9b ) [0-?]* [ -/]* [@-~]?  # colours, moves of the cursor
    | (?: \x1b[\]PX^_] | [\x90\x98\x9d-\x9f] ) [^\x07\x1b\x9c]* (?: \x07 | \x1b\\ | \x9c )?  # titles, links, clipboard
    | \x1b [ -/]* [0-~]?
    """,
    re.VERBOSE,
)
_NOT_SHOWN = ("Cc", "Cf", "Cs", "Co", "Cn")
_MARKS = ("Mn", "Me")
_MOST_MARKS = 2  # on one character; more of them climb over the lines around
_WIDER = "\ufe0e\ufe0f"  # they change a character's width, in some terminals


def one_line(text: str, most: int = 200) -> str:
    """The beginning of a text as one line.

    Escape sequences, control characters, characters that turn the direction of writing and those without a meaning are
    left out, any white space becomes a single blank.

    Args:
        text: Any text.
        most: Characters of the line, at most.
    """
    text = text[: 8 * most]  # it may be the content of a file
    if not (text.isascii() and text.isprintable()):
        text = "".join(_shown(_ESCAPE.sub("", text)))
    return " ".join(text.split())[:most]


def _shown(text: str) -> list[str]:
    shown: list[str] = []
    marks = _MOST_MARKS  # there is nothing yet for one to stand on
    for character in text:
        if character.isspace():
            shown.append(" ")
            marks = _MOST_MARKS
            continue
        category = unicodedata.category(character)
        marks = marks + 1 if category in _MARKS else 0
        if category not in _NOT_SHOWN and marks <= _MOST_MARKS and character not in _WIDER:
            shown.append(character)
    return shown
