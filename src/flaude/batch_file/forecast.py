"""What a batch may take: machines, their pace, and the most that it can cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flaude._model.config import MachineConfig
from flaude._model.regions import codes
from flaude._model.request import ExecutionRequest
from flaude._model.settings import ExecutorSettings
from flaude._providers.fly.pacing import EVERY_ACTION
from flaude._providers.fly.prices import machine_cost_usd


@dataclass(frozen=True)
class Forecast:
    """Bounds; nobody knows how long agents work.

    Attributes:
        tasks: How many there are.
        at_once: How many machines may be alive at the same time.
        shards: Over how many apps they are spread.
        make_apps_s: How many seconds it takes at the least to make all of them but the first, where none is there.
        creates_per_second: How many machines Fly makes a second in all of them together.
        attempts: How many machines one task may take, one after the other.
        last_create_s: Seconds from the first create call until the last one of those that need not wait for another
            run to end; each app has an equal part of them.
        longest_s: How long one machine may be there, seconds.
        without_budget: How many tasks have no `max_budget_usd`.
        agents_usd: What the agents can cost at most, US dollars; `None` when nothing bounds it.
        machine_seconds: How long all machines can be there at most, together.
        machines_usd: What that costs at most by Fly's list prices, US dollars; `None` when a region has no price.
        without_price: The regions that have none.
    """

    tasks: int
    at_once: int
    shards: int
    make_apps_s: float
    creates_per_second: float
    attempts: int
    last_create_s: float
    longest_s: float
    without_budget: int
    agents_usd: float | None
    machine_seconds: float
    machines_usd: float | None
    without_price: tuple[str, ...]


def forecast(settings: ExecutorSettings, requests: Sequence[ExecutionRequest]) -> Forecast:
    """The bounds of a batch."""
    configs = [request.config for request in requests]
    tasks, retries, timeouts = len(configs), settings.retries, settings.timeouts
    at_once = min(tasks, settings.max_concurrency or tasks)
    attempts = 1 + (retries.more if retries.kinds else 0)
    longest_s = timeouts.longest_s(settings.wait_timeout)
    times = settings.rate_limits or math.inf
    machine_seconds = tasks * attempts * longest_s
    prices = [_price_of_a_second(config) for config in configs]
    known = [price for price in prices if price is not None]
    machines_usd = sum(known) * attempts * longest_s
    if settings.max_machine_seconds is not None:
        # When they are spent, those that are there still stop their agents and collect.
        allowed = settings.max_machine_seconds + at_once * (timeouts.grace + timeouts.collect)
        if allowed < machine_seconds:
            machine_seconds = allowed
            machines_usd = min(machines_usd, max(known, default=0.0) * allowed)
    return Forecast(
        tasks=tasks,
        at_once=at_once,
        shards=settings.shards,
        make_apps_s=EVERY_ACTION.last_after_s(settings.shards - 1) / times,
        creates_per_second=EVERY_ACTION.per_second * times * settings.shards,
        attempts=attempts,
        last_create_s=EVERY_ACTION.last_after_s(-(-at_once // settings.shards)) / times,
        longest_s=longest_s,
        without_budget=sum(config.max_budget_usd is None for config in configs),
        agents_usd=_agents_usd(settings, configs, attempts),
        machine_seconds=machine_seconds,
        machines_usd=machines_usd if len(known) == tasks else None,
        without_price=tuple(
            dict.fromkeys(
                ",".join(config.regions) for config, price in zip(configs, prices, strict=True) if price is None
            )
        ),
    )


def _agents_usd(settings: ExecutorSettings, configs: Sequence[MachineConfig], attempts: int) -> float | None:
    # Without `after_start`, a task whose agent has begun gets no other attempt.
    agents = attempts if settings.retries.after_start else 1
    own = [config.max_budget_usd for config in configs if config.max_budget_usd is not None]
    bounds = [sum(own) * agents] if len(own) == len(configs) else []
    if settings.budget_usd is not None:
        bounds.append(settings.budget_usd)
    return min(bounds, default=None)


def _price_of_a_second(config: MachineConfig) -> float | None:
    """US dollars; of the dearest region where there are several."""
    prices = [
        machine_cost_usd(config.size, code, 1.0) for word in config.regions or ("",) for code in codes(word) or (word,)
    ]
    known = [price for price in prices if price is not None]
    return max(known) if len(known) == len(prices) else None
