"""From an answer of Fly to an error of ours: the one place where they are translated."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from flaude._model.errors import (
    FlyError,
    InvalidRequestError,
    MachineLimitError,
    NameTakenError,
    NoCapacityError,
    NotAllowedError,
    NotFoundError,
    NotReadyError,
    PayloadTooLargeError,
    RateLimitedError,
    UnreachableError,
)
from flaude._providers.fly.young_apps import denies_the_app
from flaude._providers.http import Answer

_HOLDER = re.compile(r"machine ID (?P<id>[0-9A-Za-z]+) already exists with name")
# The first is what Fly's Go client knows, and was seen live; the second is Fly's word on the names of apps; the third
# that of a race for one; the last, with 422 for a machine's name, is what a public client believes.
_NAME_TAKEN_TEXTS = (
    "unique machine name violation",
    "already been taken",
    "uniqueness constraint violated",
    "already taken",
)
_NO_CAPACITY_CODES = ("insufficient_capacity", "volume_placement_capacity")
_NO_CAPACITY_TEXTS = (
    "could not reserve resource for machine",
    "insufficient resources",
    "insufficient ips",
    "insufficient memory",
    "insufficient cpus",
    "no capacity",
    "deploys to this host are temporarily disabled",
)
# A create's config has a size limit (Fly docs, `fly machine run`), whose words are not known; others saw these.
_TOO_LARGE_TEXTS = ("size limit", "too large", "payloadtoolarge", "exceeds the maximum size")
_NO_IMAGE_TEXT = "failed to get manifest"  # seen by users of `fly`, with the registry's reason; no status is known
_BILLING = "add a payment method at https://fly.io/dashboard/ORG/billing"
_SMALL = "choose vm_size shared-cpu-2x, with vm_memory_mb up to 4096"
# What an account without a payment method may not have. Of the first the text is known, and no status: `To create more
# than 1 machine per app please add a payment method. https://fly.io/dashboard/…/billing` (flyctl PR 2060,
# django-simple-deploy#243). Of the others only that there are such limits (Fly docs, about/free-trial): the words count
# where they stand alone, as in no name.
_ACCOUNT_TEXTS = (
    (re.compile("payment method"), f"Fly wants a payment method for this; {_BILLING}"),
    (
        re.compile(r"(?<![\w/.\"'-])performance(-\d+x)?(?![\w/-])"),
        f"Fly gives this organisation no performance CPUs, as to any trial account; {_SMALL}, or {_BILLING}",
    ),
    (
        re.compile(r"(?<![\w/.\"'-])trial(?![\w/-])"),
        f"a limit of Fly's free trial (10 machines of 2 shared CPUs and 4 GB, for 5 minutes); {_SMALL}, or {_BILLING}",
    ),
)
_ACCOUNT_STATUSES = (402, 403, 422)
_MACHINE_LIMIT_TEXT = "machine limit"  # 422, "Your organization has reached its machine limit. Please contact …"
_NO_REGION = re.compile(r"\bregions?\b.*(not found|invalid|unknown|unsupported|not (exist|available))|invalid region")
_MACHINE_PATH = re.compile(r"/apps/[^/]+/machines/.")
_NO_APP = "no such app; make it with flaude.ensure_app(name), or correct the name"
_LONGEST_TEXT = 500


def failure(answer: Answer, method: str, path: str, redact: Callable[[str], str]) -> FlyError:
    """The error that an answer outside 2xx means.

    Args:
        answer: The answer.
        method: HTTP method.
        path: URL path with query, without `/v1`.
        redact: Takes the token out of a text: a gateway on the way may show us our own headers.
    """
    text, code = _texts(answer)
    text = redact(text)[:_LONGEST_TEXT]
    status = answer.status
    kind, message = _classify(status, text.lower(), code, path)
    denies_app = message == _NO_APP
    where: dict[str, Any] = {
        "method": method,
        "path": path,
        "status": status,
        "fly_text": text,
        "request_id": answer.headers.get("fly-request-id", ""),
    }
    message = f"{message}: {text}" if text else message
    if kind is NameTakenError:
        holder = _HOLDER.search(text)
        return NameTakenError(message, machine_id=holder["id"] if holder else None, **where)
    error = kind(message, **where)
    if isinstance(error, NotFoundError):
        error.denies_app = denies_app
    if isinstance(error, RateLimitedError):
        asked = answer.headers.get("retry-after", "").strip()
        # Whole seconds only: Fly documents no form, and a date would need clocks that agree.
        error.retry_after_s = float(asked) if re.fullmatch("[0-9]{1,9}", asked) else None
    return error


def _classify(status: int, text: str, code: str, path: str) -> tuple[type[FlyError], str]:
    if 400 <= status < 500 and _MACHINE_LIMIT_TEXT in text:
        return MachineLimitError, "the organisation has as many machines as it may have; stopped ones count too"
    if _is_capacity(status, text, code):
        return NoCapacityError, "Fly has no room for this machine now; try another region or a smaller size"
    if status in (409, 422) and (code == "name_taken" or any(words in text for words in _NAME_TAKEN_TEXTS)):
        return NameTakenError, "the name is taken"
    if status == 413 or (status in (400, 422) and any(words in text for words in _TOO_LARGE_TEXTS)):
        return PayloadTooLargeError, "Fly refused the request as too large"
    if status in _ACCOUNT_STATUSES:
        for words, told in _ACCOUNT_TEXTS:
            if words.search(text):
                return InvalidRequestError, told
    if denies_the_app(status, text):
        return NotFoundError, _NO_APP
    if 400 <= status < 500 and _NO_IMAGE_TEXT in text:
        return InvalidRequestError, "Fly did not get the image; check image= and that Fly may read it"
    match status:
        case 401:
            return NotAllowedError, "Fly refused the token; check token= or FLY_API_TOKEN"
        case 403:
            return NotAllowedError, "the token may not do this; it needs one for this app's organisation"
        case 404 if not _MACHINE_PATH.match(path):
            return NotFoundError, _NO_APP
        case 404:
            return NotFoundError, "no such machine"
        case 429:
            return RateLimitedError, "Fly's rate limit is exceeded"
        case 409 | 412 | 423:
            return NotReadyError, "the machine's state does not allow this now"
        case 408:
            return UnreachableError, "Fly gave up waiting for the machine's host"
        case 400 | 422 if _NO_REGION.search(text):  # Fly's own words are not known
            return InvalidRequestError, "region: Fly refuses this region; correct `region` (`fly platform regions`)"
        case _ if 400 <= status < 500:
            return InvalidRequestError, "Fly refused the request as invalid"
        case _ if status < 400:
            return UnreachableError, "a redirect, which Fly's API never sends; check base_url= or FLY_FLAPS_BASE_URL"
        case _:
            return UnreachableError, "Fly failed to answer"


def _is_capacity(status: int, text: str, code: str) -> bool:
    """As the tests of Fly's own Go client have it: the code outranks the text, and a text counts with 409 alone."""
    if status == 500:
        return False
    if code:
        return code in _NO_CAPACITY_CODES
    return status == 409 and any(words in text for words in _NO_CAPACITY_TEXTS)


def _texts(answer: Answer) -> tuple[str, str]:
    """Fly's error text, and its code where it gives one; the body may be empty or no JSON."""
    try:
        body = json.loads(answer.content)
    except (ValueError, RecursionError):
        return answer.content.decode(errors="replace").strip(), ""
    if not isinstance(body, dict):
        return str(body), ""
    text = body.get("message") or body.get("error") or ""
    code = body.get("status")
    return str(text), code if isinstance(code, str) else ""
