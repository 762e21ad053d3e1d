"""How long it takes to send a task to its machine: a long prompt goes in parts, at the pace of Fly's exec calls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from anyio import to_thread

from flaude._guest.inside.pad import PAD_BYTES
from flaude._guest.job_calls import calls_of_start, pack_job
from flaude._model.errors import ConfigError
from flaude._model.request import ExecutionRequest
from flaude._model.settings import ExecutorSettings
from flaude._providers.fly.connection import base_url
from flaude._providers.fly.exec_limits import ExecLimits
from flaude._providers.fly.pacing import EVERY_ACTION
from flaude._providers.fly.probe.saved import measured_limits
from flaude._run.job import build_job_message

_JOB_ID = "0" * 32


@dataclass(frozen=True)
class Upload:
    """The largest task.

    Attributes:
        tag: Its tag.
        characters: Length of its prompt.
        calls: How many calls it takes to send it.
        seconds: How long they take at Fly's pace, at the least.
    """

    tag: str
    characters: int
    calls: int
    seconds: float


async def largest_upload(
    settings: ExecutorSettings, requests: Sequence[ExecutionRequest], environ: Mapping[str, str]
) -> Upload | None:
    """What the largest task takes; None when every task fits into one call.

    By what was measured of Fly (`flaude doctor --live --save`), or else by what is believed.
    """
    limits = await to_thread.run_sync(_limits, environ)
    found: Upload | None = None
    for request in requests:
        calls = calls_of_start(_packed(settings, request), limits)
        if calls > (found.calls if found else 1):
            seconds = EVERY_ACTION.last_after_s(calls) / (settings.rate_limits or math.inf)
            found = Upload(request.tag, len(request.config.prompt), calls, seconds)
    return found


def _limits(environ: Mapping[str, str]) -> ExecLimits:
    with suppress(ConfigError):  # `flaude run` says what is wrong with the address
        return measured_limits(base_url(None, environ)) or ExecLimits()
    return ExecLimits()


def _packed(settings: ExecutorSettings, request: ExecutionRequest) -> str:
    message = build_job_message(
        request.config,
        job_id=_JOB_ID,
        run_s=settings.wait_timeout,
        timeouts=settings.timeouts,
        credentials={},  # those of Claude are short
        push_branch="",
    )
    return pack_job(message, bytes(PAD_BYTES))
