"""How long the machines of a command wait for it: longer than a library's, since `flaude resume` can come back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from flaude.settings import ExecutorSettings
from flaude.timeouts import Timeouts

_ORPHAN_S = 3600.0
_DETACHED_S = 24 * 3600.0


def patient(settings: ExecutorSettings, orphan_after: timedelta | None, *, detach: bool) -> ExecutorSettings:
    """The settings with the clocks of machines that nobody pulls.

    Args:
        settings: What the batch file says.
        orphan_after: What the command line says.
        detach: Whether the command leaves its machines alone on purpose.
    """
    given, usual = settings.timeouts, Timeouts()
    seconds = orphan_after.total_seconds() if orphan_after else (_DETACHED_S if detach else _ORPHAN_S)
    orphan = seconds if orphan_after or given.orphan == usual.orphan else given.orphan
    linger = seconds if orphan_after or given.linger == usual.linger else given.linger
    patience = min(given.patience, orphan / 2, linger / 2)
    return replace(settings, timeouts=replace(given, orphan=orphan, linger=linger, patience=patience))
