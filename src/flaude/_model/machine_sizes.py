"""Fly's machine sizes: presets, and which CPU and memory combinations Fly accepts.

Source: fly.io/docs "Machine sizing" and the presets in Fly's own Go client, read 2026-11.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flaude._model.errors import ConfigError

CpuKind = Literal["shared", "performance"]


@dataclass(frozen=True)
class CpuClass:
    """What Fly allows for one kind of CPU; memory in MB for each CPU, in steps of `memory_step_mb`."""

    cpus: tuple[int, ...]
    min_memory_mb: int
    max_memory_mb: int
    memory_step_mb: int


CPU_CLASSES: dict[CpuKind, CpuClass] = {
    "shared": CpuClass((1, 2, 4, 6, 8), 256, 2048, 256),
    "performance": CpuClass((1, 2, 4, 6, 8, 10, 12, 14, 16), 2048, 8192, 2048),
}


@dataclass(frozen=True)
class MachineSize:
    """Fly's `config.guest`: kind and number of CPUs, and memory in MB."""

    cpu_kind: CpuKind
    cpus: int
    memory_mb: int


_PREFIXES: dict[CpuKind, str] = {"shared": "shared-cpu", "performance": "performance"}

PRESETS: dict[str, MachineSize] = {
    f"{prefix}-{cpus}x": MachineSize(kind, cpus, cpus * CPU_CLASSES[kind].min_memory_mb)
    for kind, prefix in _PREFIXES.items()
    for cpus in CPU_CLASSES[kind].cpus
}


DEFAULT_VM_SIZE = "shared-cpu-2x"
"""For 30 days in iad 25 dollars with its 4 GB, where `performance-2x` is 66; and a trial account may have it."""

DEFAULT_MEMORY_MB = 4096
"""Memory of the default size: Fly's preset has 512 MB, and Claude Code asks for 4 GB (its docs, requirements)."""


def machine_size(vm_size: str, vm_cpus: int | None = None, vm_memory_mb: int | None = None) -> MachineSize:
    """The size that a preset's name and its two overrides mean.

    Args:
        vm_size: One of Fly's presets, such as `shared-cpu-2x` or `performance-4x`.
        vm_cpus: Number of CPUs instead of the preset's.
        vm_memory_mb: Memory in MB instead of the preset's; of the default size, instead of `DEFAULT_MEMORY_MB`.

    Raises:
        ConfigError: Fly has no such size, or refuses this combination; the message names the field and what is allowed.
    """
    preset = PRESETS.get(vm_size)
    if preset is None:
        raise ConfigError(f"vm_size: Fly has no size {vm_size!r}; it has {', '.join(PRESETS)}")
    allowed = CPU_CLASSES[preset.cpu_kind]
    cpus = preset.cpus if vm_cpus is None else vm_cpus
    if cpus not in allowed.cpus:
        numbers = ", ".join(map(str, allowed.cpus))
        raise ConfigError(f"vm_cpus: {preset.cpu_kind} machines have {numbers} CPUs, not {cpus}")
    least, most = cpus * allowed.min_memory_mb, cpus * allowed.max_memory_mb
    # With more CPUs than the preset has, its memory may lie under Fly's minimum: then the minimum is meant.
    memory_mb = vm_memory_mb
    if memory_mb is None:
        usual_mb = DEFAULT_MEMORY_MB if vm_size == DEFAULT_VM_SIZE else preset.memory_mb
        memory_mb = min(max(usual_mb, least), most)
    if not least <= memory_mb <= most or memory_mb % allowed.memory_step_mb:
        raise ConfigError(
            f"vm_memory_mb: {cpus} {preset.cpu_kind} CPUs take {least} to {most} MB in steps of "
            f"{allowed.memory_step_mb}, not {memory_mb}"
        )
    return MachineSize(preset.cpu_kind, cpus, memory_mb)
