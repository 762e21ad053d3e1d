"""How the probe measures: sizes, times, and what is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flaude._model.config import DEFAULT_IMAGE
from flaude._model.machine_sizes import MachineSize

SIZE = MachineSize("shared", 1, 256)
"""The cheapest machine that Fly has."""


@dataclass(frozen=True)
class Plan:
    """The probe's numbers; the default ones take about 90 s.

    Attributes:
        image: Of the machines.
        region: Where; empty for Fly's choice.
        deadline_s: After so many seconds the measured machine ends by itself, whoever watches; its steps may take long.
        visible_s: How long a new machine is looked for in lists.
        boot_s: How long it may take to start.
        first_exec_s: How long the first exec may be refused.
        parallel_s: How long the first of two parallel execs sleeps.
        longest: Seconds of sleep and `timeout` of the longest exec; the next pair when the `timeout` is refused.
        bodies: Sizes of bodies, up to the first that is refused.
        outputs: Sizes of outputs: the first one, then larger ones while they arrive, or halves of it until one does.
        burst: How many execs at once.
        settle_s: How long nothing is asked for before, so that the rate limit has room.
        stop_s: `stop_config`'s timeout.
        then_s: How long a machine that is gone is read until that is a 404.
        exit_s: How long a machine that has ended with 1 is watched.
        egress: Host and port that the machine is to reach.
        disk_mb: How much it writes.
        cleanup_s: How long deleting all may take.
    """

    image: str = DEFAULT_IMAGE
    region: str = ""
    deadline_s: float = 300.0
    visible_s: float = 20.0
    boot_s: float = 180.0
    first_exec_s: float = 20.0
    parallel_s: float = 4.0
    longest: Sequence[tuple[float, int]] = ((55.0, 60), (25.0, 30), (10.0, 15))
    bodies: Sequence[int] = (8_000, 12_000, 15_000, 17_000, 24_000, 64_000, 200_000)
    outputs: Sequence[int] = (32 * 2**10, 64 * 2**10, 256 * 2**10, 2**20, 8 * 2**20)
    burst: int = 10
    settle_s: float = 3.0
    stop_s: float = 10.0
    then_s: float = 3.0
    exit_s: float = 50.0
    egress: tuple[str, int] = ("registry.npmjs.org", 443)
    disk_mb: int = 64
    cleanup_s: float = 60.0

    @property
    def about_s(self) -> float:
        """How long the measured machine runs, about."""
        return self.longest[0][0] + 35.0
