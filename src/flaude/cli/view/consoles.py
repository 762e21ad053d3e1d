"""Where results and where talk go."""

from __future__ import annotations

import io
import sys
from typing import TextIO

from rich.console import Console


def for_results() -> Console:
    """Stdout. What no terminal is between cuts nothing."""
    return _on(sys.stdout)


def for_talk() -> Console:
    """Stderr: what is told about the results."""
    return _on(sys.stderr)


def _on(stream: TextIO) -> Console:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")  # a tag that the terminal's encoding does not have ends nothing
    return Console(file=stream, highlight=False, soft_wrap=True, markup=False, emoji=False)
