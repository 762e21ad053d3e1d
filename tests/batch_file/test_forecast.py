"""What a batch may take and cost at most."""

from __future__ import annotations

from typing import Any

import pytest

from flaude import ExecutionRequest, FailureKind, MachineConfig, Retries, Timeouts
from flaude._model.settings import ExecutorSettings
from flaude._providers.fly.prices import machine_cost_usd
from flaude.batch_file.forecast import forecast

DEAREST = "ord"  # of the regions where a machine may be that asks for none
LONGEST_S = 300 + 300 + 600 + 3600 + 10 + 120 + 600  # boot, install, clone, run, grace, collect, linger


def requests(count: int, **fields: Any) -> list[ExecutionRequest]:
    """So many requests with these fields."""
    return [ExecutionRequest(MachineConfig(prompt="x", **fields), tag=str(index)) for index in range(count)]


def made_of(count: int = 4, fields: dict[str, Any] | None = None, **settings: Any) -> Any:
    """The forecast of so many such requests under these settings."""
    return forecast(ExecutorSettings(app="a", **settings), requests(count, **(fields or {})))


def test_the_pace_is_one_create_a_second() -> None:
    """Two creates go out at once, of Fly's three, and then one a second; runs that wait for a place are not counted."""
    assert [made_of(count).last_create_s for count in (1, 2, 3, 500)] == [0, 0, 1, 498]
    bounds = made_of(500, max_concurrency=5)
    assert (bounds.tasks, bounds.at_once, bounds.last_create_s) == (500, 5, 3)
    assert made_of(3, max_concurrency=0).at_once == 3


def test_the_pace_is_that_of_all_shards() -> None:
    """Each app has an equal part of the machines, and a pace of its own."""
    assert [made_of(500, shards=shards).last_create_s for shards in (1, 2, 8, 64)] == [498, 248, 61, 6]
    assert [made_of(9, shards=4).last_create_s, made_of(8, shards=4).last_create_s] == [1, 0]
    assert (made_of(500, shards=8, max_concurrency=20).last_create_s, made_of(500, shards=8).shards) == (1, 8)


def test_agents_are_bounded_by_their_own_budgets_or_the_batch_s() -> None:
    """Every task needs a `max_budget_usd` for a sum, or the batch a budget; the smaller one holds."""
    own = {"max_budget_usd": 2.5}
    assert (made_of().agents_usd, made_of().without_budget) == (None, 4)
    assert (made_of(fields=own).agents_usd, made_of(fields=own).without_budget) == (10.0, 0)
    assert made_of(fields=own, budget_usd=7.0).agents_usd == 7.0
    assert made_of(fields=own, budget_usd=70.0).agents_usd == 10.0
    mixed = forecast(ExecutorSettings(app="a"), [*requests(1, **own), *requests(2)])
    assert (mixed.agents_usd, mixed.without_budget) == (None, 2)


def test_agents_cost_again_only_when_they_may_run_again() -> None:
    """A retry before the agent has begun costs no agent; one after it does."""
    own = {"max_budget_usd": 1.0}
    assert made_of(fields=own, retries=Retries(more=2)).agents_usd == 4.0
    assert made_of(fields=own, retries=Retries(more=2, after_start=True)).agents_usd == 12.0


def test_machines_cost_by_their_longest_life() -> None:
    """Every task may take every attempt, and every machine all of its clocks."""
    second = machine_cost_usd(MachineConfig(prompt="x").size, DEAREST, 1.0)
    assert second is not None
    bounds = made_of(retries=Retries(more=2))
    assert (bounds.attempts, bounds.longest_s, bounds.machine_seconds) == (3, LONGEST_S, 4 * 3 * LONGEST_S)
    assert bounds.machines_usd == pytest.approx(4 * 3 * LONGEST_S * second)
    assert made_of(retries=Retries(more=2, kinds=frozenset[FailureKind]())).attempts == 1
    assert made_of(wait_timeout=60, timeouts=Timeouts(linger=301)).longest_s == LONGEST_S - 3540 - 299


def test_machine_seconds_are_a_lid_with_the_collecting_on_top() -> None:
    """When they are spent, those that are there still stop their agents and collect; a lid that is higher is none."""
    second = machine_cost_usd(MachineConfig(prompt="x").size, DEAREST, 1.0)
    assert second is not None
    bounds = made_of(max_machine_seconds=1000, max_concurrency=2)
    assert bounds.machine_seconds == 1000 + 2 * (10 + 120)
    assert bounds.machines_usd == pytest.approx(bounds.machine_seconds * second)
    assert made_of(max_machine_seconds=1e9).machine_seconds == 4 * 3 * LONGEST_S


def test_a_region_without_a_price_has_none() -> None:
    """Of a list the dearest counts, and of an alias, if all have a price."""
    assert made_of(fields={"region": "eu"}).machines_usd == made_of(fields={"region": "fra"}).machines_usd
    assert made_of(fields={"region": "apac"}).without_price == ("apac",), "there is none for bom"
    assert made_of(fields={"region": ""}).machines_usd is None
    assert made_of(fields={"region": "iad,xyz"}).machines_usd is None
    dearer = made_of(fields={"region": "gru"}).machines_usd
    assert made_of(fields={"region": "iad,gru"}).machines_usd == dearer
    assert dearer > made_of(fields={"region": "iad"}).machines_usd
