from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flaude import Failure, FailureKind, Phase
from flaude.events import (
    AssistantText,
    Destroyed,
    Event,
    OtherOutput,
    Queued,
    Retried,
    Skipped,
    Started,
    StderrOutput,
    ToolResult,
    ToolUse,
)
from flaude.report.limits import Limits
from flaude.report.transcript import steps_of, transcript_of

NOW = datetime(2026, 11, 26, 9, 30, tzinfo=UTC)
MUCH = 1_000_000


def event(kind: Callable[..., Event], *rest: object, after: float = 0) -> Event:
    """An event of some run."""
    return kind("b", 0, "t", NOW + timedelta(seconds=after), "m", *rest)


def test_an_answer_belongs_to_its_use() -> None:
    """A tool's answer is told where it was used, also when others come in between; one of no use stands alone."""
    steps = steps_of(
        [
            event(ToolUse, "1", "Bash", {"command": "ls"}),
            event(ToolUse, "2", "Read", {"file_path": "a"}),
            event(ToolResult, "1", "files", False),
            event(ToolResult, "2", "no such file", True),
            event(ToolResult, "1", "again", False),
        ]
    )
    assert [(step.text, step.answer, step.failed) for step in steps] == [
        ("Bash", "files", False),
        ("Read", "no such file", True),
        ("answer of a tool", "again", False),
    ]


def test_lines_of_output_are_one_step() -> None:
    """Lines that follow each other are told together; JSON that is no message is not told at all."""
    lines = [event(OtherOutput, f"line {number}") for number in range(3)]
    quiet = event(OtherOutput, {"type": "system", "subtype": "init"})
    steps = steps_of([*lines, quiet, event(OtherOutput, "more"), event(StderrOutput, "oh"), event(OtherOutput, "x")])
    assert [(step.kind, step.text) for step in steps] == [
        ("output", "line 0\nline 1\nline 2\nmore"),
        ("stderr", "oh"),
        ("output", "x"),
    ]


@pytest.mark.parametrize(
    ("told", "kind", "words"),
    [
        (event(Queued), "phase", "waits for its turn"),
        (event(Started), "phase", "the agent begins"),
        (event(Destroyed, True), "phase", "gone"),
        (event(Destroyed, False), "trouble", "Fly has not confirmed that m is gone"),
        (event(Skipped, 1204), "trouble", "1,204 events are missing here: they came faster than they were read"),
        (
            event(Retried, 1, Failure(kind=FailureKind.CAPACITY, phase=Phase.CREATE, message="full"), 2.0),
            "trouble",
            "attempt 1 has failed (capacity): full; another one begins after 2.0 s",
        ),
    ],
)
def test_events_in_words(told: Event, kind: str, words: str) -> None:
    """What happens to the run is told between what its agent does."""
    (step,) = steps_of([told])
    assert (step.kind, step.text) == (kind, words)


def test_a_tool_in_a_line_and_in_full() -> None:
    """A tool is told in a line by the first of what it takes; all of it is there when there is more."""
    short, long = transcript_of(
        [
            event(ToolUse, "1", "Bash", {"command": "ls -l"}),
            event(ToolUse, "2", "Edit", {"file_path": "a.py", "old_string": "x\ny", "all": True}, after=75),
        ],
        Limits(),
        MUCH,
    ).beginning
    assert (short.brief, short.fields, short.after) == ("ls -l", (), "0 s")
    assert long.brief == "a.py" and long.after == "1:15 min"
    assert [(name, value.html) for name, value in long.fields] == [
        ("file_path", "a.py"),
        ("old_string", "x\ny"),
        ("all", "true"),
    ]


@given(st.lists(st.integers(min_value=0, max_value=300), max_size=60), st.integers(min_value=0, max_value=20_000))
def test_the_beginning_and_the_end_are_kept(sizes: list[int], most: int) -> None:
    """A transcript keeps to its limit; what is shown are the first steps and the last ones, and the rest is counted."""
    events = [event(AssistantText, f"{number} {'x' * size}") for number, size in enumerate(sizes)]
    transcript = transcript_of(events, Limits(), most)
    assert transcript.size <= most
    assert len(transcript.beginning) + transcript.left_out + len(transcript.end) == len(sizes) == transcript.total
    numbers = [int(step.text.html.split()[0]) for step in (*transcript.beginning, *transcript.end)]
    first, last = len(transcript.beginning), len(transcript.end)
    assert numbers == [*range(first), *range(len(sizes) - last, len(sizes))]


def test_tens_of_thousands_of_events() -> None:
    """A transcript of any length costs the page what it may, and no more."""
    events = [event(AssistantText, "y" * 100) for _ in range(30_000)]
    transcript = transcript_of(events, Limits(), 100_000)
    assert transcript.size <= 100_000 and transcript.left_out > 29_000
