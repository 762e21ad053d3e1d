"""SQL lives in files of its own; this reads them."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path


def blocks(file: str, word: str) -> dict[str, str]:
    """The blocks of a file of this package, each below a line `-- WORD: NAME`, by their names."""
    text = Path(__file__).with_name(file).read_text("utf-8")
    _, *parts = re.split(rf"^-- {word}: (\w+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one: `executescript` would commit the transaction that it runs in."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
