"""What is known of a batch while it goes on, and how it is laid out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len
from tests.support.event_factory import BEGAN, Happenings

from flaude._model.failures import Phase
from flaude._model.results import BatchResult
from flaude.cli.text.amounts import about, clock, dollars
from flaude.cli.text.one_line import one_line
from flaude.cli.view.board import Board, Row
from flaude.cli.view.columns import rendered, width_of
from flaude.cli.view.layout import Moment, frame
from flaude.cli.view.summary import summary
from flaude.cli.view.terminal_style import ASCII, UNICODE, Look
from flaude.events import (
    AssistantText,
    Booted,
    Collecting,
    Created,
    Creating,
    Destroyed,
    Detached,
    Event,
    Finished,
    Queued,
    Resumed,
    Retried,
    Started,
    ToolUse,
)

TEXTS = st.text(st.characters(), max_size=30) | st.sampled_from(
    ["[red]markup[/]", "\x1b[2J\x1b[1;1Hgone", "a\nb\r\nc", "日本語のタグ", "👨‍👩‍👧 e\u0301", "\u202egnirts", "x" * 300]
)
RUNS: st.SearchStrategy[list[dict[str, Any]]] = st.lists(
    st.builds(
        dict,
        tag=TEXTS,
        retries=st.integers(0, 2),
        outputs=st.integers(0, 3),
        fails=st.sampled_from([False, True, "early"]),
        cost_usd=st.sampled_from([None, 0.0, 0.25, 12.5]),
        lasts=st.floats(0, 1000),
    ),
    min_size=1,
    max_size=8,
)


def at(seconds: float, step: int = 0) -> Moment:
    """So long after the batch's beginning."""
    return Moment(BEGAN + timedelta(seconds=seconds), step)


@st.composite
def interleaved(draw: st.DrawFn) -> tuple[list[Happenings], list[Event]]:
    """Some runs, and their events as they may reach somebody who watches: any order that keeps each run's own."""
    runs = [Happenings(index, **how) for index, how in enumerate(draw(RUNS))]
    left = [list(run.events()) for run in runs]
    events: list[Event] = []
    for _ in range(draw(st.integers(0, sum(map(len, left))))):
        open_ = [queue for queue in left if queue]
        events.append(open_[draw(st.integers(0, len(open_) - 1))].pop(0))
    for run in draw(st.lists(st.sampled_from(runs), unique=True)):
        events.insert(draw(st.integers(0, len(events))), run.stop())
    return runs, events


def check_sums(board: Board, runs: list[Happenings], seen: list[Event]) -> None:
    """The board's sums against those that are counted anew from what was seen."""
    results = [event.result for event in seen if isinstance(event, Finished)]
    last = {event.index: event for event in seen if isinstance(event, Creating | Created | Destroyed | Finished)}
    heard = {event.index for event in seen}
    assert board.over == len(results)
    assert len(board.succeeded) == sum(result.success for result in results)
    assert board.total == len(runs) == board.over + len(board.active) + board.not_begun
    assert sorted([*board.waiting, *board.active, *board.succeeded, *board.failed]) == sorted(heard)
    assert board.live == sum(isinstance(event, Created) for event in last.values())
    assert sum(board.phases.values()) == len(board.active)
    assert board.cost_usd == pytest.approx(sum(result.cost_usd or 0 for result in results))
    assert board.stopping == sum(row.stops for row in (*board.waiting.values(), *board.active.values()))


@given(interleaved())
def test_sums_add_up_whenever_one_looks(told: tuple[list[Happenings], list[Event]]) -> None:
    """However the events of runs are mixed, and wherever they break off, every sum is what the events add up to."""
    runs, events = told
    board = Board(len(runs), BEGAN)
    for number, event in enumerate(events, 1):
        board.take(event)
        check_sums(board, runs, events[:number])


@given(interleaved(), st.integers(1, 140), st.integers(1, 40))
@example(([Happenings(0)], list(Happenings(0).until(Started))), 1, 40)
@example(([Happenings(0)], [*Happenings(0).until(Started), Happenings(0).stop()]), 9, 12)
def test_every_frame_fits(told: tuple[list[Happenings], list[Event]], width: int, height: int) -> None:
    """In a terminal of any size: no line too many, none too wide, nothing that it would obey, and every run counted."""
    runs, events = told
    board = Board(len(runs), BEGAN)
    for event in events:
        board.take(event)
    lines = frame(board, at(500), UNICODE, width, height)
    assert 0 < len(lines) <= height
    assert all(width_of(line) <= width for line in lines)
    text = [rendered(line, Look()) for line in lines]
    assert not any(unicodedata.category(character) in ("Cc", "Cf", "Cs") for character in "".join(text))
    if width >= 60 and height >= 12:
        shown = sum(line[:1] in f"✓✗·{UNICODE.spinner}" for line in text if line)
        folded = sum(int(number) for line in text if line.startswith("  … ") for number in re.findall(r"\d+", line))
        unheard = len(runs) - len({event.index for event in events})
        assert shown + folded in (len(runs), len(runs) - unheard)


@given(st.text(st.characters(), max_size=60) | TEXTS, st.integers(1, 50))
def test_any_text_is_one_line(text: str, most: int) -> None:
    """Nothing that a terminal obeys is left, there is no line break, and a second time changes nothing."""
    line = one_line(text, most)
    assert len(line) <= most and one_line(line, most) == line.rstrip()
    assert not any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in line)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07shown", "shown"),
        ("\x1b]8;;https://example.com\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jshown", "shown"),
        ("one\n\n  two\tthree", "one two three"),
        ("\u202ereversed", "reversed"),
        ("a" + "\u0301" * 9, "a\u0301\u0301"),
        ("日本", "日本"),
        ("[bold]x[/]", "[bold]x[/]"),
    ],
)
def test_what_a_terminal_would_obey_is_left_out(text: str, line: str) -> None:
    """Escape sequences go whole, with what they carry; markup is text."""
    assert one_line(text) == line


def test_a_run_takes_the_same_memory_however_much_it_says() -> None:
    """Of megabytes of text a line is kept, of thousands of events a number."""
    board, run = Board(1, BEGAN), Happenings(0, "t" * 10_000)
    for event in run.until(Started):
        board.take(event)
    for _ in range(1000):
        board.take(run.says("long\n" * 100_000))
    (row,) = board.active.values()
    texts = [getattr(row, field.name) for field in fields(Row)]
    assert all(len(text) <= 200 for text in texts if isinstance(text, str))
    assert row.turns == 1


def test_what_a_row_tells() -> None:
    """Seconds since the last create call, turns, and what the agent did last, until the result says it better."""
    board, run = Board(1, BEGAN), Happenings(0, begins=5, lasts=60, outputs=2, retries=1)
    told: list[tuple[float | None, int, str]] = []
    for event in run.events():
        board.take(event)
        if isinstance(event, Retried | Created | Started | ToolUse | AssistantText | Collecting | Finished):
            (row,) = (*board.active.values(), *board.succeeded.values())
            told.append((row.lasted(at(15).now), row.turns, row.last))
    assert told == [
        (10, 0, "machine m0a1 in iad"),
        (10, 0, "attempt 1 failed, again in 2 s: no luck with run-0"),
        (10, 0, "machine m0 in iad"),
        (10, 0, ""),
        (10, 1, "step 0"),
        (10, 1, "Bash: pytest -q"),
        (10, 2, "step 1"),
        (10, 2, "Bash: pytest -q"),
        (10, 2, "Bash: pytest -q"),
        (60, 7, "answer of run-0"),
    ]


def test_a_batch_that_is_taken_up_again() -> None:
    """A run that another controller left is where it was; its machine counts."""
    board, run = Board(2, BEGAN), Happenings(0)
    board.take(Resumed(*run.where(0, "m0"), phase=Phase.AGENT))
    assert board.live == 1 and board.phases[Phase.AGENT] == 1 and board.not_begun == 1
    for event in list(run.events())[-4:]:
        board.take(event)
    assert board.live == 0 and list(board.succeeded) == [0]


def test_the_pace_is_that_of_the_last_minute() -> None:
    """Machines that were made longer ago do not count."""
    board = Board(9, BEGAN)
    for index, second in enumerate([0, 1, 2, 50, 65]):
        for event in Happenings(index, begins=second).until(Created):
            board.take(event)
    paces = [board.pace(at(second).now) for second in (65, 109, 111, 125, 3600)]
    assert paces == [2, 2, 1, 0, 0]


def estimated(total: int, *, over: int, active: int, lasts: float = 100.0, shards: int = 1) -> float | None:
    """The estimate at second 200, of runs that began at 100, or are over."""
    board = Board(total, BEGAN, shards)
    for index in range(over + active):
        run = Happenings(index, begins=0 if index < over else 150, lasts=lasts)
        for event in run.events() if index < over else run.until(Started):
            board.take(event)
    return board.ends_in_s(at(200).now)


def test_the_estimated_end() -> None:
    """From the mean of runs that are over, how many go on at once, and Fly's pace; none before there is anything."""
    assert estimated(10, over=0, active=5) is None
    assert estimated(5, over=4, active=1) == 50, "it has gone on for 50 s of 100"
    assert estimated(5, over=4, active=1, lasts=40) is None, "it has passed the mean: nobody knows"
    assert estimated(30, over=5, active=5) == 20 * 100 / 5 + 100
    assert estimated(510, over=5, active=5, lasts=2) == 500 * 1 + 2, "no more than one create a second"
    assert estimated(510, over=5, active=5, lasts=2, shards=4) == 500 * 2 / 5 + 2, "in each app"
    assert estimated(5, over=5, active=0) is None


def lines_of(runs: Iterator[Event] | list[Event], total: int, width: int, height: int) -> list[str]:
    """A frame as text."""
    board = Board(total, BEGAN)
    for event in runs:
        board.take(event)
    return [rendered(line, Look()) for line in frame(board, at(60), UNICODE, width, height)]


def test_what_does_not_fit_is_folded() -> None:
    """Running rows come first, failures stay, the rest is counted; rows are in the order of the batch."""
    events: list[Event] = []
    for index in range(20):
        events += Happenings(index, fails=index == 3, begins=index).events()
    for index in range(20, 25):
        events += Happenings(index, begins=50).until(Started)
    for index in range(25, 90):
        events += Happenings(index).until(Queued)
    text = lines_of(events, 100, 100, 14)
    assert [line.split()[1] for line in text[2:-4]] == [
        "run-3",
        "run-19",
        *(f"run-{index}" for index in range(20, 25)),
        "run-25",
    ]
    assert text[1] == "  … 18 done" and text[-4] == "  … 74 waiting"
    assert "agent_error: no luck with run-3" in text[2]
    assert text[-1].startswith(" 19 done    1 failed    5 running   75 waiting    5 machines")


def test_failures_stay_beside_any_number_of_running_rows() -> None:
    """A quarter of the rows is theirs; the newest ones are shown, the others counted."""
    events: list[Event] = []
    for index in range(10):
        events += Happenings(index, fails=True).events()
    for index in range(10, 60):
        events += Happenings(index).until(Started)
    text = lines_of(events, 60, 100, 16)
    assert [line.split()[1] for line in text if line.startswith("✗")] == ["run-8", "run-9"]
    assert text[1] == "  … 8 failed" and "  … 42 running" in text
    assert [line.split()[1] for line in text if "working" in line] == [f"run-{index}" for index in range(10, 18)]


def test_columns_stand_below_one_another() -> None:
    """Wide characters shift nothing: the phases of all rows begin in the same column."""
    events: list[Event] = []
    for index, tag in enumerate(["plain", "日本語", "👍👍", "e\u0301"]):
        events += Happenings(index, tag).until(Started)
    board = Board(4, BEGAN)
    for event in events:
        board.take(event)
    lines = frame(board, at(60), UNICODE, 80, 24)
    texts = [rendered(line, Look()) for line in lines]
    assert {cell_len(text[: text.index("working")]) for text in texts if "working" in text} == {12}


@pytest.mark.parametrize(
    ("width", "headings"),
    [
        (100, "tag phase time turns cost last"),
        (72, "tag phase time cost last"),
        (58, "tag phase time last"),
        (36, "tag phase time"),
        (20, "tag time"),
        (12, "tag"),
    ],
)
def test_narrow_terminals_show_what_matters_most(width: int, headings: str) -> None:
    """Columns go one by one."""
    events = list(Happenings(0, "a-tag-of-20-letters-").until(Started))
    assert " ".join(lines_of(events, 1, width, 24)[0].split()) == headings


def test_what_a_signal_means_is_said() -> None:
    """What is still being done, what the next signal would do; for other reasons the reason."""
    events: list[Event] = []
    for index in range(3):
        events += Happenings(index).until(Started)
    events += Happenings(3).until(Collecting)
    stops: list[Event] = [Happenings(index).stop() for index in range(4)]
    assert lines_of([*events, *stops], 4, 200, 24)[-3] == (
        "Ctrl-C: stopping 3 agents, collecting the work of 1, 4 machines left to destroy; again: destroy at once; "
        "a third time: leave."
    )
    early = [event for index in range(3) for event in Happenings(index).until(Started)]
    assert lines_of([*early, *stops[:3]], 3, 200, 24)[-3].startswith(
        "Ctrl-C: stopping 3 agents, collecting their work, 3 machines left to destroy; again: "
    )
    at_once: list[Event] = [Happenings(index).stop(at_once=True) for index in range(4)]
    assert lines_of([*events, *stops, *at_once], 4, 200, 24)[-3] == (
        "Ctrl-C, the second: destroying 4 machines at once, nothing more is collected; a third time: leave, and the "
        "machines end by themselves."
    )
    other: list[Event] = [Happenings(index).stop(reason="max_machine_seconds: 9 of 8") for index in range(4)]
    assert lines_of([*events, *other], 4, 200, 24)[-3] == "Stopping 4 runs: max_machine_seconds: 9 of 8."


def test_what_is_said_leaves_room_for_rows() -> None:
    """In a narrow terminal a long word on stopping takes a third of the lines, and no more."""
    events = [event for index in range(9) for event in Happenings(index).until(Started)]
    text = lines_of([*events, *(Happenings(index).stop() for index in range(9))], 9, 16, 24)
    assert sum("run-" in line for line in text) >= 3 and any(line.startswith("Ctrl-C") for line in text)


def test_the_words_for_the_phases() -> None:
    """What a run does; one that waits for its next attempt, one that is to stop, and one that was left say so."""

    def phase(run: Happenings, kind: type[Event], *more: Event) -> str:
        return lines_of([*run.until(kind), *more], 1, 80, 24)[1].split()[2]

    one = Happenings(0, retries=1)
    told = [phase(one, kind) for kind in (Queued, Creating, Created, Booted, Started, Collecting, Finished)]
    assert told == ["waiting", "creating", "booting", "cloning", "working", "collecting", "done"]
    assert phase(one, Retried) == "retrying"
    assert phase(one, Started, one.stop()) == "stopping"
    assert phase(one, Started, Detached(*one.where(1, "m0"))) == "detached"


def test_times_and_money() -> None:
    """As people write them, and never wider than their column."""
    assert [clock(seconds) for seconds in (-1, 7.9, 754, 3723, 86_399, 360_000)] == [
        "0:00", "0:07", "12:34", "1:02:03", "23h 59m", "4d 04h",
    ]  # fmt: skip
    assert [about(seconds) for seconds in (1, 44, 119, 121, 7199, 7300)] == [
        "10 s", "40 s", "120 s", "2 min", "120 min", "2 h",
    ]  # fmt: skip
    assert [dollars(usd) for usd in (0.00421, 99.5, 1234.5)] == ["$0.0042", "$99.5000", "$1234.50"]


def test_the_summary() -> None:
    """Every run in the order of the batch, why those failed that did, and the sums."""
    results = [Happenings(0, "first").result(), Happenings(1, "second", fails=True, cost_usd=None).result()]
    batch = BatchResult(
        [*results, Happenings(2, "third", fails="early").result()], seconds=75, stopped_by="stopped by it"
    )
    assert summary(batch, Look(ASCII), None).splitlines() == [
        "  tag     outcome      exit code  seconds     cost  changed files",
        "+ first   ok                   0     10.0  $0.2500  a.py",
        "x second  agent_error          1     10.0           a.py",
        "x third   agent_error",
        "",
        "x second: no luck with second",
        "x third: no luck with third",
        "",
        "1/3 succeeded in 1:15; agents $0.2500 and 1 unknown cost; 20 machine seconds $0.0020 by Fly's prices",
        "Cut short: stopped by it",
    ]


def test_the_summary_names_what_may_be_alive() -> None:
    """With the command that looks after it."""
    run = Happenings(0).result()
    alive = run.attempts[0].model_copy(update={"gone": False})
    batch = BatchResult([type(run)(tag="a", run_result=run.run_result, attempts=(alive,))])
    text = summary(batch, Look(), None, app="my-app", batch="b1").splitlines()
    assert text[-3:] == [
        "These machines may be alive:",
        "  flaude-0 (m0)",
        "flaude reap --app my-app --batch b1 --all",
    ]


@given(RUNS, st.integers(1, 200))
def test_every_summary_fits(hows: list[dict[str, Any]], width: int) -> None:
    """No row is wider than the terminal, and nothing in it is obeyed."""
    batch = BatchResult([Happenings(index, **how).result() for index, how in enumerate(hows)])
    text = summary(batch, Look(), width)
    assert not any(unicodedata.category(character) in ("Cf", "Cs") for character in text)
    assert "\x1b" not in text
    rows = text.splitlines()[: len(hows) + 1]
    assert all(len(row) <= max(width, 11) for row in rows)
