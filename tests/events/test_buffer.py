from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from flaude._model.results import ExecutionResult
from flaude.events import AssistantText, Event, Finished, Notice, OtherOutput, Queued, Skipped, ToolUse
from flaude.events.buffer import BufferBudget, EventBuffer

NOW = datetime.now(UTC)


def where(index: int) -> tuple[str, int, str, datetime, str]:
    """Of which run."""
    return "b", index, str(index), NOW, "m"


def said(index: int, text: str = "x") -> Event:
    """An event that may be left out."""
    return AssistantText(*where(index), text)


def finished(index: int) -> Event:
    """One that may not."""
    return Finished(*where(index), result=ExecutionResult(tag=str(index)))


def rest(buffer: EventBuffer) -> list[Event]:
    """All that waits, at once: nothing is awaited for that."""
    found: list[Event] = []
    while not buffer.is_empty:
        step = buffer.__anext__()
        try:
            step.send(None)
        except StopIteration as taken_:
            found.append(taken_.value)
    return found


async def taken(buffer: EventBuffer) -> list[Event]:
    """All that comes out of a buffer that is closed."""
    return [event async for event in buffer]


async def test_events_come_in_their_order() -> None:
    """What goes in comes out, in the same order, also to who waits."""
    buffer, seen = EventBuffer(BufferBudget()), list[Event]()

    async def consume() -> None:
        async for event in buffer:
            seen.append(event)

    events = [said(0, "a"), said(1, "b"), finished(0), Notice(*where(1), "n"), finished(1)]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        for event in events:
            await checkpoint()
            buffer.put(event)
            for _ in range(3):
                await checkpoint()
            assert seen[-1:] == [event]
        buffer.close()
    assert seen == events


async def test_output_beyond_the_room_is_left_out_and_counted() -> None:
    """A full buffer takes no more output, says how much is missing where it is missing, and takes every result."""
    buffer = EventBuffer(BufferBudget(), most=2)
    for event in (said(0, "a"), said(1, "b"), said(0, "c"), said(0, "d"), said(1, "e"), finished(0)):
        buffer.put(event)
    buffer.close()
    assert [(type(event), event.index, getattr(event, "count", None)) for event in await taken(buffer)] == [
        (AssistantText, 0, None),
        (AssistantText, 1, None),
        (Skipped, 0, 2),
        (Finished, 0, None),
        (Skipped, 1, 1),
    ]


@pytest.mark.parametrize(
    "large",
    [
        AssistantText(*where(0), "x" * 500),
        ToolUse(*where(0), "id", "Write", {"content": "x" * 500}),
        OtherOutput(*where(0), {"a": ["x" * 500]}),
        OtherOutput(*where(0), "x" * 500),
    ],
    ids=["text", "tool", "object", "line"],
)
async def test_memory_is_bounded_by_characters(large: Event) -> None:
    """All buffers of a batch share one room: what has been taken out of any makes place in all."""
    room = BufferBudget(800)
    first, second = EventBuffer(room), EventBuffer(room)
    first.put(large)
    second.put(large)
    assert await anext(aiter(first)) == large
    second.put(large)
    assert [type(event) for event in rest(second)] == [Skipped, type(large)]
    assert room.left == 800


@pytest.mark.parametrize(("texts", "most"), [("abc", 4), (["x" * 60], 100)], ids=["events", "characters"])
async def test_who_lets_it_drain_waits_for_half_of_it(texts: Sequence[str], most: int) -> None:
    """All who wait go on as soon as no more than half of what may wait, or of the room, is taken."""
    buffer, waiting = EventBuffer(BufferBudget(100), most), 2

    async def wait() -> None:
        nonlocal waiting
        await buffer.drained()
        waiting -= 1

    await buffer.drained()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for text in texts:
                buffer.put(said(0, text))
            tasks.start_soon(wait)
            tasks.start_soon(wait)
            for _ in range(5):
                await checkpoint()
            assert waiting == 2
            await anext(aiter(buffer))
    await buffer.drained()


async def test_a_consumer_that_is_to_end_gets_no_more_output() -> None:
    """What waits and may be left out is; results stay, and the room is free again."""
    room = BufferBudget(100)
    buffer = EventBuffer(room)
    for event in (said(0), finished(0), said(1), finished(1)):
        buffer.put(event)
    buffer.drop_output()
    buffer.close()
    assert [(type(event), event.index) for event in rest(buffer)] == [
        (Skipped, 0),
        (Finished, 0),
        (Skipped, 1),
        (Finished, 1),
    ]
    assert room.left == 100


operations = st.lists(
    st.tuples(st.sampled_from(["said", "queued", "finished", "take"]), st.integers(0, 2)), max_size=40
)


@given(operations, st.integers(1, 4), st.integers(0, 12))
def test_nothing_is_lost_uncounted(operations: list[tuple[str, int]], most: int, characters: int) -> None:
    """For each run: what came out and what was skipped add up to what went in; phases and results all came out."""
    room = BufferBudget(characters)
    buffer = EventBuffer(room, most)
    put: list[Event] = []
    out: list[Event] = []
    makers: dict[str, Any] = {"said": said, "queued": lambda index: Queued(*where(index)), "finished": finished}
    for name, index in operations:
        if name == "take":
            out += rest(buffer)
            continue
        put.append(makers[name](index))
        buffer.put(put[-1])
    buffer.close()
    out += rest(buffer)
    for index in range(3):
        mine = [event for event in out if event.index == index]
        skipped = sum(event.count for event in mine if isinstance(event, Skipped))
        kept = [event for event in mine if not isinstance(event, Skipped)]
        given_ = [event for event in put if event.index == index]
        assert len(kept) + skipped == len(given_)
        assert [event for event in given_ if not isinstance(event, AssistantText)] == [
            event for event in kept if not isinstance(event, AssistantText)
        ]
    assert room.left == characters
