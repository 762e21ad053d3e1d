"""The live view on a pseudo-terminal, fed with made-up events; a terminal emulator shows what a user sees."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial

import anyio
import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.event_factory import BATCH, Happenings
from tests.support.terminal_emulator import Terminal, terminal

from flaude._model.results import BatchResult
from flaude.cli.view.columns import Line, Piece
from flaude.cli.view.live import LiveView
from flaude.cli.view.nonblocking_writer import Outlet
from flaude.cli.view.painter import Painter
from flaude.cli.view.terminal_style import Look, Style
from flaude.events import Detached, Event, Queued, Started

ENVIRONMENT = {"TERM": "xterm-256color", "XTERM_VERSION": "XTerm(390)"}


@asynccontextmanager
async def shown_on(
    screen: Terminal, total: int, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str] = ENVIRONMENT
) -> AsyncIterator[LiveView]:
    """A view on it; stderr and stdout are the terminal."""
    with screen.stream() as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        async with LiveView(stream, stream, environment) as view:
            view.launched(BATCH, "my-app", total)
            yield view


def give(view: LiveView, *events: Iterator[Event]) -> None:
    """Let it have them."""
    for some in events:
        for event in some:
            view.take(event)


def has(text: list[str], *words: str) -> bool:
    """Whether one line has all of them."""
    return any(all(word in line for word in words) for line in text)


def is_whole(word: str, text: list[str]) -> bool:
    """Whether a word is there, and the table to its last line."""
    return has(text, word) and bool(text) and "Fly $" in text[-1]


async def test_rows_go_through_their_phases_and_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is there from the first run on; what is over folds away when there is more, and a failure stays."""
    with terminal(90, 16) as screen:
        async with shown_on(screen, 40, monkeypatch) as view:
            give(view, *(Happenings(index).until(Queued) for index in range(40)))
            text = await screen.until(lambda text: has(text, "· run-0 ", "waiting") and has(text, "0/40"))
            assert text[0] == f"batch {BATCH} on my-app: 40 runs"
            assert text[1].split() == ["tag", "phase", "time", "turns", "cost", "last"]
            give(view, *(Happenings(index).until(Started) for index in range(6)))
            await screen.until(lambda text: has(text, "run-5 ", "working"))
            give(view, Happenings(1, fails=True).events(), *(Happenings(index).events() for index in range(2, 20)))
            text = await screen.until(lambda text: has(text, "19/40"))
            assert has(text, "✗ run-1 ", "failed", "agent_error: no luck with run-1")
            assert has(text, "run-0 ", "working") and has(text, "… 15 done") and has(text, "… 17 waiting")
            assert len(text) == 15, "the line below it is the cursor's"


@pytest.mark.parametrize("reflows", [False, True])
async def test_the_window_is_resized(reflows: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrower, lower, wider: there is one table, which fits, and what stood above it stays."""
    environment = {"TERM": "xterm-256color"} if reflows else ENVIRONMENT
    with terminal(100, 24, reflows=reflows) as screen, screen.stream() as stream:
        stream.write("the user's own line\r\n")
        stream.flush()
        async with shown_on(screen, 5, monkeypatch, environment) as view:
            give(view, *(Happenings(index).until(Started) for index in range(5)))
            await screen.until(lambda text: has(text, "run-4 ", "working"))
            for columns, lines in ((60, 24), (31, 24), (31, 12), (120, 30)):
                screen.resize(columns, lines)
                view.take(Happenings(0).says(f"now {columns} x {lines}"))
                text = await screen.until(partial(is_whole, f"now {columns} x {lines}" if columns > 40 else "0/5"))
                assert max(map(len, text)) <= columns and sum("0/5" in line for line in text) == 1
                assert sum("run-4" in line for line in text) <= 1 and sum("tag " in line for line in text) <= 1
                if lines == 24:
                    assert text[0] == "the user's own line"


async def test_hostile_text_stays_in_its_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Markup, escape sequences, wide characters and line breaks, in tags and in what agents say."""
    tags = [
        "[red]x[/]",
        "\x1b[2J\x1b[Hhome",
        "a\nb",
        "日本語",
        "👨‍👩‍👧 family",
        "\u202egnirts",
        "\x9b1;1H",
        "z\u0301\u0301\u0301",
    ]
    with terminal(90, 24) as screen:
        async with shown_on(screen, len(tags), monkeypatch) as view:
            for index, tag in enumerate(tags):
                run = Happenings(index, tag)
                give(view, run.until(Started))
                view.take(run.says(f"\x1b]0;title\x07\x1b[31m{tag} and\n\n\tmore\r\x1b[10A {tag}"))
            text = await screen.until(lambda text: sum("working" in line for line in text) == len(tags))
    assert [line.split("  ")[0][2:].replace(" ", "") for line in text[2:10]] == [
        "[red]x[/]", "home", "ab", "日本語", "👨👩👧family", "gnirts", "#6", "ź\u0301",
    ]  # fmt: skip
    phases = {screen.screen.buffer[row][column].data for row in range(2, 10) for column in [text[1].index("phase")]}
    assert phases == {"w"}, "the phases are below one another"
    assert text[10] == "" and "0/8" in text[11]
    assert "\x07" not in screen.raw.decode() and screen.screen.title == ""


async def test_what_is_logged_stands_above_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a handler that has the terminal, from threads, and what is printed on stderr: whole lines, in order."""
    logger = logging.getLogger("flaude.of.a.test")
    with terminal(90, 30) as screen, screen.stream() as stream:
        handler = logging.StreamHandler(stream)
        logger.addHandler(handler)
        monkeypatch.setattr(sys, "stderr", stream)
        try:
            async with LiveView(stream, stream, ENVIRONMENT) as view:
                view.launched(BATCH, "my-app", 2)
                give(view, *(Happenings(index).until(Started) for index in range(2)))
                await screen.until(lambda text: has(text, "run-1 ", "working"))
                logger.warning("retrying \x1b[31mGET\x1b[0m /v1/apps %s", "x" * 100)
                await anyio.to_thread.run_sync(sys.stderr.write, "from a thread\n")
                sys.stderr.write("no line ")
                sys.stderr.write("break\n")
                text = await screen.until(lambda text: has(text, "no line break"))
                sys.stderr.write("the last word")
            await screen.until(lambda text: has(text, "the last word"))
            assert handler.stream is stream and sys.stderr is stream, "all is as it was"
        finally:
            logger.removeHandler(handler)
    assert text[0].startswith("batch ")
    assert text[1] == f"retrying GET /v1/apps {'x' * 68}" and text[2] == "x" * 32, "it wraps and is not cut"
    assert text[3:5] == ["from a thread", "no line break"] and b"\x1b[31m" not in screen.raw
    assert text[5].split()[0] == "tag"


async def test_the_summary_takes_the_place_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the same terminal there is nothing of the table left; the cursor is visible, lines wrap again."""
    with terminal() as screen:
        async with shown_on(screen, 1, monkeypatch) as view:
            give(view, Happenings(0).events())
            view.ended(BatchResult([Happenings(0).result()], seconds=12), 0)
        text = await screen.until(lambda text: has(text, "1/1 succeeded in 0:12"))
    assert text[0].startswith("batch ") and text[1].split() == [
        "tag", "outcome", "exit", "code", "seconds", "cost", "changed", "files",
    ]  # fmt: skip
    assert not has(text, "running")
    assert not screen.screen.cursor.hidden
    assert {7 << 5} <= screen.screen.mode, "pyte's number for wrapping"


async def test_a_batch_that_goes_on_without_us_leaves_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing came of it yet: there is no summary, and the rows say how far it is."""
    with terminal() as screen:
        async with shown_on(screen, 1, monkeypatch) as view:
            run = Happenings(0)
            give(view, run.until(Started), iter([Detached(*run.where(1, "m0"))]))
            view.ended(BatchResult([]), 0)
        text = await screen.until(lambda text: has(text, "· run-0", "detached") and has(text, "0/1"))
    assert not has(text, "succeeded")


async def test_a_summary_that_goes_elsewhere_leaves_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file as stdout has the summary, without colours, and the terminal keeps the last state of the table."""
    file = io.StringIO()
    with terminal() as screen, screen.stream() as stream:
        async with LiveView(file, stream, ENVIRONMENT) as view:
            view.launched(BATCH, "my-app", 1)
            give(view, Happenings(0).events())
            view.ended(BatchResult([Happenings(0).result()], seconds=12), 0)
        await screen.until(lambda text: has(text, "✓ run-0", "done") and has(text, "1/1"))
    assert "1/1 succeeded" in file.getvalue() and "\x1b" not in file.getvalue()


def test_what_is_not_new_is_not_written() -> None:
    """The same lines in a terminal of the same size cost nothing."""
    painter, lines, size = Painter(Look()), [(Piece(0, "a"),)], os.terminal_size((20, 12))
    assert painter.frame(lines, size)
    assert painter.frame(lines, size) == ""
    assert painter.frame(lines, os.terminal_size((21, 12))) and painter.frame([(Piece(0, "b"),)], size)


async def test_what_the_block_raises_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """No exception group around a KeyboardInterrupt; the table stays, the cursor is visible."""
    with terminal() as screen:
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012
            async with shown_on(screen, 1, monkeypatch) as view:
                give(view, Happenings(0).until(Started))
                raise KeyboardInterrupt
        await screen.until(lambda text: has(text, "run-0", "working"))
    assert not screen.screen.cursor.hidden


async def test_a_terminal_that_takes_nothing_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped with Ctrl-S, say: events are taken as ever, and who wants the end has it soon."""
    monkeypatch.setattr(Outlet, "LAST_S", 0.2)
    with terminal(200, 100) as screen:
        with anyio.fail_after(10), pytest.raises(KeyboardInterrupt):  # noqa: PT012
            async with shown_on(screen, 1000, monkeypatch) as view:
                give(view, *(Happenings(index).until(Started) for index in range(500)))
                await screen.is_written_to()  # with more than it holds
                give(view, *(Happenings(index).events() for index in range(500)))
                view.ended(BatchResult([Happenings(0).result()]), 130)
                raise KeyboardInterrupt
        await screen.until(bool)  # the thread that writes may end


async def test_what_cannot_be_shown_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect in here costs a row, and is logged."""
    with terminal() as screen:
        async with shown_on(screen, 2, monkeypatch) as view:
            odd = Queued(BATCH, 0, None, *Happenings(0).where(0)[3:])  # type: ignore[arg-type]
            view.take(odd)
            give(view, Happenings(1).until(Started))
            await screen.until(lambda text: has(text, "run-1", "working"))
    assert "Queued is not shown" in caplog.text


async def test_a_table_that_cannot_be_made_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect in all of it costs the table: that is logged once, and what others print still comes through."""

    def broken(*_: object) -> list[Line]:
        raise ZeroDivisionError

    monkeypatch.setattr("flaude.cli.view.live.frame", broken)
    with terminal() as screen:
        async with shown_on(screen, 1, monkeypatch) as view:
            give(view, Happenings(0).events())
            sys.stderr.write("said by others\n")
            await screen.until(lambda text: has(text, "said by others"))
            view.ended(BatchResult([Happenings(0).result()]), 0)
        await screen.until(lambda text: has(text, "1/1 succeeded"))
    assert caplog.text.count("the table has ended") == 1


async def test_after_a_ctrl_z_the_table_begins_below(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the shell has written meanwhile stays."""
    with terminal() as screen, screen.stream() as stream:
        async with shown_on(screen, 1, monkeypatch) as view:
            give(view, Happenings(0).until(Started))
            await screen.until(lambda text: has(text, "run-0", "working"))
            stream.write("[1]+  Stopped\r\n$ fg\r\n")
            stream.flush()
            os.kill(os.getpid(), signal.SIGCONT)
            text = await screen.until(lambda text: sum("run-0" in line for line in text) == 2)
    assert text.index("$ fg") == text.index("[1]+  Stopped") + 1 and has(text[text.index("$ fg") :], "run-0")


async def test_a_batch_in_the_background_leaves_the_terminal_to_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is drawn while another process group has the terminal; then a new table begins below."""
    asked, asked_often = 0, anyio.Event()

    def somebody_else(_file: int) -> int:
        nonlocal asked
        asked += 1
        if asked > 2:
            asked_often.set()
        return 1

    with terminal() as screen:
        monkeypatch.setattr(os, "tcgetpgrp", somebody_else)
        async with shown_on(screen, 1, monkeypatch) as view:
            give(view, Happenings(0).until(Started))
            await asked_often.wait()
            with anyio.move_on_after(0) as scope:
                await screen.is_written_to()
            assert scope.cancelled_caught
            monkeypatch.setattr(os, "tcgetpgrp", lambda _file: os.getpgrp())
            await screen.until(lambda text: has(text, "run-0", "working"))


FRAMES = st.lists(
    st.tuples(
        st.lists(st.text("ab日👍", min_size=1, max_size=30), max_size=6),
        st.lists(st.text("xyz", min_size=1, max_size=50), max_size=2),
    ),
    min_size=1,
    max_size=6,
)


@given(FRAMES)
@settings(max_examples=50)
def test_any_frames_leave_the_last_one(frames: list[tuple[list[str], list[str]]]) -> None:
    """Whatever came before: the last one is whole, the cursor below it, and what was to stand above stands in order."""
    screen = pyte.HistoryScreen(20, 12, history=1000)
    stream = pyte.Stream(screen)
    painter = Painter(Look(colours=256))
    for texts, above in frames:
        lines = [(Piece(0, text, Style.GOOD), Piece(40, "too far to the right")) for text in texts]
        stream.feed(painter.frame(lines, os.terminal_size((20, 12)), above))
    last, _ = frames[-1]
    at = screen.cursor.y
    shown = [line.rstrip() for line in screen.display]
    assert (screen.cursor.x, screen.cursor.hidden) == (0, False) and not any(shown[at:])
    assert [line[:1] for line in shown[at - len(last) : at]] == [text[:1] for text in last]
    passed = ["".join(row[column].data for column in range(20)).rstrip() for row in screen.history.top]
    assert "".join(passed + shown[: at - len(last)]) == "".join(line for _, above in frames for line in above)
