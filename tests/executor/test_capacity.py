"""For how many machines there is room, as refusals show it."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flaude._executor.capacity import MachineCapacity, Refusal


def even(seconds: float) -> float:
    """Pauses without jitter."""
    return seconds


def room(*, wait_s: float = 100.0, halves: bool = False) -> MachineCapacity:
    """One that was never refused."""
    return MachineCapacity(wait_s, halves=halves, spread=even)


def test_who_is_there_is_the_width() -> None:
    """At a limit of 3, ten launches leave three: the next one comes in the place of one that has gone."""
    one = room()
    for number in range(1, 11):
        assert one.opens_in(0) == 0
        one.enter(number)
    for number in (1, 2, 3):
        one.made(number, 0.0)
    told = []
    for number in range(4, 11):
        told.append(one.refused(number, 10, 0.0))
        one.leave(number, 0.0, had_machine=False)
    assert (one.width, one.held, one.alive) == (3, 3, 3)
    assert [refusal.is_news for refusal in told] == [True] + [False] * 6 and not any(one.is_final for one in told)
    assert one.opens_in(0) > 0
    one.leave(1, 0.5, had_machine=True)
    assert one.opens_in(0.5) == 0


def test_half_of_those_under_way_together() -> None:
    """Where the room is not only ours a refusal halves it, and those that were under way with it do not do so again."""
    one = room(halves=True)
    for number in range(1, 9):
        one.enter(number)
        if number <= 4:
            one.made(number, 0.0)
    one.refused(8, 8, 0.0)
    assert one.width == 4
    one.leave(8, 0.0, had_machine=False)
    one.refused(7, 8, 0.0)
    assert one.width == 4, "they met the same wall"
    one.leave(7, 0.0, had_machine=False)
    one.leave(1, 0.0, had_machine=True)
    one.leave(2, 0.0, had_machine=True)
    assert one.held == 4
    one.leave(3, 0.0, had_machine=True)
    one.enter(9)
    one.refused(9, 9, 0.0)
    assert one.width == 2, "a new wall"


def test_one_more_is_tried_after_a_while_and_then_more() -> None:
    """Places that others have left are found: one try after a pause, then two more for each that gets its machine."""
    one = room()
    one.enter(1)
    one.refused(1, 1, 0.0)
    one.leave(1, 0.0, had_machine=False)
    assert (one.width, one.opens_in(0.0), one.opens_in(1.0)) == (0, 1.0, 0.0)
    one.enter(2)
    assert one.opens_in(50.0) == math.inf, "nobody else before it is known what comes of it"
    one.made(2, 2.0)
    assert (one.width, one.opens_in(2.0)) == (3, 0.0)
    one.enter(3)
    one.made(3, 2.0)
    assert one.width == 5


def test_pauses_grow() -> None:
    """While nothing helps the tries become rare, and the last one is at the end of the wait."""
    one, now, at, number = room(wait_s=100.0), 0.0, list[float](), 0
    refusal = None
    while refusal is None or not refusal.is_final:
        number += 1
        now += one.opens_in(now)
        one.enter(number)
        at.append(now)
        refusal = one.refused(number, number, now)
        one.leave(number, now, had_machine=False)
    assert at == [0, 1, 3, 7, 15, 31, 63, 100]
    assert refusal == Refusal(is_news=False, is_final=True, tries=8, waited_s=100.0, alive=0)
    assert one.opens_in(now) == 0, "who comes next is refused at once, and not after another pause"


def test_nobody_is_refused_while_a_machine_of_ours_is_there() -> None:
    """Its end makes room; the wait begins when none is there any more."""
    one = room(wait_s=10.0)
    one.enter(1)
    one.made(1, 0.0)
    for number, now in ((2, 0.0), (3, 50.0), (4, 100.0)):
        one.enter(number)
        assert not one.refused(number, number, now).is_final
        one.leave(number, now, had_machine=False)
    one.leave(1, 101.0, had_machine=True)
    one.enter(5)
    assert not one.refused(5, 5, 101.0).is_final
    one.leave(5, 101.0, had_machine=False)
    one.enter(6)
    assert one.refused(6, 6, 111.0).is_final


def test_a_try_that_came_to_nothing_is_followed_by_another() -> None:
    """A launch that was stopped, or failed in another way, keeps the room closed for a pause and not for ever."""
    one = room()
    one.enter(1)
    one.refused(1, 1, 0.0)
    one.leave(1, 0.0, had_machine=False)
    one.enter(2)
    one.leave(2, 5.0, had_machine=False)
    assert 0 < one.opens_in(5.0) < math.inf


def test_a_refusal_after_a_long_time_is_news() -> None:
    """What was said an hour ago is said again, and its wait begins anew."""
    one = room(wait_s=100.0)
    for number, now in ((1, 0.0), (2, 3600.0)):
        one.enter(number)
        refusal = one.refused(number, number, now)
        one.leave(number, now, had_machine=False)
        assert refusal.is_news and not refusal.is_final and refusal.tries == 1


def waits(one: MachineCapacity, number: int, now: float, asked: float) -> tuple[Refusal, float]:
    """A run that is refused until that is final; the last refusal, and when it came."""
    while True:
        now += one.opens_in(now)
        one.enter(number)
        refusal = one.refused(number, number, now, asked)
        one.leave(number, now, had_machine=False)
        if refusal.is_final:
            return refusal, now
        number += 1


def test_who_comes_after_a_wait_in_vain_waits_as_long() -> None:
    """It is told so too, and its tries are its own, counted and paused as from the start."""
    one = room(wait_s=100.0)
    refusal, now = waits(one, 1, 0.0, 0.0)
    assert (refusal.tries, now) == (8, 100.0)
    one.enter(20)
    first = one.refused(20, 20, now + 5, now + 5)
    one.leave(20, now + 5, had_machine=False)
    assert first == Refusal(is_news=True, is_final=False, tries=1, waited_s=0.0, alive=0)
    refusal, ended = waits(one, 21, now + 5, now + 5)
    assert (refusal.tries, ended) == (7, now + 105.0), "its first try was beyond the width, as all but the very first"


def test_who_comes_while_others_wait_waits_as_long() -> None:
    """Those that were there before give up at their time; it is news to the later one, and its wait is its own."""
    one = room(wait_s=100.0)
    one.enter(1)
    one.refused(1, 1, 0.0, 0.0)
    one.leave(1, 0.0, had_machine=False)
    one.enter(2)
    later = one.refused(2, 2, 50.0, 40.0)
    one.leave(2, 50.0, had_machine=False)
    assert later.is_news and not later.is_final
    refusal, now = waits(one, 3, 50.0, 0.0)
    assert now == 100.0 and not refusal.is_news
    refusal, now = waits(one, 10, now, 40.0)
    assert now == 140.0 and refusal.waited_s == 100.0 and not refusal.is_news


@settings(deadline=None, max_examples=60)
@given(
    limits=st.lists(st.integers(0, 6), min_size=1, max_size=8),
    runs=st.integers(1, 25),
    halves=st.booleans(),
    lasts=st.floats(0.5, 200.0),
    apart=st.just(0.0) | st.floats(0.5, 60.0),
)
@example(limits=[4, 0], runs=13, halves=True, lasts=34.15507548804568, apart=0.0).via("a wait that rounds to less")
@pytest.mark.timeout(60)
def test_all_get_a_machine_or_are_refused(
    limits: list[int], runs: int, halves: bool, lasts: float, apart: float
) -> None:
    """Whatever the limit does, nobody waits for ever: each run has had its machine, or was refused while none was ours.

    The limit changes every 100 seconds; a create is answered at once. Runs are asked for one after the other, or
    together; each has waited for its time before it is refused.
    """
    one, now, number = room(wait_s=50.0, halves=halves), 0.0, 0
    waiting, ends, refused, done = [apart * run for run in range(runs)], list[tuple[float, int]](), 0, 0
    while waiting or ends:
        while any(asked <= now for asked in waiting) and one.opens_in(now) == 0:
            asked = next(asked for asked in waiting if asked <= now)
            waiting.remove(asked)
            number += 1
            assert number < 60 * runs + 500, "creates without a pause"
            one.enter(number)
            limit = limits[min(int(now // 100), len(limits) - 1)]
            if len(ends) < limit:
                one.made(number, now)
                ends.append((now + lasts, number))
                continue
            refusal = one.refused(number, number, now, asked)
            assert not (refusal.is_final and ends), "one of ours is there"
            assert not refusal.is_final or now >= asked + 50.0, "it has not waited"
            one.leave(number, now, had_machine=False)
            if refusal.is_final:
                refused += 1
            else:
                waiting.append(asked)
        steps = [at for at, _ in ends] + [asked for asked in waiting if asked > now]
        steps += [now + one.opens_in(now)] if any(asked <= now for asked in waiting) else []
        if not steps:
            break
        assert min(steps) < math.inf, "nothing will ever happen"
        now = max(min(steps), math.nextafter(now, math.inf))
        for at, which in [end for end in ends if end[0] <= now]:
            ends.remove((at, which))
            one.leave(which, now, had_machine=True)
            done += 1
    assert done + refused == runs and one.held == one.alive == 0
