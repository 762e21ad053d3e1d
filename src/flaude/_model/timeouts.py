"""`Timeouts`: how long each part of a run may take, all in seconds."""

from __future__ import annotations

from dataclasses import dataclass, fields

from flaude._model.errors import ConfigError

LONGEST_S = 366 * 24 * 3600.0
"""A year, in seconds: no limit may be longer."""

MAY_BE_0 = ("idle", "capacity")
"""The fields that may be 0."""


@dataclass(frozen=True)
class Timeouts:
    """How long each part of a run may take, in seconds.

    The first group is watched by the controller, the second by the guest inside the machine, so that it holds even
    when the controller is gone. The run's own deadline is `ConcurrentExecutor`'s `wait_timeout`.

    Attributes:
        boot: From the create call until the guest answers: pulling a large image takes a while; and for each part of
            a long job once more.
        destroy: For destroying the machine and seeing it gone.
        patience: How long Fly may fail to answer, without a break, before a run is given up. Shorter than `orphan` and
            `linger`: a machine that waits for a controller must not end before the controller gives up.
        capacity: How long runs wait for a place at Fly, where a region is full or the organisation's machine limit is
            reached, while no machine of the executor is there that would make room when it ends: any for the limit, one
            with the same regions and size for a full region. 0 for not at all.
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
        ConfigError: A value is negative, longer than a year, or 0 where a limit must be; or `patience` is not shorter
            than `orphan` and `linger`.
    """

    boot: float = 300.0
    destroy: float = 120.0
    patience: float = 300.0
    capacity: float = 900.0
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
            if field.name not in MAY_BE_0 or isinstance(value, bool) or value != 0:
                check_seconds(f"timeouts.{field.name}", value)
        for name in ("orphan", "linger"):
            ends_after = getattr(self, name)
            if self.patience >= ends_after:
                raise ConfigError(
                    f"timeouts.patience: {self.patience:g} s is too long for {name}={ends_after:g}: a machine that "
                    f"nobody reaches for so long ends by itself; give less patience or a longer {name}"
                )

    def longest_s(self, run_s: float) -> float:
        """How long a machine may be there, from its create call on, in seconds: its own clocks end it by then.

        Args:
            run_s: How long the run may take: the executor's `wait_timeout`.
        """
        return self.boot + self.install + self.clone + run_s + self.grace + self.collect + self.linger


def check_seconds(name: str, value: float) -> None:
    """Whether it can limit anything.

    Raises:
        ConfigError: It is no number above 0, or longer than a year.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= LONGEST_S:
        raise ConfigError(f"{name}: give seconds above 0 and up to a year, not {value!r}")
