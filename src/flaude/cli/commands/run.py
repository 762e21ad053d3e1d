"""`flaude run`: a batch from a file, or from a prompt on the command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from cyclopts import Parameter

from flaude._agent.command import credentials
from flaude._executor.executor import ConcurrentExecutor
from flaude._model.config import MachineConfig
from flaude._model.errors import ConfigError
from flaude._model.request import ExecutionRequest
from flaude._model.results import BatchResult
from flaude._model.secrets import EnvSecret
from flaude._model.settings import ExecutorSettings
from flaude._model.tags import numbered, slug
from flaude._model.timeouts import Timeouts
from flaude.batch_file import Format, load
from flaude.cli.batch_argument import Source
from flaude.cli.carrying_out import Shown, carry_out
from flaude.cli.clocks import orphaned_after, usual_timeouts
from flaude.cli.on_this_computer import APP, is_scripted
from flaude.cli.options import (
    LIMITS,
    RUN,
    App,
    Budget,
    Claude,
    Flag,
    Json,
    Local,
    MaxConcurrency,
    OrphanAfter,
    OutputDir,
    Plain,
    RemoveShards,
    Shards,
)
from flaude.journal import SqliteJournal

_SCRIPTED = (
    "note: with --local the agent is a stand-in, which does what lines of the prompt say that begin with `::`, and "
    "nothing else; --claude installed runs this computer's Claude Code"
)
_WITH_A_FILE = "goes with -p alone; write it into the file"


async def run(
    file: Source | None = None,
    /,
    *,
    prompt: Annotated[tuple[str, ...], Parameter(name=["--prompt", "-p"], group=RUN)] = (),
    repo: Annotated[tuple[str, ...], Parameter(group=RUN)] = (),
    together: Annotated[bool, Parameter(group=RUN)] = False,
    tag: Annotated[str | None, Parameter(group=RUN)] = None,
    model: Annotated[str | None, Parameter(group=RUN)] = None,
    env: Annotated[tuple[str, ...], Parameter(group=RUN)] = (),
    github_token_env: Annotated[str | None, Parameter(group=RUN)] = None,
    collect: Annotated[tuple[str, ...], Parameter(group=RUN)] = (),
    transcript: Annotated[bool, Parameter(group=RUN)] = False,
    push_branch: Annotated[str | None, Parameter(group=RUN)] = None,
    image: Annotated[str | None, Parameter(group=RUN)] = None,
    region: Annotated[str | None, Parameter(group=RUN)] = None,
    vm_size: Annotated[str | None, Parameter(group=RUN)] = None,
    format: Annotated[Format | None, Parameter(group=RUN)] = None,  # noqa: A002  # the option's name
    max_turns: Annotated[int | None, Parameter(group=LIMITS)] = None,
    max_budget_usd: Annotated[float | None, Parameter(group=LIMITS, metavar="USD")] = None,
    budget: Budget = None,
    max_concurrency: MaxConcurrency = None,
    orphan_after: OrphanAfter = None,
    app: App = None,
    shards: Shards = None,
    remove_shards: RemoveShards = False,
    local: Local = False,
    claude: Claude = "scripted",
    output_dir: OutputDir = None,
    detach: Flag = False,
    json: Json = False,
    plain: Plain = False,
) -> int:
    """Run a batch and bring its work home.

    From a file:

        flaude run batch.yaml
        flaude run rows.csv -p "Translate {path} to Kotlin" --repo https://github.com/your-org/{repo}
        make-tasks | flaude run - --app my-app

    Or without one; each prompt runs in each repository:

        flaude run -p "Review this for security issues" --repo https://github.com/your-org/api --app my-app

    Exit code: 0 all succeeded, 1 some failed, 2 bad input, 3 leftovers (machines whose end Fly has not confirmed),
    130 interrupted, 143 terminated.

    Parameters
    ----------
    file
        The batch file: YAML, TOML, JSON, JSONL, or CSV with -p; `-` for standard input.
    prompt
        What the agent is asked; may be given several times.
    repo
        A repository to clone; may be given several times, for a run each.
    together
        All repositories in every run, instead of a run for each.
    tag
        Tag of the run; with several, what their tags begin with.
    model
        Claude Code's --model.
    env
        Environment of the agent: NAME=VALUE, or NAME for a secret that is taken from this environment.
    github_token_env
        The environment variable that has the token for private repositories and pushes.
    collect
        Files to bring back, as globs relative to the working folder; may be given several times.
    transcript
        Also bring back Claude Code's own record of each session.
    push_branch
        Branch to push the work to; {tag} in it is the run's tag.
    image
        Container image.
    region
        Fly region, such as iad; several with commas, of which Fly takes one that has room; or an alias, such as eu.
    vm_size
        Fly's machine size.
    format
        What the file is written in, where its name does not tell: yaml, toml, json, jsonl, csv.
    max_turns
        Claude Code's --max-turns.
    max_budget_usd
        Claude Code's --max-budget-usd, for each run.
    budget
        What all agents may cost together, in US dollars; every run needs a max_budget_usd then.
    max_concurrency
        How many machines may be alive at once.
    orphan_after
        How long machines work on, and keep their work, when nobody pulls them: 30m, 2h. Default: 1h; 24h with --detach.
    app
        The Fly app; else the file's, else FLY_APP.
    shards
        How many apps the machines are spread over, as Fly creates one per second and app: my-app, my-app-2 and so on.
        Extra apps are created if they are missing.
    remove_shards
        Delete the extra apps when the batch ends, except those that still have machines.
    local
        Run on this computer, without Fly; machines are local processes.
    claude
        With --local, which agent: `scripted` does what the lines of the prompt say that begin with `::`; `installed` is
        this computer's Claude Code.
    output_dir
        Where collected files go. Default: flaude-output.
    detach
        Exit once the agents are running; collect with `flaude resume`.
    json
        One JSON object a line on stdout: first `launch`, then events, at last `done`.
    plain
        One line a change, also on a terminal.
    """
    config = {
        "model": model,
        "max_turns": max_turns,
        "max_budget_usd": max_budget_usd,
        "env": env,
        "github_token": github_token_env,
        "collect": collect,
        "transcript": transcript,
        "push_branch": push_branch,
        "image": image,
        "region": region,
        "vm_size": vm_size,
    }
    if local and detach:
        raise ConfigError(
            "--detach: the machines of --local end with this command; start `flaude local serve`, put its two lines "
            "into the environment, and leave out --local"
        )
    usual = usual_timeouts(detach=detach)
    environ = {"FLY_APP": APP, **os.environ} if local else os.environ
    if file is not None:
        _refuse_config({**config, "together": together, "tag": tag})
        settings, requests, source = await _from_file(file, format, app, prompt, repo, usual, environ)
    else:
        settings, requests = _from_prompts(
            prompt, repo, config, app or environ.get("FLY_APP"), tag or "", together=together
        )
        settings, source = replace(settings, timeouts=usual), "-p"
    settings = replace(
        orphaned_after(settings, orphan_after),
        max_concurrency=settings.max_concurrency if max_concurrency is None else max_concurrency,
        budget_usd=settings.budget_usd if budget is None else budget,
        output_dir=settings.output_dir if output_dir is None else output_dir,
        shards=settings.shards if shards is None else shards,
        keep_shards=settings.keep_shards and not remove_shards,
    )
    if local:
        if claude == "scripted" and not all(is_scripted(request.config.prompt) for request in requests):
            print(_SCRIPTED, file=sys.stderr)
    else:
        for request in requests:
            credentials(request.config, os.environ)

    launched: list[BatchResult] = []

    async def work(executor: ConcurrentExecutor) -> BatchResult:
        if not detach:
            return await executor.run_batch(requests)
        launched.append(await executor.launch(requests))
        return launched[0]

    shown = Shown(json=json, plain=plain, local=local, claude=claude)
    repos = [spec.url for request in requests for spec in request.config.repo_specs]
    async with SqliteJournal() as journal:
        code = await carry_out(work, settings, repos, len(requests), shown, journal=journal, source=source)
    if launched and (left := len(requests) - launched[0].total):
        print(f"flaude: {left} of {len(requests)} runs are not over; bring their work home with", file=sys.stderr)
        print(f"flaude resume {launched[0].id}", file=sys.stderr)
    return code


async def _from_file(
    file: str,
    format_: Format | None,
    app: str | None,
    prompt: tuple[str, ...],
    repos: tuple[str, ...],
    timeouts: Timeouts,
    environ: Mapping[str, str],
) -> tuple[ExecutorSettings, Sequence[ExecutionRequest], str]:
    if len(prompt) > 1:
        raise ConfigError("--prompt: a CSV file has one prompt, for all of its rows")
    spec = await load(
        file,
        environ=environ,
        app=app,
        format=format_,
        prompt=prompt[0] if prompt else None,
        repos=repos,
        timeouts=timeouts,
    )
    return spec.settings, spec.requests, spec.source


def _refuse_config(given: dict[str, Any]) -> None:
    for name, value in given.items():
        if value:
            option = "github-token-env" if name == "github_token" else name.replace("_", "-")
            raise ConfigError(f"--{option}: {_WITH_A_FILE}")


def _from_prompts(
    prompts: tuple[str, ...],
    repos: tuple[str, ...],
    given: dict[str, Any],
    app: str | None,
    tag: str,
    *,
    together: bool,
) -> tuple[ExecutorSettings, list[ExecutionRequest]]:
    if not prompts:
        raise ConfigError("FILE: give a batch file, or a prompt with -p; `flaude run --help` shows both")
    if not app:
        raise ConfigError("--app: give the Fly app, or set FLY_APP; --local needs none")
    fields = _fields(given)
    groups = [repos] if together or not repos else [(one,) for one in repos]
    made, tags = list[MachineConfig](), list[str]()
    for number, prompt in enumerate(prompts, 1):
        for group in groups:
            made.append(MachineConfig(prompt=prompt, repos=list(group), **fields))
            parts = [tag, f"p{number}" if len(prompts) > 1 else "", *(map(slug, group) if len(groups) > 1 else ())]
            own = "-".join(filter(None, parts)) or "-".join(map(slug, group))
            tags.append(own or slug(" ".join(prompt.split()[:4])) or "run")
    requests = [ExecutionRequest(config, tag=name) for config, name in zip(made, numbered(tags), strict=True)]
    return ExecutorSettings(app), requests


def _fields(given: dict[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in given.items() if value not in (None, (), False)}
    if "env" in fields:
        fields["env"] = dict(_variable(text) for text in fields["env"])
    if "github_token" in fields:
        fields["github_token"] = _secret("--github-token-env", fields["github_token"])
    return fields


def _variable(text: str) -> tuple[str, str | EnvSecret]:
    name, equals, value = text.partition("=")
    return name, value if equals else _secret("--env", name)


def _secret(option: str, variable: str) -> EnvSecret:
    try:
        return EnvSecret(variable)
    except ConfigError as error:
        raise ConfigError(f"{option}: {error}") from None
