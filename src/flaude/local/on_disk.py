"""Boxes whose machines have a folder on this computer's disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import anyio.to_thread

from flaude.local import rootfs


class OnDisk:
    """Makes and removes the folders; see `Box`."""

    async def prepare(self, folder: Path, files: Mapping[str, tuple[bytes, int]]) -> None:
        """See `Box.prepare`."""
        await anyio.to_thread.run_sync(rootfs.prepare, folder, files)

    async def remove(self, folder: Path) -> None:
        """See `Box.remove`."""
        await anyio.to_thread.run_sync(rootfs.remove, folder)
