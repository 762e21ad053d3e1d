"""Rows in columns: whole where they go to a file, cut at the right edge of a terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.console import Console
from rich.text import Text

_GAP = "  "


def print_table(
    console: Console, headings: Sequence[str], rows: Sequence[Sequence[Text | str]], *, right: Collection[str] = ()
) -> None:
    """Print rows below their headings.

    Args:
        console: Where to.
        headings: One a column.
        rows: Cells of one line each, as many as there are headings.
        right: Headings of the columns whose cells end at the same place.
    """
    lines = [[Text(heading, "bold") for heading in headings]]
    lines += [[cell if isinstance(cell, Text) else Text(cell) for cell in row] for row in rows]
    widths = [max(cell.cell_len for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = list[Text]()
        for heading, cell, width in zip(headings, line, widths, strict=True):
            blanks = " " * (width - cell.cell_len)
            cells.append(Text.assemble(blanks, cell) if heading in right else Text.assemble(cell, blanks))
        text = Text(_GAP).join(cells)
        text.rstrip()
        if console.is_terminal:
            text.truncate(console.width, overflow="ellipsis")
        console.print(text)
