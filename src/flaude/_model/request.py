"""What a run is asked for with."""

from __future__ import annotations

from dataclasses import dataclass

from flaude._model.config import MachineConfig
from flaude._model.errors import ConfigError
from flaude._model.names import NAME_IN_WORDS, is_name


@dataclass(frozen=True)
class ExecutionRequest:
    """One run to make.

    Args:
        config: What to run, and on which machine.
        name: The Fly machine's name, unique among the living machines of the app; made up when it is `None`.
        tag: Returned as it is in `ExecutionResult.tag`.

    Raises:
        ConfigError: `config` is no `MachineConfig`, or `name` cannot be a machine's name.
    """

    config: MachineConfig
    name: str | None = None
    tag: str = ""

    def __post_init__(self) -> None:
        """Check what a type checker would have found, and the name."""
        if not isinstance(self.config, MachineConfig):
            raise ConfigError(f"config: give a MachineConfig, not {type(self.config).__name__}")
        if self.name is not None and not is_name(self.name):
            raise ConfigError(f"name: {self.name!r} is not a valid machine name; use {NAME_IN_WORDS}")
