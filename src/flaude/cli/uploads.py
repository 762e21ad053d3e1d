"""How long it takes to send a task to its machine: a long prompt goes in parts, at the pace of Fly's exec calls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flaude.fly.exec_limits import FIRST_BODY_BYTES
from flaude.fly.pacing import EVERY_ACTION
from flaude.guest.packing import pack_request
from flaude.job import job
from flaude.request import ExecutionRequest
from flaude.settings import ExecutorSettings

_AROUND_BYTES = 300
"""Bytes of an exec's body that are not the request itself."""

_SHORT = 4096
"""A prompt of so many characters fits into one call."""


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


def largest_upload(settings: ExecutorSettings, requests: Sequence[ExecutionRequest]) -> Upload | None:
    """What the largest task takes; None when every task fits into one call."""
    found: Upload | None = None
    for request in requests:
        calls = _calls(settings, request)
        if calls > (found.calls if found else 1):
            seconds = EVERY_ACTION.last_after_s(calls) / (settings.rate_limits or math.inf)
            found = Upload(request.tag, len(request.config.prompt), calls, seconds)
    return found


def _calls(settings: ExecutorSettings, request: ExecutionRequest) -> int:
    config = request.config
    long = (config.prompt, config.append_system_prompt, *map(str, (config.mcp_config, config.json_schema)))
    if sum(map(len, filter(None, long))) <= _SHORT:
        return 1
    message = job(
        config, job_id="", run_s=settings.wait_timeout, timeouts=settings.timeouts, credentials={}, push_branch=""
    )
    parts = math.ceil(len(pack_request(message)) / (FIRST_BODY_BYTES - _AROUND_BYTES))
    return parts if parts == 1 else parts + 1
