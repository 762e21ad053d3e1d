"""How long the machines of a command wait for it: longer than a program's, since `flaude resume` may come for them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from flaude._model.settings import ExecutorSettings
from flaude._model.timeouts import Timeouts

_ORPHAN_S = 3600.0
_DETACHED_S = 24 * 3600.0


def usual_timeouts(*, detach: bool = False) -> Timeouts:
    """The timeouts of batches that say nothing else.

    Args:
        detach: Whether the command leaves its machines alone on purpose.
    """
    seconds = _DETACHED_S if detach else _ORPHAN_S
    return Timeouts(orphan=seconds, linger=seconds)


def orphaned_after(settings: ExecutorSettings, orphan_after: timedelta | None) -> ExecutorSettings:
    """The settings with what the command line says of machines that nobody pulls."""
    if orphan_after is None:
        return settings
    seconds, timeouts = orphan_after.total_seconds(), settings.timeouts
    patience = min(timeouts.patience, seconds / 2)
    return replace(settings, timeouts=replace(timeouts, orphan=seconds, linger=seconds, patience=patience))
