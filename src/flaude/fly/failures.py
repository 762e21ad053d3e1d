"""From an answer of Fly to an error of ours: the one place where they are translated."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx2

from flaude.errors import (
    FlyError,
    InvalidRequestError,
    NameTakenError,
    NoCapacityError,
    NotAllowedError,
    NotFoundError,
    NotReadyError,
    RateLimitedError,
    UnreachableError,
)

_HOLDER = re.compile(r"machine ID (?P<id>[0-9A-Za-z]+) already exists with name")
_NO_CAPACITY_TEXTS = (
    "could not reserve resource for machine",
    "insufficient resources",
    "insufficient ips",
    "insufficient memory",
    "insufficient cpus",
    "no capacity",
    "deploys to this host are temporarily disabled",
)
_LONGEST_TEXT = 500


def failure(response: httpx2.Response, path: str) -> FlyError:
    """The error that an answer outside 2xx means. Capacity rules and texts: Fly's Go client and its tests."""
    text, code = _texts(response)
    status = response.status_code
    kind, message = _classify(status, text.lower(), code, path)
    where: dict[str, Any] = {
        "method": response.request.method,
        "path": path,
        "status": status,
        "fly_text": text,
        "request_id": response.headers.get("fly-request-id", ""),
    }
    message = f"{message}: {text}" if text else message
    if kind is NameTakenError:
        holder = _HOLDER.search(text)
        return NameTakenError(message, machine_id=holder["id"] if holder else None, **where)
    error = kind(message, **where)
    if isinstance(error, RateLimitedError):
        asked = response.headers.get("retry-after", "")
        error.retry_after_s = float(asked) if asked.isdecimal() else None
    return error


def _classify(status: int, text: str, code: str, path: str) -> tuple[type[FlyError], str]:
    if code in ("insufficient_capacity", "volume_placement_capacity"):
        return NoCapacityError, "Fly has no room for this machine now; try another region or a smaller size"
    if code == "name_taken" or "already been taken" in text or "unique machine name violation" in text:
        return NameTakenError, "the name is taken"
    if status == 409 and any(words in text for words in _NO_CAPACITY_TEXTS):
        return NoCapacityError, "Fly has no room for this machine now; try another region or a smaller size"
    match status:
        case 401:
            return NotAllowedError, "Fly refused the token; check token= or FLY_API_TOKEN"
        case 403:
            return NotAllowedError, "the token may not do this; it needs one for this app's organisation"
        case 404 if "/machines" not in path or "could not find app" in text:
            return NotFoundError, "no such app; make it with flaude.ensure_app(name), or correct the name"
        case 404:
            return NotFoundError, "no such machine"
        case 429:
            return RateLimitedError, "Fly's rate limit is exceeded"
        case 409 | 412 | 423:
            return NotReadyError, "the machine's state does not allow this now"
        case 408:
            return UnreachableError, "Fly gave up waiting for the machine's host"
        case _ if 400 <= status < 500:
            return InvalidRequestError, "Fly refused the request as invalid"
        case _:
            return UnreachableError, "Fly failed to answer"


def _texts(response: httpx2.Response) -> tuple[str, str]:
    """Fly's error text, and its code where it gives one; the body may be empty or no JSON."""
    try:
        body = json.loads(response.content)
    except ValueError:
        return response.text.strip()[:_LONGEST_TEXT], ""
    if not isinstance(body, dict):
        return str(body)[:_LONGEST_TEXT], ""
    text = body.get("message") or body.get("error") or ""
    code = body.get("status")
    return str(text)[:_LONGEST_TEXT], code if isinstance(code, str) else ""
