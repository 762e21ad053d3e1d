"""The machine that a run asks Fly for: its `config`, without a single secret in it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from flaude._guest.inside.layout import PAD_FILE
from flaude._guest.program import GUEST_PATH, packed_bootstrap, packed_guest
from flaude._model.config import MachineConfig

START_DEADLINE = "FLAUDE_START_DEADLINE_S"
"""The variable that tells a guest how many seconds to wait for a job."""


STOP_CONFIG = {"signal": "SIGTERM", "timeout": "300s"}
"""How Fly is to stop a machine: the guest then collects, and holds the harvest until it was pulled.

Without it a machine has 5 s; 300 s are the most (Fly docs, `kill_timeout`). Trial accounts have their machines stopped
after 5 minutes (Fly docs, about/free-trial), others when a host is maintained.
"""


def guest_file(*, whole: bool = True) -> dict[str, Any]:
    """The program that a machine is created with, as one of Fly's `files`.

    Args:
        whole: All of it; else what waits for it.
    """
    return {"guest_path": GUEST_PATH, "raw_value": packed_guest() if whole else packed_bootstrap()}


def machine_spec(
    config: MachineConfig, *, metadata: Mapping[str, str], start_deadline_s: float, pad: bytes, whole: bool = True
) -> dict[str, Any]:
    """Fly's `config` for one throw-away machine (fields: Fly's OpenAPI document, `fly.MachineConfig`).

    Restart policy `no` must be said: without it Fly restarts on failure. `auto_destroy` makes every exit of the guest
    the end of the machine, also when the controller is gone.

    Args:
        config: What the run is.
        metadata: Metadata that identifies the machine as ours.
        start_deadline_s: Seconds for which it waits for its job.
        pad: What the secrets of its job will be hidden by.
        whole: Whether it holds the whole guest; else what waits for it.
    """
    return {
        "image": config.image,
        "guest": asdict(config.size),
        **({"rootfs": {"size_gb": config.rootfs_gb}} if config.rootfs_gb else {}),
        # Without site packages and the environment: it needs neither, and starts sooner.
        "init": {"exec": ["python3", "-I", "-S", GUEST_PATH]},
        "env": {START_DEADLINE: f"{start_deadline_s:g}"},
        "files": [
            guest_file(whole=whole),
            {"guest_path": PAD_FILE, "raw_value": base64.b64encode(pad).decode("ascii"), "mode": 0o400},
        ],
        "restart": {"policy": "no"},
        "stop_config": STOP_CONFIG,
        "auto_destroy": True,
        "metadata": {**config.metadata, **metadata},
        "dns": {"skip_registration": True},
    }
