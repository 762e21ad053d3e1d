"""From a board to the lines that a terminal of some size shows. Pure, and no dearer than what is visible.

Runs stand in the order of the batch. Where not all fit, those that go on come first, then failures, the newest ones;
what is left shows the latest that succeeded and the next that wait. The rest is folded into a line above and one below.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from flaude._model.failures import Phase
from flaude.cli.text.amounts import about, clock, count, dollars
from flaude.cli.view.board import Board, Row, StopOrder
from flaude.cli.view.columns import Column, Line, Piece, cut, fitting, headings, in_columns, width_of
from flaude.cli.view.terminal_style import Glyphs, Style

_PHASES = {
    Phase.QUEUED: "waiting",
    Phase.CREATE: "creating",
    Phase.BOOT: "booting",
    Phase.CLONE: "cloning",
    Phase.AGENT: "working",
    Phase.COLLECT: "collecting",
    Phase.DESTROY: "destroying",
    Phase.DONE: "ending",
}
_TIME, _PHASE, _TURNS, _COST = (
    Column("time", 7, right=True),
    Column("phase", 10),
    Column("turns", 5, right=True),
    Column("cost", 9, right=True),
)
_LAST = Column("last", 16)  # or more
_SHORTEST_TAG = 8
_WIDEST_BAR, _NARROWEST_BAR = 48, 8
_ROOMY = 12  # lines from which on headings and a blank line may take some


@dataclass(frozen=True)
class Moment:
    """When a frame is for.

    Attributes:
        now: The time, in UTC.
        step: How far the spinner has turned.
    """

    now: datetime
    step: int


def frame(board: Board, moment: Moment, glyphs: Glyphs, width: int, height: int) -> list[Line]:
    """The lines of a batch, no more than `height`, none wider than `width` cells."""
    foot = _foot(board, moment.now, glyphs, width, height)
    roomy = height >= _ROOMY
    room = height - len(foot) - 2 * roomy
    above, rows, below = _fold(board, room, glyphs)
    columns = _columns(board, width)
    body = [_row(row, columns, moment, glyphs) for row in rows]
    folds = [[(Piece(2, cut(text, width - 2, glyphs.more)),)] if text and width > 2 else [] for text in (above, below)]  # noqa: PLR2004
    head = [headings([Column("", 1, gap=1), *columns[1:]])] if roomy else []
    blank: list[Line] = [()] if roomy else []
    return [*head, *folds[0], *body, *folds[1], *blank, *foot]


# --- which runs ---


def _fold(board: Board, room: int, glyphs: Glyphs) -> tuple[str, list[Row], str]:
    """What is folded above, the runs to show, and what is folded below."""
    standing = (board.active, board.failed, board.succeeded, board.waiting)
    if board.total <= room:
        return "", _in_order([row for rows in standing for row in rows.values()]), ""
    left = max(0, room - 2)
    failed = min(len(board.failed), max(left // 4, left - len(board.active)))
    active = min(len(board.active), left - failed)
    left -= failed + active
    waiting = min(len(board.waiting), max(left // 2, left - len(board.succeeded)))
    succeeded = min(len(board.succeeded), left - waiting)
    rows = [
        *islice(board.active.values(), active),
        *islice(reversed(board.failed.values()), failed),
        *islice(reversed(board.succeeded.values()), succeeded),
        *islice(board.waiting.values(), waiting),
    ]
    above = _folded((len(board.succeeded) - succeeded, "done"), (len(board.failed) - failed, "failed"), glyphs=glyphs)
    below = _folded((len(board.active) - active, "running"), (board.not_begun - waiting, "waiting"), glyphs=glyphs)
    return (above if room > 0 else ""), _in_order(rows), (below if room > 1 else "")


def _folded(*numbers: tuple[int, str], glyphs: Glyphs) -> str:
    told = ", ".join(f"{number} {word}" for number, word in numbers if number)
    return f"{glyphs.more} {told}" if told else ""


def _in_order(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.index)


# --- a run ---


def _columns(board: Board, width: int) -> list[Column]:
    """The columns that fit, by what they are worth; what a run did last takes whatever is left."""
    tag = min(max(board.longest_tag, _SHORTEST_TAG), max(_SHORTEST_TAG, width * 3 // 10))
    fits, left = fitting([_TIME, _PHASE, _LAST, _COST, _TURNS], width - 2 - tag)
    if "last" not in fits:
        tag = min(max(board.longest_tag, tag), tag + left)
    last = Column("last", _LAST.width + left)
    own = [Column("", 1, gap=1), Column("tag", min(tag, max(0, width - 2)))]
    return [*own, *(column for column in (_PHASE, _TIME, _TURNS, _COST, last) if column.heading in fits)]


def _row(row: Row, columns: Sequence[Column], moment: Moment, glyphs: Glyphs) -> Line:
    texts = {column.heading: _cell(row, column.heading, moment, glyphs) for column in columns}
    return in_columns(columns, [texts[column.heading] for column in columns], glyphs.more)


def _cell(row: Row, heading: str, moment: Moment, glyphs: Glyphs) -> tuple[str, Style]:
    match heading:
        case "":
            return _mark(row, moment, glyphs)
        case "tag":
            return row.tag, Style.BAD if row.success is False else Style.PLAIN
        case "phase":
            return _phase(row), _mark(row, moment, glyphs)[1]
        case "time":
            seconds = row.lasted(moment.now)
            return "" if seconds is None else clock(seconds), Style.PLAIN
        case "turns":
            return str(row.turns) if row.turns else "", Style.PLAIN
        case "cost":
            return "" if row.cost_usd is None else dollars(row.cost_usd), Style.PLAIN
        case _:
            return row.last, Style.BAD if row.success is False else Style.PLAIN


def _mark(row: Row, moment: Moment, glyphs: Glyphs) -> tuple[str, Style]:
    if row.success is not None:
        return (glyphs.good, Style.GOOD) if row.success else (glyphs.bad, Style.BAD)
    if row.phase is Phase.QUEUED or row.detached:
        return glyphs.waiting, Style.PLAIN
    return glyphs.spinner[moment.step % len(glyphs.spinner)], Style.WARNING if row.stops else Style.ACTIVE


def _phase(row: Row) -> str:
    if row.success is not None:
        return "done" if row.success else "failed"
    if row.retries or row.detached:
        return "retrying" if row.retries else "detached"
    return "stopping" if row.stops and row.phase is Phase.AGENT else _PHASES[row.phase]


# --- the batch ---


def _foot(board: Board, now: datetime, glyphs: Glyphs, width: int, height: int) -> list[Line]:
    most = max(1, height // 3)
    stop = [] if board.stop is None else _wrapped(stop_words(board, board.stop), width, most)
    bar = _bar_line(board, now, glyphs, width)
    return [*stop, bar, *_in_lines(_sums(board, now), width, most)][: max(1, height)]


def stop_words(board: Board, stop: StopOrder) -> str:
    """What being told to stop means, what is still being done, and what another signal would do."""
    agents, collecting = board.phases[Phase.AGENT], board.phases[Phase.COLLECT]
    machines = count(board.live, "machine")
    name = "Ctrl-C" if "SIGINT" in stop.reason else "SIGTERM" if "SIGTERM" in stop.reason else ""
    if not name:
        return f"Stopping {count(board.stopping, 'run')}: {stop.reason}."
    if stop.at_once:
        return (
            f"{name}, the second: destroying {machines} at once, nothing more is collected; a third time: leave, and "
            "the machines end by themselves."
        )
    doing = [f"stopping {count(agents, 'agent')}"] if agents else []
    doing += [f"collecting the work of {collecting}"] if collecting else ["collecting their work"] if agents else []
    doing += [f"{machines} left to destroy"]
    return f"{name}: {', '.join(doing)}; again: destroy at once; a third time: leave."


def _wrapped(text: str, width: int, most: int) -> list[Line]:
    lines = textwrap.wrap(text, max(1, width), max_lines=most, placeholder="")
    return [(Piece(0, cut(line, width), Style.WARNING),) for line in lines]


def _bar_line(board: Board, now: datetime, glyphs: Glyphs, width: int) -> Line:
    digits = len(str(board.total))
    texts = {
        "over": f"{board.over:>{digits}}/{board.total}",
        "time": clock((now - board.started_at).total_seconds()),
        "estimate": _estimate(board, now, glyphs),
    }
    columns = [Column("over", 2 * digits + 1), Column("time", 7, right=True), Column("estimate", 21)]
    fits, left = fitting(columns, width - _NARROWEST_BAR)
    bar = min(_WIDEST_BAR, max(0, width), _NARROWEST_BAR + left)
    after = in_columns(columns, [(texts[one.heading] if one.heading in fits else "", Style.PLAIN) for one in columns])
    return (*_bar(board, glyphs, bar), *(Piece(bar + 2 + piece.column, piece.text) for piece in after))


def _bar(board: Board, glyphs: Glyphs, width: int) -> list[Piece]:
    """Green for what has succeeded, red for what has failed, blue for what goes on."""
    pieces, at, so_far = [], 0, 0
    total = max(1, board.total)
    for number, style in (
        (len(board.succeeded), Style.GOOD),
        (len(board.failed), Style.BAD),
        (len(board.active), Style.ACTIVE),
    ):
        so_far += number
        to = so_far * width // total
        full = glyphs.empty if style is Style.ACTIVE else glyphs.full
        pieces.append(Piece(at, full * (to - at), style))
        at = to
    return [*pieces, Piece(at, glyphs.empty * (width - at))]


def _estimate(board: Board, now: datetime, glyphs: Glyphs) -> str:
    left = board.ends_in_s(now)
    if left is None:
        return ""
    at = f", {(now + timedelta(seconds=left)).astimezone():%H:%M}" if left >= 120 else ""  # noqa: PLR2004  # two minutes
    return f"{glyphs.about} {about(left)} left{at}"


def _sums(board: Board, now: datetime) -> list[tuple[str, Style]]:
    digits = len(str(board.total))
    failed = len(board.failed)
    sums = [
        (f"{len(board.succeeded):>{digits}} done", Style.PLAIN),
        (f"{failed:>{digits}} failed", Style.BAD if failed else Style.PLAIN),
        (f"{len(board.active):>{digits}} running", Style.PLAIN),
        (f"{board.not_begun:>{digits}} waiting", Style.PLAIN),
        (f"{board.live:>{digits}} {'machine ' if board.live == 1 else 'machines'}", Style.PLAIN),
        (f"{board.pace(now):>2}/min", Style.PLAIN),
        (f"Claude {dollars(board.cost_usd)}", Style.PLAIN),
    ]
    if board.machine_cost_usd is not None:
        sums.append((f"Fly {dollars(board.machine_cost_usd)}", Style.PLAIN))
    if board.leftovers:
        sums.insert(2, (f"{count(board.leftovers, 'machine')} not confirmed gone", Style.BAD))
    return sums


def _in_lines(parts: Sequence[tuple[str, Style]], width: int, most: int) -> list[Line]:
    """Side by side, in as many lines as it takes; what does not fit into `most` is left out."""
    lines: list[Line] = [()]
    for text, style in parts:
        at = width_of(lines[-1]) + 2 if lines[-1] else 0
        if lines[-1] and at + len(text) > width:
            lines.append(())
            at = 0
        lines[-1] = (*lines[-1], Piece(at, cut(text, width), style))
    return lines[:most]
