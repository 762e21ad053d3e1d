"""Text of anybody's as a terminal shows it, and does not obey."""

from __future__ import annotations

import re

_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[()][0-9A-Za-z]")
_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")


def printable(text: str) -> str:
    r"""The text with its lines, tabs and blanks; colours and moves of the cursor are left out.

    Any other character that a terminal obeys, or that turns the direction of writing, is shown by its number: `\x07`.
    """
    if text.isascii() and text.isprintable():
        return text
    return _OBEYED.sub(_number, _SEQUENCE.sub("", text.replace("\r\n", "\n")))


def _number(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"  # noqa: PLR2004  # as Python writes them
