"""`flaude check`: what a batch file would run, and what it could cost."""

from __future__ import annotations

import json as json_
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated, Any

from cyclopts import Parameter
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flaude._agent.command import credentials
from flaude._model.config import MachineConfig
from flaude._model.durations import duration
from flaude._model.errors import NoCredentialsError
from flaude._model.request import ExecutionRequest
from flaude._providers.fly.prices import price_table
from flaude.batch_file import BatchFileError, BatchSpec, Format, load
from flaude.batch_file.forecast import Forecast, forecast
from flaude.batch_file.problems import printable
from flaude.cli.batch_argument import Source
from flaude.cli.checks import fly as fly_checks
from flaude.cli.checks.uploads import Upload, largest_upload
from flaude.cli.clocks import usual_timeouts

_NO_TERMINAL = 120
_WIDEST = 40
_MB = 1_000_000
_MAY_BE_SAME = ("repos", "model", "machine")


async def check(
    file: Source,
    /,
    *,
    app: str | None = None,
    format: Format | None = None,  # noqa: A002  # the option's name
    prompt: Annotated[str | None, Parameter(name=["--prompt", "-p"])] = None,
    repo: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Check a batch file, and print what it would run and what that could cost; nothing is made.

    Needs no token and no network; with a Fly token it also counts the machines that are there, and says when an
    organisation's machine limit may be in the way. Exit code 2 when something in the file is wrong: all of it is
    printed, each on a line `file:line:column field message`.

    Parameters
    ----------
    file
        The batch file, YAML, TOML, JSON, JSONL or CSV; `-` for standard input.
    app
        The Fly app, instead of the file's; else FLY_APP.
    format
        What the file is written in, when its suffix does not tell.
    prompt
        For a CSV file: the prompt of every row, with `{column}`s in it.
    repo
        For a CSV file: a repository of every row, which may have `{column}`s in it; may be given several times.
    json
        Print one JSON object and nothing else.
    """
    try:
        spec = await load(
            file, environ=os.environ, app=app, format=format, prompt=prompt, repos=repo, timeouts=usual_timeouts()
        )
    except BatchFileError as error:
        if json:
            print(json_.dumps({"problems": [asdict(problem) for problem in error.problems]}))
        else:
            print(error, file=sys.stderr)
        return 2
    bounds = forecast(spec.settings, spec.requests)
    upload = await largest_upload(spec.settings, spec.requests, os.environ)
    limit = await fly_checks.limit_note(spec.settings.app, bounds.at_once)
    if json:
        print(json_.dumps({**_as_json(spec, bounds, upload), "machine_limit": limit}))
    else:
        _print(spec, bounds, upload)
        if limit:
            print(f"note: {limit}", file=sys.stderr)
    return 0


def _as_json(spec: BatchSpec, bounds: Forecast, upload: Upload | None) -> dict[str, Any]:
    return {
        "source": spec.source,
        "app": spec.settings.app,
        "apps": spec.settings.apps.names,
        "tasks": [
            {
                "tag": request.tag,
                "name": request.name,
                "prompt": request.config.prompt,
                "repos": [{"url": repo.url, "branch": repo.branch} for repo in request.config.repo_specs],
                "model": request.config.model,
                "region": ",".join(request.config.regions),
                "machine": asdict(request.config.size),
                "max_budget_usd": request.config.max_budget_usd,
            }
            for request in spec.requests
        ],
        "forecast": asdict(bounds),
        "largest_upload": asdict(upload) if upload else None,
        "without_credentials": _without_credentials(spec.requests),
    }


def _print(spec: BatchSpec, bounds: Forecast, upload: Upload | None) -> None:
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _NO_TERMINAL
    apps = spec.settings.apps
    where = f"the app {apps.app}" if apps.count == 1 else f"the {apps.count} apps {apps.app} to {apps.names[-1]}"
    console.print(Text(printable(f"{spec.source}: {_count(bounds.tasks, 'task')} for {where}")))
    rows = [_row(request) for request in spec.requests]
    # What is the same everywhere is said once, below.
    same = [name for name in _MAY_BE_SAME if len({row[name] for row in rows}) == 1 and bounds.tasks > 1]
    table = _table(rows, [name for name in rows[0] if name not in same], console.width)
    console.width = max(console.width, console.measure(table).maximum)
    console.print(table)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column()
    for name, text in [*((name, rows[0][name]) for name in same), *_lines(spec, bounds, upload)]:
        grid.add_row(name, Text(printable(text)))
    console.print(grid)
    if without := _without_credentials(spec.requests):
        print(
            f"note: {_count(without, 'task')} without Claude Code credentials; set CLAUDE_CODE_OAUTH_TOKEN or "
            "ANTHROPIC_API_KEY before you run this",
            file=sys.stderr,
        )


def _table(rows: Sequence[dict[str, str]], names: Sequence[str], width: int) -> Table:
    """The tasks; the prompts have the room that the rest leaves."""
    widths = {name: max(len(name), *(cell_len(printable(row[name])) for row in rows)) for name in names}
    widths |= {name: min(widths[name], _WIDEST) for name in names if name != "prompt"}
    others = sum(widths[name] + 3 for name in names if name not in {"tag", "prompt"})
    widths["tag"] = max(12, min(widths["tag"], (width - others) // 2))
    widths["prompt"] = max(20, min(widths["prompt"], width - others - widths["tag"] - 7))
    table = Table()
    for name in names:
        table.add_column(
            name, width=widths[name], no_wrap=name == "prompt", overflow="ellipsis" if name == "prompt" else "fold"
        )
    for row in rows:
        table.add_row(*(Text(printable(row[name])) for name in names))
    return table


def _row(request: ExecutionRequest) -> dict[str, str]:
    config = request.config
    repos = ", ".join(repo.folder + (f"@{repo.branch}" if repo.branch else "") for repo in config.repo_specs)
    return {
        "tag": request.tag,
        "prompt": next((line.strip() for line in config.prompt.splitlines() if line.strip()), ""),
        "repos": repos or "none",
        "model": config.model or "default",
        "machine": _machine(config),
    }


def _machine(config: MachineConfig) -> str:
    size = config.size
    prefix = "shared-cpu" if size.cpu_kind == "shared" else size.cpu_kind
    return f"{prefix}-{size.cpus}x {size.memory_mb / 1024:g} GB {','.join(config.regions) or 'anywhere'}"


def _lines(spec: BatchSpec, bounds: Forecast, upload: Upload | None) -> Iterator[tuple[str, str]]:
    yield "machines", f"{bounds.tasks}, one for each task; at most {bounds.at_once} at once"
    if bounds.shards > 1:
        yield "apps", _apps(bounds)
    yield "pace", _pace(bounds)
    if upload:
        yield "prompts", _upload(upload)
    yield "agents", _agents(spec, bounds)
    yield "Fly", _fly(bounds)


def _apps(bounds: Forecast) -> str:
    if bounds.make_apps_s < 1:
        return "extra apps are created if they are missing"
    return f"extra apps are created if they are missing: {duration(bounds.make_apps_s)} if all are"


def _pace(bounds: Forecast) -> str:
    waiting = bounds.tasks - bounds.at_once
    first = f"the first {bounds.at_once}" if waiting else "all"
    later = f", each of the other {waiting} when one has ended" if waiting else ""
    if not bounds.last_create_s:
        return f"{first} at once{later}"
    within = duration(bounds.last_create_s)
    creates, shards = bounds.creates_per_second, bounds.shards
    pace = "one machine a second" if creates == 1 else f"{creates:g} machines a second"
    where = "" if shards == 1 else f" in {shards} apps"
    limit = "Fly's limit" if creates == shards else "what rate_limits says of Fly's limit"
    return f"{pace}{where}, which is {limit}: {first} within {within}{later}"


def _upload(upload: Upload) -> str:
    size = f"{upload.characters / 1000:,.0f} KB" if upload.characters < _MB else f"{upload.characters / _MB:.1f} MB"
    pace = f", {duration(upload.seconds)} at Fly's pace" if upload.seconds >= 1 else ""
    return f"the longest, {upload.tag} ({size}), takes {upload.calls} calls to reach its machine{pace}"


def _agents(spec: BatchSpec, bounds: Forecast) -> str:
    if bounds.agents_usd is None:
        return f"no bound: {_count(bounds.without_budget, 'task')} without max_budget_usd, and no budget"
    if bounds.agents_usd == spec.settings.budget_usd:
        return f"at most ${bounds.agents_usd:,.2f}, the budget"
    return f"at most ${bounds.agents_usd:,.2f}, by max_budget_usd"


def _fly(bounds: Forecast) -> str:
    attempts = f" with {bounds.attempts} attempts each" if bounds.attempts > 1 else ""
    lives = f"{_count(bounds.tasks, 'task')}{attempts}, {duration(bounds.longest_s)} at the longest"
    if bounds.machine_seconds < bounds.tasks * bounds.attempts * bounds.longest_s:
        lives = f"{duration(bounds.machine_seconds)} of all machines, by max_machine_seconds and what collecting takes"
    if bounds.machines_usd is None:
        where = ", ".join(region or "anywhere" for region in bounds.without_price)
        return f"unknown: there is no single price for the region {where} ({lives})"
    return f"at most ${bounds.machines_usd:,.2f}: {lives}, at Fly's prices of {price_table().date}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def _without_credentials(requests: Sequence[ExecutionRequest]) -> int:
    without = 0
    for request in requests:
        try:
            credentials(request.config, os.environ)
        except NoCredentialsError:
            without += 1
    return without
