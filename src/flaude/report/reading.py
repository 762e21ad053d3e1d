"""From requests, results and events to what a report is made of. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pydantic import SecretStr

from flaude._model.config import MachineConfig
from flaude._model.errors import ConfigError
from flaude._model.machine_sizes import DEFAULT_VM_SIZE, machine_size
from flaude._model.request import ExecutionRequest
from flaude._model.results import BatchResult, ExecutionResult
from flaude.events import Event
from flaude.report.data import ReportData, ReportRun

_GB = 1024
_SHORTEST_SECRET = 8


def run_of(
    index: int,
    tag: str,
    request: Mapping[str, Any] | None,
    *,
    phase: str = "",
    result: ExecutionResult | None = None,
    events: Sequence[Event] = (),
) -> ReportRun:
    """A run of a report.

    Args:
        index: See `ReportRun`; so are `tag`, `phase`, `result` and `events`.
        tag: See above.
        request: Its request as `dump_request` keeps it, which is without secrets; `None` when it is not known.
        phase: See above.
        result: See above.
        events: See above.
    """
    config: Mapping[str, Any] = request["config"] if request else {}
    return ReportRun(
        index=index,
        tag=tag,
        prompt=config.get("prompt", ""),
        repos=tuple(_repo(repo) for repo in config.get("repos", ())),
        model=config.get("model") or "",
        machine=_machine(config) if request else "",
        phase=phase,
        result=result,
        events=events,
    )


def _repo(repo: Mapping[str, str]) -> str:
    return f"{repo['url']} at {repo['branch']}" if repo.get("branch") else repo["url"]


def _machine(config: Mapping[str, Any]) -> str:
    size: str = config.get("vm_size", DEFAULT_VM_SIZE)
    try:
        machine = machine_size(size, config.get("vm_cpus"), config.get("vm_memory_mb"))
    except ConfigError:  # a size that Fly had when this was kept
        return size
    memory = f"{machine.memory_mb / _GB:g} GB" if machine.memory_mb >= _GB else f"{machine.memory_mb} MB"
    return f"{size}, {machine.cpus} CPU{'' if machine.cpus == 1 else 's'}, {memory}"


def report_of(
    batch: BatchResult,
    *,
    requests: Iterable[ExecutionRequest] = (),
    events: Iterable[Event] = (),
    app: str = "",
    made: datetime | None = None,
) -> ReportData:
    """The report's data of a batch that this program has run.

    Args:
        batch: What it came to.
        requests: What was asked for, in the same order; without them there are no prompts.
        events: All that `on_event` or the stream was given; without them there are no transcripts.
        app: The Fly app.
        made: When the report is made, in UTC.

    Raises:
        ConfigError: The events are of several batches.
    """
    told = _by_run(events)
    ids = {event.batch for events in told.values() for event in events}
    if len(ids) > 1:
        raise ConfigError(f"events: are of {len(ids)} batches; give those of the one that this report is of")
    asked = _asked(batch, [*requests])
    runs = tuple(
        run_of(
            index,
            result.tag,
            _kept(request) if request else None,
            result=result,
            events=told.get(index, ()),
        )
        for index, (result, request) in enumerate(zip(batch.results, asked, strict=True))
    )
    began = _began(runs)
    return ReportData(
        runs=runs,
        id="".join(ids),
        app=app,
        began=began,
        ended=began + timedelta(seconds=batch.seconds) if began and batch.seconds else None,
        stopped_by=batch.stopped_by,
        made=made,
    )


def _kept(request: ExecutionRequest) -> dict[str, Any]:
    """What a report shows of a request, as `dump_request` writes it; that one refuses what a report can do without."""
    config = request.config
    repos = [{"url": repo.url, "branch": repo.branch} for repo in config.repo_specs]
    machine = {name: getattr(config, name) for name in ("model", "vm_size", "vm_cpus", "vm_memory_mb")}
    return {"config": {"prompt": _without_secrets(config.prompt, config), "repos": repos, **machine}}


def _without_secrets(text: str, config: MachineConfig) -> str:
    """A prompt may name what is a secret elsewhere; so short a one that any text may hold it is none."""
    values = [getattr(config, name) for name in config.model_fields_set] + list(config.env.values())
    secrets = {value.get_secret_value() for value in values if isinstance(value, SecretStr)}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "[redacted]")
    return text


def _by_run(events: Iterable[Event]) -> dict[int, list[Event]]:
    found: dict[int, list[Event]] = {}
    for event in events:
        found.setdefault(event.index, []).append(event)
    return found


def _asked(batch: BatchResult, requests: list[ExecutionRequest]) -> list[ExecutionRequest | None]:
    """The request of each result. A batch that was broken off has fewer results: there, the tags must tell."""
    if len(requests) == batch.total:
        return [*requests]
    tags = Counter(request.tag for request in requests)
    by_tag = {request.tag: request for request in requests if tags[request.tag] == 1}
    return [by_tag.get(result.tag) for result in batch.results]


def _began(runs: Iterable[ReportRun]) -> datetime | None:
    times = [attempt.times for run in runs if run.result for attempt in run.result.attempts]
    known = [at for one in times for at in (one.queued, one.create) if at is not None]
    return min([*known, *(event.at for run in runs for event in run.events[:1])], default=None)
