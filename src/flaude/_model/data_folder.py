"""Where the journal lies on this computer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from flaude._model.errors import JournalError


def home_folder(environ: Mapping[str, str] | None = None) -> Path:
    """`FLAUDE_HOME`, else `flaude` in the user's state folder (`XDG_STATE_HOME`, or `~/.local/state`).

    Args:
        environ: Where to look; the process's environment by default.

    Returns:
        The folder, absolute; it need not be there.

    Raises:
        JournalError: The user has no home folder, and no variable says where else.
    """
    environ = os.environ if environ is None else environ
    if named := environ.get("FLAUDE_HOME"):
        return Path(named).absolute()
    state = Path(environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():  # as its specification has it: then it counts for nothing
        try:
            state = Path("~/.local/state").expanduser()
        except RuntimeError:
            raise JournalError("journal: there is no home folder to keep it in; set FLAUDE_HOME to a folder") from None
    return state / "flaude"
