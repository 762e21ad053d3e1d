"""What a journal knows of a batch, as what a controller needs to go on with it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from flaude.errors import ConfigError, JournalError
from flaude.harvest import Harvest, load_harvest
from flaude.journal.entries import RunEntry
from flaude.journal.protocol import Journal
from flaude.left_run import LeftRun, left_run
from flaude.past import Past
from flaude.recorded import read_batch
from flaude.recording import attempt_file, harvest_file
from flaude.request import ExecutionRequest
from flaude.request_json import dump_request, load_request
from flaude.results import ExecutionResult
from flaude.run_result import RunResult


async def resumption(
    journal: Journal,
    batch: str,
    environ: Mapping[str, str],
    *,
    given: Mapping[int, ExecutionRequest] | None = None,
    only: Collection[int] | None = None,
) -> tuple[Past, dict[int, ExecutionRequest]]:
    """Read a batch, which should be held.

    Args:
        journal: An open journal.
        batch: The batch's id.
        environ: Where secrets are taken from again.
        given: The batch's requests, by their index; those of the journal when left out.
        only: The runs to take up; all open ones when left out.

    Returns:
        What happened before, and the requests that are open, by their index.

    Raises:
        ConfigError: A secret is not to be had; the message names the run, the field and the variable.
        JournalError: Something cannot be read.
    """
    recorded = await read_batch(journal, batch)
    entries = [run.entry for run in recorded.runs]
    finished, left, requests = dict[int, ExecutionResult](), dict[int, LeftRun](), dict[int, ExecutionRequest]()
    for entry in entries:
        if (result := await recorded.result(entry.index)) is not None:
            finished[entry.index] = result
        elif only is None or entry.index in only:
            requests[entry.index] = _request(entry, environ, given)
            if entry.checkpoint is not None:
                left[entry.index] = await _left(journal, batch, entry)
    by_index = {entry.index: entry for entry in entries}
    spent = [_spent(result, by_index[index].request) for index, result in finished.items()]
    spent += [attempt.cost_usd or 0.0 for one in left.values() for attempt in one.earlier]
    seconds = sum(result.machine_seconds for result in finished.values())
    seconds += sum(attempt.machine_seconds for one in left.values() for attempt in one.earlier)
    past = Past(batch, only is not None, finished, left, sum(spent), seconds)
    return past, requests


async def _left(journal: Journal, batch: str, entry: RunEntry) -> LeftRun:
    kept = entry.checkpoint or {}
    harvest = await _harvest(journal, batch, harvest_file(entry.index, kept["attempt"]))
    superseded = []
    for number in range(1, kept["attempt"]):
        content = await journal.get(batch, attempt_file(entry.index, number))
        superseded += [RunResult.model_validate_json(content)] if content else []
    return left_run(kept, harvest, tuple(superseded))


async def _harvest(journal: Journal, batch: str, name: str) -> Harvest | None:
    content = await journal.get(batch, name)
    return None if content is None else load_harvest(_json(content, batch, name))


def _request(
    entry: RunEntry, environ: Mapping[str, str], given: Mapping[int, ExecutionRequest] | None
) -> ExecutionRequest:
    if given is None:
        try:
            return load_request(entry.request, environ)
        except ConfigError as error:
            raise ConfigError(f"{entry.tag or entry.index}: {error}") from None
    request = given.get(entry.index)
    if request is None or _text(dump_request(request)) != _text(entry.request):
        raise ConfigError(f"requests[{entry.index}]: is not what the batch was begun with; give the same requests")
    return request


def _spent(result: ExecutionResult, request: Mapping[str, Any]) -> float:
    """What a run has cost; what is not known, with all that it might have been."""
    most = request["config"].get("max_budget_usd") or 0.0
    return sum(
        attempt.cost_usd if attempt.cost_usd is not None else most if attempt.agent_started else 0.0
        for attempt in result.attempts
    )


def _json(content: bytes, batch: str, name: str) -> Any:
    try:
        return json.loads(content.decode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise JournalError(f"batch {batch}: {name} is damaged: {error}") from error


def _text(request: Mapping[str, Any]) -> str:
    return json.dumps(request["config"], sort_keys=True)
