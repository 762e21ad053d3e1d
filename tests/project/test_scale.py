"""The benchmark of scale in `benchmarks/`, small: it measures what it says."""

from __future__ import annotations

import anyio
import pytest
from benchmarks.controller import Task, run
from benchmarks.scale import incomplete, main, pace, quantiles, table
from benchmarks.stand_in import APP, stand_in

from flaude._providers.fly import FlyClient
from flaude.local import LocalFly, Quirks


async def test_a_measured_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each run it is told when it was launched, and how long after its agent's end its work and result were here."""
    async with LocalFly(apps=[APP], box="simulated", quirks=Quirks(machine_limit=None)) as fly:
        monkeypatch.setenv("FLY_FLAPS_BASE_URL", fly.base_url)
        monkeypatch.setenv("FLY_API_TOKEN", fly.token)
        taken = await run(Task(APP, [0.3] * 3, watch=True))
    assert taken.failures == [] and 0.3 < taken.wall_s < 20 and taken.cpu_s > 0
    assert len(taken.launched) == len(taken.to_work) == len(taken.to_result) == 3
    assert all(0 <= work <= result for work, result in zip(taken.to_work, taken.to_result, strict=True))
    assert taken.peak_mb >= taken.empty_mb > 0


def test_the_stand_in_as_a_process_tells_what_it_was_asked() -> None:
    """When `flaude local serve` ends, its last line says how often each action was answered with each status."""

    async def ask(base_url: str, token: str) -> None:
        async with FlyClient(base_url=base_url, token=token) as client:
            await client.get_app(APP)
            await client.list_machines(APP)

    with stand_in(box="simulated") as serving:
        anyio.run(ask, serving.environment["FLY_FLAPS_BASE_URL"], serving.environment["FLY_API_TOKEN"])
    assert serving.requests == {"get_app": {"200": 1}, "list_machines": {"200": 1}}
    assert (serving.count(), serving.count(action="get_app"), serving.count(status=429)) == (2, 1, 0)


def test_the_table_has_a_column_for_all_that_any_row_tells() -> None:
    """Rows of different kinds share a table; what one does not tell is empty there, and details have no column."""
    told = table([{"runs": 10, "wall_s": 1.234, "calls": {"a": 1}}, {"runs": 200, "skipped": "why"}])
    assert told.splitlines() == ["runs  wall_s  skipped", "  10    1.23         ", " 200              why"]


def test_what_is_computed_of_it() -> None:
    """Numbers say no more than what was seen, also of few runs, and what was not seen is told by the exit code."""
    assert quantiles([1.0, 2.0]) == {"p50_s": 1.5, "p99_s": pytest.approx(1.99)}
    assert (quantiles([3.0]), quantiles([])) == ({"p50_s": 3.0, "p99_s": 3.0}, {})
    assert pace([0.0, 0.0, 0.0, 1.0, 2.0, 3.0], 1) == {"creates/s": 1.0, "of the limit": 1.0}
    assert pace([0.0], 1) == {}
    assert [
        incomplete(row) for row in ({"runs": 2, "failed": 1}, {"runs": 2, "seen": 1}, {"runs": 2, "failed": 0})
    ] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("argument", "value"),
    [("--runs", "0"), ("--scale", "-1"), ("--scale", "inf"), ("--only", ""), ("--json", "/proc/x")],
)
def test_what_cannot_be_measured(monkeypatch: pytest.MonkeyPatch, argument: str, value: str) -> None:
    """Wrong arguments are told before anything is measured."""
    monkeypatch.setattr("sys.argv", ["scale", argument, value])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
