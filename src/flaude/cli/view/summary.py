"""What a batch came to, for people: a table of its runs, what went wrong, and the sums."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len

from flaude._model.results import BatchResult, ExecutionResult
from flaude.cli.text.amounts import clock, count, dollars
from flaude.cli.text.one_line import one_line
from flaude.cli.view.columns import Column, Line, Piece, cut, fitting, headings, in_columns, rendered
from flaude.cli.view.terminal_style import Look, Style

_LONGEST_TAG = 80
_WIDEST = 10_000  # of a file, where nobody says how wide it is
_MOST_FAILURES = 20
_FILES = "changed files"


def summary(result: BatchResult, look: Look, width: int | None, *, app: str = "", batch: str = "") -> str:
    """The text, with its line breaks; empty when nothing came of the batch yet, because its runs go on without us.

    Args:
        result: The batch.
        look: How to write.
        width: Cells of the terminal; None where there is none: then nothing is shortened.
        app: The Fly app of its machines.
        batch: Its id.
    """
    if not (result.results or result.stopped_by):
        return ""
    wide = width or _WIDEST
    if not result.results and not result.stopped_by:  # left to work on alone
        return ""
    lines: list[Line] = list(_table(result, look, wide))
    lines += [(), *_failures(result, look, wide)]
    told = [_sums(result)]
    if result.stopped_by:
        told.append(f"Cut short: {one_line(result.stopped_by)}")
    lines += [(Piece(0, text),) for text in told]
    if result.leftovers:
        lines.append((Piece(0, "These machines may be alive:", Style.BAD),))
        lines += [(Piece(2, str(leftover)),) for leftover in result.leftovers]
        where = f" --app {app}" * bool(app) + f" --batch {batch}" * bool(batch)
        lines.append((Piece(0, f"flaude reap{where} --all"),))
    if result.shards_left:
        lines.append((Piece(0, "These apps were to be removed:", Style.WARNING),))
        lines += [(Piece(2, one_line(why, 500)),) for why in result.shards_left]
        if app:
            lines.append((Piece(0, f"flaude app remove-shards {app}"),))
    return "".join(f"{rendered(line, look).rstrip()}\n" for line in lines)


def _table(result: BatchResult, look: Look, width: int) -> Iterator[Line]:
    rows = [_cells(one, index, look) for index, one in enumerate(result.results)]
    if not rows:
        return
    names = ("", "tag", "outcome", "exit code", "seconds", "cost", _FILES)
    widths = [max(map(cell_len, (name, *(row[at][0] for row in rows)))) for at, name in enumerate(names)]
    tag = min(widths[1], max(8, width * 3 // 10) if width < _WIDEST else _LONGEST_TAG)
    _, _, outcome, exit_code, seconds, cost = (
        Column(name, wide, right=name in ("exit code", "seconds", "cost"))
        for name, wide in zip(names[:-1], widths[:-1], strict=True)
    )
    least = min(widths[-1], 16)
    fits, left = fitting([outcome, seconds, cost, Column(_FILES, least), exit_code], width - 2 - tag)
    tag = tag if _FILES in fits else min(widths[1], tag + left)
    files = Column(_FILES, least + left)
    chosen = [
        column
        for column in (Column("", 1, gap=1), Column("tag", tag), outcome, exit_code, seconds, cost, files)
        if column.heading in ("", "tag") or column.heading in fits
    ]
    yield headings(chosen)
    for row in rows:
        texts = dict(zip(names, row, strict=True))
        yield in_columns(chosen, [texts[column.heading] for column in chosen], look.glyphs.more)


def _cells(result: ExecutionResult, index: int, look: Look) -> tuple[tuple[str, Style], ...]:
    run, failure = result.run_result, result.failure
    style = Style.GOOD if result.success else Style.BAD
    outcome = "ok" if result.success else str(failure.kind) if failure else "failed"
    seconds = run.times.seconds if run else None
    return (
        (look.glyphs.good if result.success else look.glyphs.bad, style),
        (tag_of(result, index), Style.PLAIN),
        (outcome, style),
        (str(run.exit_code) if run and run.exit_code is not None else "", Style.PLAIN),
        ("" if seconds is None else f"{seconds:.1f}", Style.PLAIN),
        ("" if result.cost_usd is None else dollars(result.cost_usd), Style.PLAIN),
        (changed_files(result), Style.PLAIN),
    )


def tag_of(result: ExecutionResult, index: int) -> str:
    """A run's tag as one line, or its place."""
    return one_line(result.tag, _LONGEST_TAG) or f"#{index}"


def changed_files(result: ExecutionResult) -> str:
    """The changed paths as one line, with their number where there are many."""
    paths = [
        change.path for patch in (result.run_result.patches if result.run_result else ()) for change in patch.changes
    ]
    told = one_line(", ".join(paths[:100]), 1000)
    return f"{len(paths)} files: {told}" if len(paths) > 3 else told  # noqa: PLR2004  # more than one sees at a glance


def why(result: ExecutionResult) -> str:
    """Why a run failed, as one line."""
    failure = result.failure
    return one_line(failure.message if failure else str(result.error or ""), 500)


def _failures(result: BatchResult, look: Look, width: int) -> Iterator[Line]:
    failed = [(index, one) for index, one in enumerate(result.results) if not one.success]
    for index, one in failed[:_MOST_FAILURES]:
        yield (
            Piece(0, look.glyphs.bad, Style.BAD),
            Piece(2, cut(f"{tag_of(one, index)}: {why(one)}", max(1, width - 2), look.glyphs.more)),
        )
    if len(failed) > _MOST_FAILURES:
        yield (Piece(2, f"{look.glyphs.more} {len(failed) - _MOST_FAILURES} more"),)
    if failed:
        yield ()


def _sums(result: BatchResult) -> str:
    unknown = f" and {count(result.unknown_costs, 'unknown cost')}" if result.unknown_costs else ""
    machines = "unknown" if result.machine_cost_usd is None else f"{dollars(result.machine_cost_usd)} by Fly's prices"
    return (
        f"{result.succeeded}/{result.total} succeeded in {clock(result.seconds)}; agents {dollars(result.cost_usd)}"
        f"{unknown}; {count(round(result.machine_seconds), 'machine second')} {machines}"
    )
