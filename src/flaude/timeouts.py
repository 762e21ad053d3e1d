"""`Timeouts`: how long each part of a run may take, all in seconds."""

from __future__ import annotations

from dataclasses import dataclass, fields

from flaude.errors import ConfigError


@dataclass(frozen=True)
class Timeouts:
    """How long each part of a run may take, in seconds.

    The first group is watched by the controller, the second by the guest inside the machine, so that it holds even
    when the controller is gone. The run's own deadline is `ConcurrentExecutor`'s `wait_timeout`.

    Attributes:
        boot: From the create call until the guest answers: pulling a large image takes a while.
        destroy: For destroying the machine and seeing it gone.
        patience: How long Fly may fail to answer, without a break, before a run is given up.
        request: For connecting, for sending, or for the answer of a single call, besides the time that the call itself
            takes inside Fly.
        retry: How long a single call is repeated before it counts as failed.
        start_deadline: A booted machine that is never given a job exits after this.
        clone: For all clones together.
        install: For installing Claude Code with npm.
        idle: The agent prints nothing for this long and is stopped; 0 for no limit.
        orphan: Nobody has pulled for this long: the agent is stopped and the machine exits.
        linger: The run is done and not acknowledged for this long: the machine exits.
        grace: From the first signal to the agent until it is killed.
        collect: For collecting patches.

    Raises:
        ConfigError: A value is negative, or 0 where a limit must be.
    """

    boot: float = 300.0
    destroy: float = 120.0
    patience: float = 300.0
    request: float = 30.0
    retry: float = 60.0

    start_deadline: float = 300.0
    clone: float = 600.0
    install: float = 300.0
    idle: float = 1800.0
    orphan: float = 600.0
    linger: float = 600.0
    grace: float = 10.0
    collect: float = 120.0

    def __post_init__(self) -> None:
        """Check every value."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not value >= 0 or (value == 0 and field.name != "idle"):
                raise ConfigError(f"timeouts.{field.name}: give seconds above 0, not {value!r}")
