"""A batch as lines: plain ones for people, JSON for programs; and which view is chosen for whom."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TextIO

import anyio
import pytest
from tests.support.event_factory import BATCH, Happenings

from flaude._model.failures import Phase
from flaude._model.results import BatchResult
from flaude.cli.view.choosing import choose_view
from flaude.cli.view.json_lines import JsonLines
from flaude.cli.view.line_view import Lines
from flaude.cli.view.live import LiveView
from flaude.cli.view.nonblocking_writer import Outlet
from flaude.cli.view.terminal_size import columns_of
from flaude.cli.view.terminal_style import ASCII, UNICODE, look_of
from flaude.events import (
    Destroyed,
    Detached,
    Event,
    Finished,
    Notice,
    OtherOutput,
    RateLimited,
    Resumed,
    Skipped,
    Started,
    ToolUse,
)
from flaude.events.codec import load_event

RESULT = BatchResult([Happenings(0).result(), Happenings(1, fails=True).result()], seconds=12, stopped_by="SIGINT")


class Tty(io.StringIO):
    """A terminal, by its own word."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__()
        self._encoding = encoding

    def isatty(self) -> bool:
        """It says so."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has it as a variable
        """As it was made."""
        return self._encoding


@contextmanager
def pipe() -> Iterator[tuple[int, TextIO]]:
    """A pipe whose reader reads when it likes."""
    reads, writes = os.pipe()
    with open(writes, "w", encoding="utf-8") as stream:  # noqa: PTH123  # a number
        try:
            yield reads, stream
        finally:
            os.close(reads)


async def lines_of(*events: Event, environ: dict[str, str] | None = None) -> tuple[list[str], str]:
    """The lines on stderr without their times, and what is on stdout."""
    stdout, stderr = io.StringIO(), io.StringIO()
    async with Lines(stdout, stderr, environ or {}) as view:
        view.launched(BATCH, "my-app", 2)
        for event in events:
            view.take(event)
        view.ended(RESULT, 1)
    first, *lines = stderr.getvalue().splitlines()
    assert first == f"batch {BATCH} on my-app: 2 runs"
    assert all(line[2] == line[5] == ":" and line[8:10] == "  " for line in lines)
    return [line[10:] for line in lines], stdout.getvalue()


async def test_a_line_for_each_change() -> None:
    """Phases, notices, retries, results; no line for what the agent says; the summary on stdout."""
    one, two = Happenings(0, "auth", retries=1), Happenings(1, "billing\nreview", fails=True)
    lines, stdout = await lines_of(*one.events(), *two.events())
    assert lines == [
        "auth  asks Fly for a machine",
        "auth  machine m0a1 boots in iad",
        "auth  destroying machine m0a1",
        "auth  attempt 1 failed, again in 2 s: agent_error: no luck with auth",
        "auth  asks Fly for a machine",
        "auth  machine m0 boots in iad",
        "auth  waiting out: no answer",
        "auth  machine m0 is up, cloning",
        "auth  agent started on m0",
        "auth  agent ended, collecting its work",
        "auth  destroying machine m0",
        "auth  done  0:10, $0.2500, a.py",
        "billing review  asks Fly for a machine",
        "billing review  machine m1 boots in iad",
        "billing review  waiting out: no answer",
        "billing review  machine m1 is up, cloning",
        "billing review  agent started on m1",
        "billing review  agent ended, collecting its work",
        "billing review  destroying machine m1",
        "billing review  failed  agent_error: no luck with billing review  (0:10, $0.2500, a.py)",
    ]
    assert "1/2 succeeded in 0:12" in stdout


async def test_lines_of_rarer_events() -> None:
    """What other controllers do, limits, leftovers, and what a signal means, once."""
    run, other = Happenings(0, "a"), Happenings(1, "b")
    where = run.where(1, "m0")
    lines, _ = await lines_of(
        Resumed(*where, phase=Phase.AGENT),
        RateLimited(*where, status="rejected", resets_at=None),
        Skipped(*where, count=5),
        run.stop(),
        other.stop(),
        run.stop(at_once=True),
        Destroyed(*where, confirmed=False),
        Detached(*where),
    )
    assert lines == [
        "a  taken up again in phase agent",
        "a  Claude's API limits the account: rejected",
        "stopping the agents, collecting their work; another signal: destroy at once; a third: leave",
        "a  stops, its work is collected: stopped by SIGINT",
        "b  stops, its work is collected: stopped by SIGINT",
        "destroying all machines at once; a third signal: leave, and they end by themselves",
        "a  stops, its machine is destroyed at once: stopped by SIGINT",
        "a  machine m0 is not confirmed gone",
        "a  left to work on, on m0",
    ]


async def test_lines_are_coloured_only_where_it_is_asked_for() -> None:
    """No escape codes in a file; FORCE_COLOR has them, NO_COLOR has the last word."""
    events = list(Happenings(0, fails=True).events())
    for environ, coloured in (
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ):
        lines, stdout = await lines_of(*events, environ=environ)
        assert [any("\x1b" in line for line in lines), "\x1b" in stdout] == [coloured, coloured]


async def json_of(*events: Event) -> list[dict[str, object]]:
    """The objects of a batch of these events."""
    stdout = io.StringIO()
    async with JsonLines(stdout) as view:
        view.launched(BATCH, "my-app", 2)
        for event in events:
            view.take(event)
        view.ended(RESULT, 1)

    def refuse(word: str) -> object:
        raise AssertionError(f"{word} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in stdout.getvalue().splitlines()]


async def test_json_lines() -> None:
    """First `launch`, last `done`, in between every event so that it can be read back."""
    events = [*Happenings(0, "auth\n\ud800 日本").events(), *Happenings(1, fails="early").events()]
    first, *told, last = await json_of(*events)
    assert {name: first[name] for name in ("event", "batch", "app", "shards", "total")} == {
        "event": "launch", "batch": BATCH, "app": "my-app", "shards": 1, "total": 2,
    }  # fmt: skip
    again = [load_event(one) for one in told]
    assert [replace(one, result=RESULT.results[0]) if isinstance(one, Finished) else one for one in again] == [
        replace(one, result=RESULT.results[0]) if isinstance(one, Finished) else one for one in events
    ]
    finished = [one for one in again if isinstance(one, Finished)]
    assert [one.result.run_result for one in finished] == [
        one.result.run_result for one in events if isinstance(one, Finished)
    ]
    assert last == {
        "event": "done", "batch": BATCH, "total": 2, "succeeded": 1, "failed": 1, "cost_usd": 0.5,
        "machine_cost_usd": 0.002, "seconds": 12, "stopped_by": "SIGINT", "leftovers": [], "shards_left": [],
            "exit_code": 1,
    }  # fmt: skip


def nested(levels: int) -> dict[str, object]:
    """Lists in a list, in an object."""
    value: list[object] = []
    for _ in range(levels - 2):
        value = [value]
    return {"nested": value}


async def test_what_json_does_not_have_is_null() -> None:
    """Agents print numbers that are none."""
    odd = {"a": math.nan, "b": [math.inf, 1.5], "c": "\ud800"}
    _, told, _ = await json_of(OtherOutput(*Happenings(0).where(0), line=odd))
    assert told["line"] == {"a": None, "b": [None, 1.5], "c": "\ud800"}


@pytest.mark.parametrize("levels", [101, 900, 5000, 200_000])
async def test_what_is_nested_too_deep_costs_itself_alone(levels: int, caplog: pytest.LogCaptureFixture) -> None:
    """One rule, however deep a version of Python can write: a hundred levels."""
    where = Happenings(0).where(0)
    deep, most = nested(levels), nested(100)
    _, told, _ = await json_of(
        OtherOutput(*where, line=deep), ToolUse(*where, id="t", name="x", input=deep), OtherOutput(*where, line=most)
    )
    assert told["line"] == most
    assert "OtherOutput is not shown" in caplog.text and "ToolUse is not shown" in caplog.text


async def test_a_reader_that_has_gone_ends_nothing() -> None:
    """As `| head -1` does: the rest goes nowhere, silently, also what others write to the stream."""
    with pipe() as (reads, stream):
        async with JsonLines(stream) as view:
            view.launched(BATCH, "my-app", 100)
            assert (await anyio.to_thread.run_sync(os.read, reads, 1000)).startswith(b'{"event": "launch"')
            os.dup2(os.open(os.devnull, os.O_RDONLY), reads)
            for index in range(100):
                for event in Happenings(index).events():
                    view.take(event)
            view.ended(RESULT, 0)
        stream.write("the program's own last words\n")
        stream.flush()


async def test_a_reader_that_is_slow_gets_everything_and_holds_up_nobody() -> None:
    """More than a pipe holds: it is taken at once, and waits for the reader."""
    with pipe() as (reads, stream):
        read: list[bytes] = []

        async def read_all() -> None:
            while data := await anyio.to_thread.run_sync(os.read, reads, 1 << 16):
                read.append(data)

        async with anyio.create_task_group() as tasks:
            async with JsonLines(stream) as view:
                view.launched(BATCH, "my-app", 300)
                for index in range(300):
                    for event in Happenings(index).events():
                        view.take(event)
                view.ended(RESULT, 0)
                tasks.start_soon(read_all)
            stream.close()
    lines = b"".join(read).splitlines()
    assert len(lines) == 300 * len(list(Happenings(0).events())) + 2
    assert json.loads(lines[-1])["event"] == "done"


async def test_who_wants_the_end_does_not_wait_for_a_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C with `| less` at the other end: what the block raises comes through, soon, as it is."""
    monkeypatch.setattr(Outlet, "LAST_S", 0.1)
    monkeypatch.setattr("flaude.cli.view.background.Beside._LAST_S", 0.1)
    with pipe() as (_, stream), anyio.fail_after(10), pytest.raises(KeyboardInterrupt):  # noqa: PT012
        async with JsonLines(stream) as view:
            for index in range(300):
                for event in Happenings(index).events():
                    view.take(event)
            view.ended(RESULT, 130)
            raise KeyboardInterrupt


def test_the_view_that_suits() -> None:
    """A table for a terminal that can move its cursor; lines in CI, in files and where asked; JSON above all."""
    term = {"TERM": "xterm-256color"}

    def kind(stderr: TextIO, environ: dict[str, str], *, json: bool = False, plain: bool = False) -> type:
        return type(choose_view(json=json, plain=plain, stdout=io.StringIO(), stderr=stderr, environ=environ))

    assert kind(Tty(), term) is LiveView
    assert kind(Tty(), {**term, "NO_COLOR": "1", "CI": "false"}) is LiveView
    assert kind(Tty(), term, plain=True) is Lines
    assert kind(Tty(), {**term, "CI": "true"}) is Lines
    assert kind(Tty(), {"TERM": "dumb"}) is Lines
    assert kind(Tty(), {}) is Lines
    assert kind(io.StringIO(), {**term, "FORCE_COLOR": "1"}) is Lines
    assert kind(Tty(), term, json=True, plain=True) is JsonLines


@pytest.mark.parametrize(
    ("stream", "environ", "colours", "glyphs"),
    [
        (Tty(), {"TERM": "xterm-256color"}, 256, UNICODE),
        (Tty(), {"TERM": "xterm"}, 16, UNICODE),
        (Tty(), {"TERM": "xterm", "COLORTERM": "truecolor"}, 256, UNICODE),
        (Tty(), {"TERM": "xterm", "NO_COLOR": "1"}, 0, UNICODE),
        (Tty(), {"TERM": "xterm", "NO_COLOR": ""}, 16, UNICODE),
        (Tty(), {"TERM": "linux"}, 16, ASCII),
        (Tty("latin-1"), {"TERM": "xterm"}, 16, ASCII),
        (Tty("ascii"), {"TERM": "xterm"}, 16, ASCII),
        (io.StringIO(), {"TERM": "xterm"}, 0, UNICODE),
        (io.StringIO(), {"FORCE_COLOR": "1"}, 16, UNICODE),
        (io.StringIO(), {"FORCE_COLOR": "0"}, 0, UNICODE),
    ],
)
def test_colours_and_characters(stream: TextIO, environ: dict[str, str], colours: int, glyphs: object) -> None:
    """By NO_COLOR, FORCE_COLOR, TERM and the encoding; what is no terminal has no colours."""
    look = look_of(stream, environ)
    assert (look.colours, look.glyphs) == (colours, glyphs)


async def test_a_terminal_that_is_not_utf_8() -> None:
    """What its encoding does not have becomes a question mark."""
    stderr = Tty("latin-1")
    async with Lines(io.StringIO(), stderr, {}) as view:
        view.take(Notice(*Happenings(0, "prüfung").where(0), text="ein ✓ für dich"))
    assert "prüfung  ein ? für dich" in stderr.getvalue()


def test_the_width_of_what_is_no_terminal() -> None:
    """What COLUMNS says, or no limit."""
    assert columns_of(io.StringIO(), {"COLUMNS": "72"}) == 72
    assert columns_of(io.StringIO(), {}) is None
    assert columns_of(Tty(), {"COLUMNS": "72"}) == 80, "a terminal that does not say is 80 wide"


async def test_a_defect_costs_a_line(caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be written is logged, and the rest goes on."""
    stderr = io.StringIO()
    async with Lines(io.StringIO(), stderr, {}) as view:
        view.take(Started(BATCH, 0, None, *Happenings(0).where(0)[3:]))  # type: ignore[arg-type]
        view.take(Started(*Happenings(1).where(0, "m1")))
    assert "Started is not shown" in caplog.text and "agent started on m1" in stderr.getvalue()
