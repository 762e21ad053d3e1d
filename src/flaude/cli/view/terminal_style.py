"""What a terminal, or whatever the output goes to, can show: colours and characters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TextIO


class Style(Enum):
    """What a piece of text is; its colour among 256 and among 16. All of them are legible on black and on white."""

    PLAIN = ("", "")
    STRONG = ("1", "1")
    GOOD = ("38;5;28", "32")
    BAD = ("38;5;160", "31")
    WARNING = ("1;38;5;130", "1;35")
    ACTIVE = ("38;5;32", "")


@dataclass(frozen=True)
class Glyphs:
    """The characters that are not letters."""

    spinner: str
    good: str
    bad: str
    waiting: str
    more: str
    full: str
    empty: str
    about: str
    between: str


UNICODE = Glyphs("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "✓", "✗", "·", "…", "━", "─", "≈", " · ")
ASCII = Glyphs("|/-\\", "+", "x", ".", "...", "#", "-", "~", ", ")


@dataclass(frozen=True)
class Look:
    """How to write.

    Attributes:
        glyphs: With which characters.
        colours: Out of how many: 256, 16 or 0.
        encoding: In which encoding; what it does not have becomes `?`.
    """

    glyphs: Glyphs = UNICODE
    colours: int = 0
    encoding: str = "utf-8"

    def paint(self, text: str, style: Style) -> str:
        """The text with its colour."""
        code = style.value[0 if self.colours > 16 else 1] if self.colours else ""  # noqa: PLR2004  # the 16 basic ones
        return f"\x1b[{code}m{text}\x1b[0m" if code and text else text


def look_of(stream: TextIO, environ: Mapping[str, str]) -> Look:
    """How to write to a stream: by its encoding, and by NO_COLOR, FORCE_COLOR, COLORTERM and TERM."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return Look(_glyphs(encoding, environ), _colours(stream, environ), encoding)


def is_terminal(stream: TextIO) -> bool:
    """Whether somebody looks at it."""
    try:
        return stream.isatty()
    except ValueError:  # it is closed
        return False


def is_dumb(environ: Mapping[str, str]) -> bool:
    """Whether the terminal cannot move its cursor, or nobody knows."""
    return environ.get("TERM", "").lower() in ("", "dumb", "unknown")


def _glyphs(encoding: str, environ: Mapping[str, str]) -> Glyphs:
    if environ.get("TERM") == "linux":  # a console's font has room for few characters
        return ASCII
    try:
        "".join(vars(UNICODE).values()).encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return UNICODE


def _colours(stream: TextIO, environ: Mapping[str, str]) -> int:
    if environ.get("NO_COLOR"):
        return 0
    forced = environ.get("FORCE_COLOR", "0") not in ("", "0", "false")
    if not forced and (not is_terminal(stream) or is_dumb(environ)):
        return 0
    term = environ.get("TERM", "")
    return 256 if "256" in term or environ.get("COLORTERM") in ("truecolor", "24bit") else 16
