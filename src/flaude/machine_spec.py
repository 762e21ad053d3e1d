"""The machine that a run asks Fly for: its `config`, without a single secret in it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from typing import Any

import anyio.to_thread

from flaude.config import MachineConfig
from flaude.guest import archive
from flaude.link import GUEST_PATH

MANAGED_BY = "flaude"
"""The metadata `managed_by` of every machine of ours."""

START_DEADLINE = "FLAUDE_START_DEADLINE_S"
"""The variable that tells a guest how many seconds to wait for a job."""


def machine_spec(config: MachineConfig, *, metadata: Mapping[str, str], start_deadline_s: float) -> dict[str, Any]:
    """Fly's `config` for one throw-away machine (fields: Fly's OpenAPI document, `fly.MachineConfig`).

    Restart policy `no` must be said: without it Fly restarts on failure. `auto_destroy` makes every exit of the guest
    the end of the machine, also when the controller is gone.
    """
    return {
        "image": config.image,
        "guest": asdict(config.guest),
        **({"rootfs": {"size_gb": config.rootfs_gb}} if config.rootfs_gb else {}),
        # Without site packages and the environment: it needs neither, and starts sooner.
        "init": {"exec": ["python3", "-I", "-S", GUEST_PATH]},
        "env": {START_DEADLINE: f"{start_deadline_s:g}"},
        "files": [{"guest_path": GUEST_PATH, "raw_value": _guest_archive()}],
        "restart": {"policy": "no"},
        "auto_destroy": True,
        "metadata": {**config.metadata, **metadata},
        "dns": {"skip_registration": True},
    }


async def prepare() -> None:
    """Build what all machines have in common, once a process and in a worker thread: dozens of files are read for it.

    Without it the first `machine_spec` does.
    """
    if not _guest_archive.cache_info().currsize:
        await anyio.to_thread.run_sync(_guest_archive)


@cache
def _guest_archive() -> str:
    return base64.b64encode(archive.build()).decode("ascii")
