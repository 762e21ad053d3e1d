from __future__ import annotations

import anyio

from flaude._providers.fly.pacing import Pace

BURST = 8  # of get_machine, without the reserve


async def test_what_was_sent_before_goes_first() -> None:
    """A call that has been sent before overtakes those that queue for their first time."""
    pace = Pace()
    for _ in range(BURST):
        await pace.wait("get_machine", "a")
    order: list[str] = []

    async def one(name: str, *, again: bool) -> None:
        await pace.wait("get_machine", "a", again=again)
        order.append(name)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(lambda name: one(name, again=False), f"new {number}")
                await anyio.wait_all_tasks_blocked()
            tasks.start_soon(lambda name: one(name, again=True), "again")
    # One of the others stood at the limiter already.
    assert order.index("again") <= 1
    assert [name for name in order if name != "again"] == ["new 0", "new 1", "new 2", "new 3"]


async def test_an_idle_bucket_is_dropped() -> None:
    """A bucket that nobody has used for a minute is dropped when another is used, and not before."""
    now = 0.0
    pace = Pace(clock=lambda: now)
    await pace.wait("get_machine", "a")
    now = 60.0
    await pace.wait("get_machine", "b")
    assert len(pace) == 2
    now = 61.0
    await pace.wait("get_machine", "b")
    assert len(pace) == 1


async def test_a_bucket_with_a_queue_is_kept() -> None:
    """While calls pass through a bucket it is not idle, however long ago they began to queue."""
    now = 0.0
    pace = Pace(clock=lambda: now)
    for _ in range(BURST):
        await pace.wait("get_machine", "a")
    kept: list[int] = []

    async def one() -> None:
        nonlocal now
        await pace.wait("get_machine", "a")
        now += 40
        await pace.wait("get_machine", "other")
        kept.append(len(pace))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(one)
    assert kept == [2] * 5


async def test_raised_limits_are_used() -> None:
    """Ten times the rate limits let ten times as many calls go in the same time, and none at all let all go."""
    times: dict[float, float] = {}
    for rate_limits in (1.0, 10.0):
        pace, began = Pace(rate_limits), anyio.current_time()
        for _ in range(3):
            await pace.wait("create_machine", "a")
        times[rate_limits] = anyio.current_time() - began
    assert times[10.0] < times[1.0] / 2
    free = Pace(None)
    with anyio.fail_after(5):
        for _ in range(1000):
            await free.wait("create_machine", "a")
