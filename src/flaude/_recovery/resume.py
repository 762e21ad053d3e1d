"""What a journal knows of a batch, as what a controller needs to go on with it."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio.to_thread

from flaude._model.codec import dump_request, load_request
from flaude._model.errors import ConfigError, JournalError
from flaude._model.request import ExecutionRequest
from flaude._model.results import ExecutionResult
from flaude._model.run_result import Attempt, RunResult
from flaude._offload import offload
from flaude._recovery.file_names import attempt_file, collected_file
from flaude._recovery.records import BatchRecord, RunRecord, read_batch
from flaude._run.checkpoint import Checkpoint, CollectedWork, load_checkpoint, load_collected
from flaude.journal.entries import RunEntry
from flaude.journal.protocol import Journal

_log = logging.getLogger("flaude.journal")


async def load_progress(
    journal: Journal,
    batch: str,
    environ: Mapping[str, str],
    *,
    given: Mapping[int, ExecutionRequest] | None = None,
    only: Collection[int] | None = None,
) -> tuple[PriorProgress, dict[int, ExecutionRequest]]:
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
        ConfigError: A secret is not to be had, `given` is not what the batch was begun with, or `only` names a run that
            it does not have; the message names the run, the field and the variable.
        JournalError: Something cannot be read.
    """
    recorded = await read_batch(journal, batch)
    if given is not None and len(given) != len(recorded.runs):
        raise ConfigError(f"requests: are {len(given)}, and the batch was begun with {len(recorded.runs)}")
    for index in only or ():
        if index not in range(len(recorded.runs)):
            raise ConfigError(f"only: batch {batch} has runs 0 to {len(recorded.runs) - 1}, not {index!r}")
    still_open = [run for run in recorded.runs if not run.is_over]
    open_ = [run for run in still_open if only is None or run.index in only]
    requests = await anyio.to_thread.run_sync(_requests, open_, environ, given)
    finished, left = dict[int, ExecutionResult](), dict[int, Checkpoint]()
    spent_usd = machine_s = 0.0
    for run in recorded.runs:
        entry, most_usd = run.entry, run.entry.request["config"].get("max_budget_usd") or 0.0
        if run.is_over:
            result = finished[run.index] = await _result(recorded, run)
            spent_usd += _spent(result.attempts, most_usd)
            machine_s += result.machine_seconds
            continue
        if entry.checkpoint is None:
            continue
        one = await _left(journal, batch, entry)
        spent_usd += _spent(one.earlier, most_usd)
        if run.index in requests:
            left[run.index] = one  # the machine seconds of its earlier attempts are counted with it
        else:
            spent_usd += most_usd  # it may be at work
            machine_s += sum(attempt.machine_seconds for attempt in one.earlier)
    return PriorProgress(batch, len(open_) < len(still_open), finished, left, spent_usd, machine_s), requests


async def _result(recorded: BatchRecord, run: RunRecord) -> ExecutionResult:
    """What a run came to; where the file is gone, it says that: the other runs have machines that wait for us."""
    try:
        result = await recorded.result(run.index)
    except JournalError as error:
        return ExecutionResult(tag=run.tag, error=error)
    assert result is not None  # noqa: S101  # who calls has looked
    return result


async def _left(journal: Journal, batch: str, entry: RunEntry) -> Checkpoint:
    kept = entry.checkpoint or {}
    try:
        name = collected_file(entry.index, kept["attempt"])
        content = await journal.get(batch, name)
        collected = None if content is None else await offload(len(content), _collected, batch, name, content)
        superseded = [
            await offload(len(content), RunResult.model_validate_json, content)
            for number in range(1, kept["attempt"])
            if (content := await journal.get(batch, attempt_file(entry.index, number)))
        ]
        return load_checkpoint(kept, collected, tuple(superseded))
    except (KeyError, TypeError, ValueError) as error:
        raise _unknown(entry, "what is kept of it", error) from error


def _collected(batch: str, name: str, content: bytes) -> CollectedWork | None:
    try:
        kept = json.loads(content.decode("utf-8", "surrogatepass"))
    except ValueError as error:
        # As if it had not been written: the machine may still have it all.
        _log.error("batch %s: %s is damaged, and left out: %s", batch, name, error)
        return None
    return load_collected(kept)


def _requests(
    runs: Iterable[RunRecord], environ: Mapping[str, str], given: Mapping[int, ExecutionRequest] | None
) -> dict[int, ExecutionRequest]:
    return {run.index: _request(run.entry, environ, given) for run in runs}


def _request(
    entry: RunEntry, environ: Mapping[str, str], given: Mapping[int, ExecutionRequest] | None
) -> ExecutionRequest:
    if given is None:
        try:
            return load_request(entry.request, environ)
        except ConfigError as error:
            raise ConfigError(f"{entry.tag or entry.index}: {error}") from None
        except (KeyError, TypeError, ValueError) as error:
            raise _unknown(entry, "its request", error) from error
    request = given.get(entry.index)
    if request is None or _what(dump_request(request)) != _what(entry.request):
        raise ConfigError(f"requests[{entry.index}]: is not what the batch was begun with; give the same requests")
    return request


def _unknown(entry: RunEntry, what: str, error: Exception) -> JournalError:
    told = f"{type(error).__name__}: {error}"
    return JournalError(
        f"run {entry.tag or entry.index}: {what} cannot be read; was it written by another flaude? ({told})"
    )


def _spent(attempts: Iterable[Attempt], most_usd: float) -> float:
    """What attempts have cost; what is not known, with all that it might have been."""
    return sum(
        attempt.cost_usd if attempt.cost_usd is not None else most_usd if attempt.agent_started else 0.0
        for attempt in attempts
    )


def _what(request: Mapping[str, Any]) -> Any:
    """What must be the same: all but the secrets. As it comes back from JSON, in which keys are texts."""
    return json.loads(json.dumps({name: request[name] for name in ("config", "name", "tag")}))


def new_batch_id() -> str:
    """An id that no other batch has; it is in the names of the machines."""
    return secrets.token_hex(5)


@dataclass(frozen=True)
class PriorProgress:
    """What has happened to a batch before.

    Attributes:
        id: The batch's id.
        partly: Whether only some of its open runs are taken up.
        finished: The results of runs that are over, by their index.
        left: Where other runs were left, by their index.
        spent_usd: What agents that are no longer under way have cost, in US dollars; what is not known, with all that
            it might have been.
        machine_seconds: How long machines that are gone have been there, in seconds.
    """

    id: str = field(default_factory=new_batch_id)
    partly: bool = False
    finished: Mapping[int, ExecutionResult] = field(default_factory=dict)
    left: Mapping[int, Checkpoint] = field(default_factory=dict)
    spent_usd: float = 0.0
    machine_seconds: float = 0.0
