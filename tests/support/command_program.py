"""The command `flaude` with the detector for calls that block its event loop."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[2])

from tests.support.blocking_detector import detecting  # noqa: E402

from flaude.cli import main  # noqa: E402


def tell_and_end(what: str) -> None:
    """Tell, and end the process at once."""
    # For good: the command may bear any exception, and its exit code is what tests look at.
    os.write(2, f"{what}\n".encode())
    os._exit(70)


if __name__ == "__main__":
    with detecting(tell_and_end):
        main()
