"""Which `config.guest` Fly takes; the texts are Fly's where they are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flaude.local import replies


@dataclass(frozen=True)
class Band:
    """CPU counts, and MB of memory for each CPU (Fly docs, "Machine sizing", and Fly's Go client)."""

    cpus: tuple[int, ...]
    least_mb: int
    most_mb: int
    step_mb: int


_BANDS = {
    "shared": Band((1, 2, 4, 6, 8), 256, 2048, 256),
    "performance": Band((1, 2, 4, 6, 8, 10, 12, 14, 16), 2048, 8192, 2048),
}


def check(guest: Mapping[str, Any], *, performance: bool = True) -> None:
    """Refuse with 400 what Fly refuses; no guest at all is Fly's smallest.

    Args:
        guest: The `config.guest` of a machine.
        performance: Whether there are performance CPUs for this organization; else they are refused with 422.
    """
    if not guest:
        return
    band = _BANDS.get(guest.get("cpu_kind") or "")
    if band is None:
        raise replies.invalid("invalid config.guest.cpu_kind")
    cpus = guest.get("cpus") or 1
    if cpus not in band.cpus:
        raise replies.invalid(f"invalid config.guest.cpus, must be one of {', '.join(map(str, band.cpus))}")
    memory_mb = guest.get("memory_mb") or cpus * band.least_mb
    if memory_mb < cpus * band.least_mb:
        raise replies.invalid(f"invalid config.guest.memory_mb, minimum required {cpus * band.least_mb} MiB")
    if memory_mb > cpus * band.most_mb:
        raise replies.invalid(f"invalid config.guest.memory_mb, cannot exceed {cpus * band.most_mb} MiB")
    if memory_mb % band.step_mb:
        raise replies.invalid(f"invalid config.guest.memory_mb, must be in increments of {band.step_mb} MiB")
    if guest["cpu_kind"] == "performance" and not performance:
        raise replies.no_performance()
