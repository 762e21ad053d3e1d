"""`flaude reap`: the third line of defence, by hand or by a timer."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape

from flaude._executor.ownership import age
from flaude._executor.reaper import Reaped, ReapReport
from flaude._executor.reaper import reap as reap_machines
from flaude._model.errors import ConfigError
from flaude.cli.options import Duration
from flaude.cli.text.amounts import count

_COLOURS = {"destroyed": "green", "would_destroy": "yellow", "kept": "default", "failed": "red"}


async def reap(
    *,
    app: str | None = None,
    batch: str | None = None,
    older_than: Duration | None = None,
    destroy_within: Annotated[Duration, Parameter(show_default=lambda _: "2m")] = timedelta(minutes=2),
    all: Annotated[bool, Parameter(negative="")] = False,  # noqa: A002  # the option's name
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Destroy machines of flaude that no living controller owns; exit code 1 when one could not be confirmed gone.

    The app's shards (my-app-2 and so on) are looked through as well, where the token may list the organisation's apps.
    The Fly token comes from FLY_API_TOKEN, FLY_ACCESS_TOKEN or flyctl's config file.

    Parameters
    ----------
    app
        The Fly app; else FLY_APP.
    batch
        Only machines of this batch.
    older_than
        Only machines older than this: 90m, 2h, 1d.
    destroy_within
        How long a machine may take to be gone: 2m, 90s.
    all
        Also machines that are being pulled, whatever their age: all of flaude's in this app.
    dry_run
        Destroy nothing, say what would be.
    json
        Print the report as JSON and nothing else.
    """
    app = os.environ.get("FLY_APP") if app is None else app
    if not app:
        # An empty --app, as of a shell's variable that is not set, must not come to mean another app.
        raise ConfigError("--app: give the Fly app, or leave it out and set FLY_APP")
    report = await reap_machines(
        app,
        batch=batch,
        older_than=older_than,
        all=all,
        dry_run=dry_run,
        destroy_within=destroy_within.total_seconds(),
    )
    if json:
        print(report.model_dump_json(indent=2))
    else:
        _print(report, _which(batch, older_than))
    return 1 if report.failed or report.incomplete else 0


def _which(batch: str | None, older_than: timedelta | None) -> str:
    return (f" of batch {batch}" if batch else "") + (f" that is older than {older_than}" if older_than else "")


def _print(report: ReapReport, which: str) -> None:
    console = Console(highlight=False, soft_wrap=True)  # a name that was cut would name nothing
    if report.incomplete:
        console.print(f"[red]Not everything was seen:[/] {escape(report.incomplete)}")
    if report.note:
        print(f"note: {report.note}", file=sys.stderr)
    where = report.app + (f" and its {count(len(report.shards), 'shard')}" if report.shards else "")
    if not report.machines:
        console.print(f"No machine of flaude in {where}{which}.")
        return
    now = datetime.now(UTC)
    rows = [_row(machine, now, with_app=bool(report.shards)) for machine in report.machines]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row, machine in zip(rows, report.machines, strict=True):
        action, *rest = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        cells = [f"[{_COLOURS[machine.action]}]{action}[/]", *map(escape, rest), escape(machine.reason)]
        console.print("  ".join(cells))
    would = len(report.machines) - len(report.destroyed) - len(report.kept) - len(report.failed)
    parts = [
        f"{count} {word}"
        for count, word in (
            (len(report.destroyed), "destroyed"),
            (would, "would be destroyed"),
            (len(report.kept), "kept"),
            (len(report.failed), "not confirmed as gone"),
        )
        if count
    ]
    hint = " --all takes those that are kept as well." if report.kept else ""
    console.print(f"{where}: {', '.join(parts)}.{hint}")


def _row(machine: Reaped, now: datetime, *, with_app: bool) -> tuple[str, ...]:
    since = age(machine.created_at, now)
    old = "?" if since is None else str(timedelta(seconds=max(round(since), 0)))
    app = (machine.app,) if with_app else ()
    return machine.action.replace("_", " "), *app, machine.name, machine.id, machine.state, old
