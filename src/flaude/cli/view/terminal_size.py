"""How large the terminal is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TextIO

_USUAL = os.terminal_size((80, 24))


def size_of(stream: TextIO) -> os.terminal_size:
    """Columns and lines of the terminal that a stream goes to; 80 and 24 when it does not say."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return _USUAL
    return os.terminal_size((size.columns or _USUAL.columns, size.lines or _USUAL.lines))


def columns_of(stream: TextIO, environ: Mapping[str, str]) -> int | None:
    """Columns of the terminal that a stream goes to or, where it goes to none, what COLUMNS says; None for no limit."""
    try:
        if stream.isatty():
            return size_of(stream).columns
    except ValueError:  # it is closed
        return None
    columns = environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() and int(columns) else None
