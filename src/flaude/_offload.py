"""Work that takes as long as its input is large, off the event loop when that would hold up the other runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")

_LARGE = 256 * 1024  # reading that much JSON takes some milliseconds, the way to a thread and back a tenth of one


async def offload(size: int, work: Callable[..., T], *arguments: object) -> T:
    """What `work` returns; a large one is done in a worker thread.

    A task that is cancelled meanwhile gets it all the same: what has arrived is not thrown away for that.

    Args:
        size: How much there is to do, in bytes or characters.
        work: Touches nothing that the event loop may touch meanwhile.
        arguments: Its arguments.

    Raises:
        Exception: What `work` raises.
    """
    if size < _LARGE:
        return work(*arguments)
    with anyio.fail_after(None, shield=True):  # as `CancelScope(shield=True)`, but types know that it always returns
        return await anyio.to_thread.run_sync(lambda: work(*arguments))
