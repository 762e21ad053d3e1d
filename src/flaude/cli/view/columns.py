"""Text in columns, in terms of a terminal's cells: a wide character takes two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from flaude.cli.view.terminal_style import Look, Style


@dataclass(frozen=True)
class Piece:
    """A text at a column, counted from 0."""

    column: int
    text: str
    style: Style = Style.PLAIN


Line = tuple[Piece, ...]
"""From left to right, one beside the other."""


@dataclass(frozen=True)
class Column:
    """A column: its heading, its width and the gap after it in cells, and whether its texts end at its right edge."""

    heading: str
    width: int
    right: bool = False
    gap: int = 2


def cut(text: str, width: int, more: str = "…") -> str:
    """The text, shortened to so many cells, with `more` at its end where something is missing."""
    if cell_len(text) <= width:
        return text
    if width <= len(more):
        return more[: max(0, width)]
    return set_cell_size(text, width - len(more)).rstrip() + more


def in_columns(columns: Sequence[Column], texts: Sequence[tuple[str, Style]], more: str = "…") -> Line:
    """A line of texts, each in its column, shortened where it is too long for it."""
    pieces, at = [], 0
    for column, (text, style) in zip(columns, texts, strict=True):
        shown = cut(text, column.width, more)
        shift = column.width - cell_len(shown) if column.right else 0
        if shown:
            pieces.append(Piece(at + shift, shown, style))
        at += column.width + column.gap
    return tuple(pieces)


def fitting(columns: Sequence[Column], width: int) -> tuple[set[str], int]:
    """Which columns fit, when the first ones are worth most: their headings, and the cells that are left."""
    fits = set()
    for column in columns:
        if column.gap + column.width <= width:
            width -= column.gap + column.width
            fits.add(column.heading)
    return fits, max(0, width)


def headings(columns: Sequence[Column]) -> Line:
    """The line above them."""
    return in_columns(columns, [(column.heading, Style.STRONG) for column in columns])


def width_of(line: Line) -> int:
    """How many cells it takes."""
    return line[-1].column + cell_len(line[-1].text) if line else 0


def rendered(line: Line, look: Look, *, moves: bool = False) -> str:
    """The line as text.

    Args:
        line: The line.
        look: How to write.
        moves: Whether the cursor may be moved: then what a terminal takes for wider or narrower than we do shifts
            nothing that comes after it.
    """
    parts, at, sure = [], 0, True
    for piece in line:
        parts.append(" " * (piece.column - at))
        if moves and not sure:
            parts.append(f"\x1b[{piece.column + 1}G")
        parts.append(look.paint(piece.text, piece.style))
        at = piece.column + cell_len(piece.text)
        sure = sure and piece.text.isascii()
    return "".join(parts)
