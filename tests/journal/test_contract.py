"""What every journal does."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.journal_helpers import (
    BEGAN,
    ME,
    OTHER,
    WallClock,
    batch_entry,
    make_journal,
    nobody_is_dead,
    run_entries,
)

from flaude._model.errors import BatchHeldError, JournalError, LeaseLostError, NoSuchBatchError
from flaude.journal import (
    CheckpointNote,
    ControlRequest,
    Counts,
    EndNote,
    EventEntry,
    EventNote,
    Journal,
    LeaseOwner,
    Note,
    OutcomeNote,
    RunEntry,
)

HOSTILE = "half of a pair \ud83d, a NUL \0, \x1b[31mred, <script>, '; DROP TABLE runs; --, \U0001d518 \u202e"


def event(index: int, text: str = "", at: datetime = BEGAN) -> EventNote:
    """Something that a person should know of a run."""
    return EventNote(index, at, "notice", {"event": "notice", "text": text})


def texts(events: list[EventEntry]) -> list[str]:
    """What the events of `event` say."""
    return [entry.data["text"] for entry in events]


async def test_what_is_added_is_read_again(journal: Journal) -> None:
    """A batch and its runs come back as they were given, whatever is in their texts."""
    batch = replace(batch_entry(), settings={"source": HOSTILE, "deep": {"list": [1, 2.5, None, True]}})
    runs = [
        replace(run_entries()[0], tag=HOSTILE, request={"config": {"prompt": HOSTILE}}),
        replace(run_entries()[1], phase="agent", checkpoint={"offset": 7}),
        replace(run_entries()[2], outcome={"kind": None}, success=True, cost_usd=0.25),
    ]
    await journal.add(batch, list(reversed(runs)), ME, 30)
    kept = await journal.batch("b1")
    assert kept == replace(
        batch, holder=ME, held_until=BEGAN + timedelta(seconds=30), counts=Counts(3, 1, 0), cost_usd=0.25
    )
    assert kept.counts.open == 2
    assert await journal.runs("b1") == [replace(run, updated=BEGAN) for run in runs]
    assert await journal.batches() == [kept]


async def test_what_is_kept_is_no_part_of_what_was_given(journal: Journal) -> None:
    """What a caller does with its own objects afterwards changes nothing."""
    given_ = {"config": {"prompt": "do"}}
    await journal.add(batch_entry(), [RunEntry(0, "tag", given_)], ME, 30)
    given_["config"]["prompt"] = "undo"
    (run,) = await journal.runs("b1")
    assert run.request == {"config": {"prompt": "do"}}


async def test_no_second_batch_of_an_id(journal: Journal) -> None:
    """A second batch of the same id is refused, and nothing of it is kept."""
    await journal.add(batch_entry(), run_entries(1), ME, 30)
    with pytest.raises(JournalError, match="'b1' is in the journal already"):
        await journal.add(replace(batch_entry(), app="other"), run_entries(2), OTHER, 30)
    kept = await journal.batch("b1")
    assert (kept.app, kept.counts.total, kept.holder) == ("my-app", 1, ME)


async def test_two_runs_of_an_index(journal: Journal) -> None:
    """A batch two of whose runs have the same index is refused whole."""
    with pytest.raises(JournalError):
        await journal.add(batch_entry(), [*run_entries(), RunEntry(1, "again", {})], ME, 30)
    assert await journal.batches() == []


async def test_events_are_numbered_over_all_batches(journal: Journal) -> None:
    """Events come back in the order of their writing, from any number on, of a batch or of one run."""
    await journal.add(batch_entry("b1"), run_entries(), ME, 30)
    await journal.add(batch_entry("b2"), run_entries(), ME, 30)
    await journal.write("b1", "me", [event(0, "a"), event(1, "b", BEGAN - timedelta(days=1))])
    await journal.write("b2", "me", [event(0, "c")])
    await journal.write("b1", "me", [event(0, HOSTILE)])
    first, second, last = await journal.events("b1")
    (between,) = await journal.events("b2")
    assert first.number < second.number < between.number < last.number
    assert first == EventEntry(first.number, 0, BEGAN, "notice", {"event": "notice", "text": "a"})
    assert second.at == BEGAN - timedelta(days=1)
    assert texts(await journal.events("b1", index=0)) == ["a", HOSTILE]
    assert texts(await journal.events("b1", after=first.number)) == ["b", HOSTILE]
    assert texts(await journal.events("b1", index=0, after=first.number)) == [HOSTILE]
    assert texts(await journal.events("b1", limit=2)) == ["a", "b"]
    assert texts(await journal.events("b1", index=0, limit=1)) == ["a"]
    assert await journal.events("b1", after=last.number) == []


async def test_notes_tell_how_far_a_run_is(journal: Journal, clock: WallClock) -> None:
    """The last checkpoint and the last outcome of a run count, and the sums of the batch follow."""
    await journal.add(batch_entry(), run_entries(), ME, 30)
    clock.passes(5)
    await journal.write(
        "b1", "me", [CheckpointNote(0, "boot", {"offset": 0}), CheckpointNote(0, "agent", {"offset": 9})]
    )
    await journal.write("b1", "me", [OutcomeNote(0, {"kind": "idle"}, success=False, cost_usd=0.5)])
    await journal.write("b1", "me", [OutcomeNote(1, {"kind": "auth"}, success=False, cost_usd=None)])
    await journal.write("b1", "me", [OutcomeNote(0, {"kind": None}, success=True, cost_usd=0.75)])
    first, second, third = await journal.runs("b1")
    assert (first.phase, first.checkpoint, first.outcome) == ("agent", {"offset": 9}, {"kind": None})
    assert (first.success, first.cost_usd, first.updated) == (True, 0.75, BEGAN + timedelta(seconds=5))
    assert (second.success, second.cost_usd, third.success, third.updated) == (False, None, None, BEGAN)
    kept = await journal.batch("b1")
    assert (kept.counts, kept.cost_usd, kept.ended) == (Counts(3, 1, 1), 0.75, None)
    await journal.write("b1", "me", [EndNote(clock.now, HOSTILE)])
    ended = await journal.batch("b1")
    assert (ended.ended, ended.stopped_by, ended.holder) == (clock.now, HOSTILE, ME)


async def test_all_notes_or_none(journal: Journal) -> None:
    """When one note cannot be kept, none of the call is."""
    await journal.add(batch_entry(), run_entries(), ME, 30)
    good: list[Note] = [
        event(0),
        CheckpointNote(0, "agent", {}),
        OutcomeNote(0, {}, success=True, cost_usd=1.0),
        EndNote(BEGAN, ""),
    ]
    bad: list[Note] = [event(3), CheckpointNote(3, "agent", {}), OutcomeNote(3, {}, success=True, cost_usd=1.0)]
    bad.append(EventNote(0, BEGAN, "notice", {"set": {1}}))
    for note in bad:
        notes: list[Note] = [*good, note]
        with pytest.raises(JournalError):
            await journal.write("b1", "me", notes)
    assert await journal.events("b1") == []
    assert await journal.runs("b1") == [replace(run, updated=BEGAN) for run in run_entries()]
    assert (await journal.batch("b1")).ended is None


async def test_a_held_batch_is_nobody_elses(journal: Journal, clock: WallClock) -> None:
    """Who does not hold a batch neither takes nor writes nor renews it, while the holder's word holds."""
    await journal.add(batch_entry(), run_entries(), ME, 30)
    clock.passes(29)
    with pytest.raises(BatchHeldError, match=r"process 1 on here .* until 2026-11-26T12:00:30"):
        await journal.hold("b1", OTHER, 30, is_dead=nobody_is_dead)
    with pytest.raises(LeaseLostError):
        await journal.write("b1", "other", [event(0)])
    with pytest.raises(LeaseLostError):
        await journal.renew("b1", "other", 30)
    await journal.release("b1", "other")
    assert (await journal.batch("b1")).holder == ME
    await journal.renew("b1", "me", 30)
    assert (await journal.batch("b1")).held_until == clock.now + timedelta(seconds=30)


@pytest.mark.parametrize("why", ["run out", "dead", "let go"])
async def test_a_batch_is_taken_over(journal: Journal, clock: WallClock, why: str) -> None:
    """When its holder's word has run out, or it is dead, or has let go, another one takes it; the first has lost it."""
    await journal.add(batch_entry(), run_entries(), ME, 30)
    await journal.write("b1", "me", [EndNote(BEGAN, "a budget")])
    match why:
        case "run out":
            clock.passes(30)
        case "let go":
            await journal.release("b1", "me")
            free = await journal.batch("b1")
            assert (free.holder, free.held_until) == (None, None)
    asked = list[LeaseOwner]()

    def is_dead(holder: LeaseOwner) -> bool:
        asked.append(holder)
        return why == "dead"

    await journal.hold("b1", OTHER, 10, is_dead=is_dead)
    assert all(holder == ME for holder in asked)
    kept = await journal.batch("b1")
    assert (kept.holder, kept.held_until) == (OTHER, clock.now + timedelta(seconds=10))
    assert (kept.ended, kept.stopped_by) == (None, "")
    with pytest.raises(LeaseLostError):
        await journal.write("b1", "me", [event(0)])
    with pytest.raises(LeaseLostError):
        await journal.renew("b1", "me", 30)
    await journal.write("b1", "other", [event(0)])


async def test_a_late_holder_that_nobody_replaced_goes_on(journal: Journal, clock: WallClock) -> None:
    """A lease that has run out is still its holder's, as long as nobody has taken it."""
    await journal.add(batch_entry(), run_entries(), ME, 30)
    clock.passes(3600)
    await journal.write("b1", "me", [event(0)])
    assert await journal.renew("b1", "me", 30) == []
    with pytest.raises(BatchHeldError):
        await journal.hold("b1", OTHER, 30, is_dead=nobody_is_dead)


async def test_wishes_are_heard_once(journal: Journal) -> None:
    """The holder hears each wish once; what nobody has heard is dropped when the batch is taken again."""
    await journal.add(batch_entry(), run_entries(), ME, 30)
    await journal.add(batch_entry("b2"), run_entries(), ME, 30)
    await journal.ask("b1", ControlRequest("cancel", 1))
    await journal.ask("b1", ControlRequest("cancel"))
    assert await journal.renew("b2", "me", 30) == []
    assert await journal.renew("b1", "me", 30) == [ControlRequest("cancel", 1), ControlRequest("cancel")]
    assert await journal.renew("b1", "me", 30) == []
    await journal.ask("b1", ControlRequest("cancel", 2))
    await journal.release("b1", "me")
    await journal.hold("b1", OTHER, 30, is_dead=nobody_is_dead)
    assert await journal.renew("b1", "other", 30) == []


async def test_a_batch_by_the_beginning_of_its_id(journal: Journal) -> None:
    """A batch is found by its whole id, by a beginning that is no other's, or as the last one."""
    with pytest.raises(NoSuchBatchError, match="no batches yet"):
        await journal.batch("last")
    for minutes, id_ in ((1, "ab1"), (3, "ab12"), (2, "b%_"), (0, "zz")):
        await journal.add(batch_entry(id_, BEGAN + timedelta(minutes=minutes)), [], ME, 30)
    assert [entry.id for entry in await journal.batches()] == ["ab12", "b%_", "ab1", "zz"]
    for word, id_ in (("ab1", "ab1"), ("ab12", "ab12"), ("z", "zz"), ("b", "b%_"), ("last", "ab12")):
        assert (await journal.batch(word)).id == id_
    with pytest.raises(NoSuchBatchError, match="'a': may be ab12, ab1; write more of its id"):
        await journal.batch("a")
    for word in ("", "%", "ab13", "_"):
        with pytest.raises(NoSuchBatchError, match="not in the journal"):
            await journal.batch(word)


async def test_batches_of_one_moment(journal: Journal) -> None:
    """Of batches that began in the same moment the one that was added last is the newest."""
    for id_ in ("c", "a", "b"):
        await journal.add(batch_entry(id_), [], ME, 30)
    assert [entry.id for entry in await journal.batches()] == ["b", "a", "c"]


async def test_an_unknown_batch(journal: Journal) -> None:
    """Each method that needs a batch says when it is not there; to let go of one is no error."""
    await journal.add(batch_entry(), run_entries(), ME, 30)
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: journal.hold("b0", ME, 30, is_dead=nobody_is_dead),
        lambda: journal.renew("b0", "me", 30),
        lambda: journal.write("b0", "me", [event(0)]),
        lambda: journal.ask("b0", ControlRequest("cancel")),
        lambda: journal.runs("b0"),
        lambda: journal.events("b0"),
        lambda: journal.batch("b0"),
    ]
    for call in calls:
        with pytest.raises(NoSuchBatchError, match="'b0': not in the journal"):
            await call()
    await journal.release("b0", "me")


async def test_files_of_a_batch(journal: Journal) -> None:
    """A file is kept under its name, replaced, and removed; other batches have their own."""
    content = bytes(range(256)) * 300
    await journal.put("b1", "runs/000/result.json", b"{}")
    await journal.put("b1", "runs/000/result.json", content)
    await journal.put("b2", "runs/000/result.json", b"other")
    await journal.put("b1", "runs/000/0-größe ;$.patch", b"")
    assert await journal.get("b1", "runs/000/result.json") == content
    assert await journal.get("b2", "runs/000/result.json") == b"other"
    assert await journal.get("b1", "runs/000/0-größe ;$.patch") == b""
    assert await journal.get("b1", "runs/001/result.json") is None
    assert await journal.get("b1", "runs/000") is None
    assert await journal.get("b1", "runs/000/result.json/x") is None
    for no_file in ("runs/001/result.json", "runs", "runs/000/result.json/x"):
        await journal.drop("b1", no_file)
    for taken in ("runs/000", "runs/000/result.json/x"):
        with pytest.raises(JournalError):
            await journal.put("b1", taken, b"")
    await journal.drop("b1", "runs/000/result.json")
    assert await journal.get("b1", "runs/000/result.json") is None
    assert await journal.get("b2", "runs/000/result.json") == b"other"


@pytest.mark.parametrize("name", ["", "..", "a/../b", "../b2/x", "/etc/passwd", "a//b", "a/", ".", "a/./b", "a\0b"])
async def test_names_that_lead_elsewhere(journal: Journal, name: str) -> None:
    """No name of a file, and no id of a batch, leads out of the batch's folder."""
    for batch, file in (("b1", name), (name, "x"), ("a/b", "x")):
        with pytest.raises(JournalError):
            await journal.put(batch, file, b"x")
        with pytest.raises(JournalError):
            await journal.get(batch, file)
        with pytest.raises(JournalError):
            await journal.drop(batch, file)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_it_is_open_as_long_as_somebody_needs_it(tmp_path: Path, kind: str, clock: WallClock) -> None:
    """It may be entered several times at once, is closed by the last, may be opened again, and is of no use between."""
    journal = make_journal(kind, tmp_path, clock)
    async with anyio.create_task_group() as tasks:

        async def use(id_: str) -> None:
            async with journal:
                await journal.add(batch_entry(id_), run_entries(), ME, 30)

        for number in range(5):
            tasks.start_soon(use, f"b{number}")
    with pytest.raises(JournalError, match="is not open"):
        await journal.batches()
    with pytest.raises(JournalError, match="is not open"):
        await journal.get("b1", "x")
    async with journal:
        async with journal:
            pass
        assert len(await journal.batches()) == 5


# --- leases against a model of them ---


@dataclass
class Model:
    """A batch of one run, as simple as it can be written down."""

    owner: str | None = "me"
    until: float = 30.0
    now: float = 0.0
    dead: set[str] = field(default_factory=set)
    written: list[str] = field(default_factory=list)
    wishes: list[int] = field(default_factory=list)

    def expected(self, verb: str, who: str, number: int) -> object:
        """What the call returns, or the error that it raises."""
        mine = self.owner == who
        match verb:
            case "hold":
                if not (mine or self.owner is None or self.until <= self.now or self.owner in self.dead):
                    return BatchHeldError
                self.owner, self.until, self.wishes = who, self.now + number, []
            case "renew":
                if not mine:
                    return LeaseLostError
                self.until, wishes, self.wishes = self.now + number, self.wishes, []
                return [ControlRequest("cancel", wish) for wish in wishes]
            case "write":
                if not mine:
                    return LeaseLostError
                self.written += [f"{who} {number}", f"{who} {number}+"]
            case "write badly":
                return JournalError if mine else LeaseLostError
            case "release":
                self.owner = None if mine else self.owner
            case "ask":
                self.wishes.append(number)
            case "pass":
                self.now += number
            case "die":
                self.dead.add(who)
        return None


async def _done(journal: Journal, clock: WallClock, model: Model, verb: str, who: str, number: int) -> object:
    try:
        match verb:
            case "hold":
                holder = LeaseOwner(who, "here", 1)
                await journal.hold("b1", holder, number, is_dead=lambda present: present.owner in model.dead)
            case "renew":
                return await journal.renew("b1", who, number)
            case "write":
                await journal.write("b1", who, [event(0, f"{who} {number}"), event(0, f"{who} {number}+")])
            case "write badly":
                await journal.write("b1", who, [event(0, "half"), event(1)])
            case "release":
                await journal.release("b1", who)
            case "ask":
                await journal.ask("b1", ControlRequest("cancel", number))
            case "pass":
                clock.passes(number)
    except JournalError as error:
        return type(error)
    return None


_calls = st.tuples(
    st.sampled_from(["hold", "hold", "renew", "write", "write", "write badly", "release", "ask", "pass", "die"]),
    st.sampled_from(["me", "other", "third"]),
    st.integers(0, 40),
)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@settings(max_examples=60, deadline=None)
@given(calls=st.lists(_calls, max_size=25))
def test_one_at_a_time(kind: str, calls: list[tuple[str, str, int]]) -> None:
    """Whatever three processes do, at any time and in any order: exactly the holder's whole writes are kept."""

    async def play() -> None:
        clock, model = WallClock(), Model()
        with tempfile.TemporaryDirectory() as folder:
            async with make_journal(kind, Path(folder), clock) as journal:
                await journal.add(batch_entry(), run_entries(1), ME, 30)
                for verb, who, number in calls:
                    before = replace(model, dead=set(model.dead))
                    assert await _done(journal, clock, before, verb, who, number) == model.expected(verb, who, number)
                    kept = await journal.batch("b1")
                    assert (kept.holder.owner if kept.holder else None) == model.owner
                    if kept.held_until is not None:
                        assert kept.held_until == BEGAN + timedelta(seconds=model.until)
                assert texts(await journal.events("b1")) == model.written

    anyio.run(play)
