"""flaude 0.6.1 from PyPI, in an environment of its own below `.cache`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

VERSION = "0.6.1"
_ROOT = Path(__file__).parent.parent
_PIP_WITHIN_S = 300


class NotThereError(Exception):
    """It cannot be had; the message says why."""


def python() -> Path:
    """The Python that has it; installed the first time.

    Raises:
        NotThereError: It cannot be had.
    """
    folder = _ROOT / ".cache" / f"flaude-{VERSION}"
    found = folder / "bin" / "python"
    if not (folder / "complete").exists():
        try:
            _do(sys.executable, "-m", "venv", "--clear", str(folder))
            _do(str(found), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"flaude=={VERSION}")
        except OSError as error:
            raise NotThereError(str(error)) from error
        (folder / "complete").touch()
    return found


def _do(*argv: str) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=_PIP_WITHIN_S)
    except subprocess.TimeoutExpired as error:
        raise NotThereError(f"{argv[2]} took more than {_PIP_WITHIN_S} s") from error
    if done.returncode:
        raise NotThereError((done.stderr.strip().splitlines() or [f"{argv[2]} failed"])[-1])
