from __future__ import annotations

from tests.local.conftest import opened

from flaude.local.limits import Limits


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def test_bursts_of_three_then_one_a_second() -> None:
    """Most actions have a burst of 3 and then one a second; a refused call costs nothing."""
    clock = Clock()
    limits = Limits(clock)
    assert [limits.allow("exec_machine", "m1") for _ in range(5)] == [True, True, True, False, False]
    clock.now += 0.9
    assert not limits.allow("exec_machine", "m1")
    clock.now += 0.2
    assert [limits.allow("exec_machine", "m1") for _ in range(2)] == [True, False]


def test_get_machine_has_ten_then_five_a_second() -> None:
    """Getting a machine has a burst of 10 and then five a second."""
    clock = Clock()
    limits = Limits(clock)
    assert [limits.allow("get_machine", "m1") for _ in range(11)] == [True] * 10 + [False]
    clock.now += 1
    assert [limits.allow("get_machine", "m1") for _ in range(6)] == [True] * 5 + [False]


def test_actions_and_identifiers_count_apart() -> None:
    """A limit is for one action on one machine or app; a long pause gives no more than the burst."""
    clock = Clock()
    limits = Limits(clock)
    for _ in range(3):
        assert limits.allow("stop_machine", "m1")
    assert not limits.allow("stop_machine", "m1")
    assert limits.allow("stop_machine", "m2") and limits.allow("start_machine", "m1")
    clock.now += 3600
    assert [limits.allow("stop_machine", "m1") for _ in range(4)] == [True, True, True, False]
    limits.forget("m1")
    assert limits.allow("stop_machine", "m1")


async def test_who_calls_faster_is_answered_429() -> None:
    """With `limits` the stand-in keeps them; without that, "no 429" would show nothing."""
    async with opened(limits=True) as api:
        statuses = [(await api.call("GET", "/machines")).status_code for _ in range(60)]
        assert statuses[0] == 200 and 429 in statuses
        assert api.fly.requests["list_machines", 429] == statuses.count(429)
