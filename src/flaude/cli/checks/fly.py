"""Whether Fly can be reached, and lets us in; nothing is changed by it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import anyio

from flaude._model.errors import ConfigError, FlyError, NotFoundError, NoTokenError, UnreachableError
from flaude._model.placement import check_app_name
from flaude._providers.fly import FlyClient
from flaude._providers.fly.connection import base_url
from flaude._providers.fly.machine_limit import LIMIT_IN_WORDS, SMALLEST_LIMIT, Counted, count_machines
from flaude._providers.http import Http, NoAnswerError
from flaude.cli.checks.this_computer import Check, Verdict

_log = logging.getLogger(__name__)

WITHIN_S = 5.0
_COUNT_S = 2.0
_MOST_SKEW_S = 60.0


async def api_and_clock(environ: Mapping[str, str]) -> list[Check]:
    """Whether anything answers, and whether its clock and ours agree."""
    try:
        url = base_url(None, environ)
    except ConfigError as error:
        fix = "correct FLY_FLAPS_BASE_URL or FLY_API_HOSTNAME, or unset it"
        return [Check("fly api", Verdict.WRONG, str(error), fix)]
    try:
        async with Http(url) as http:
            before = datetime.now(UTC)
            # Any answer will do, also that a token is missing.
            answer = await http.request("GET", "/v1/apps", connect_s=WITHIN_S, answer_s=WITHIN_S)
            after = datetime.now(UTC)
    except NoAnswerError as error:
        told = f"no answer from {url}: {error}"
        fix = "look at the network, a proxy (HTTPS_PROXY), or FLY_FLAPS_BASE_URL"
        return [Check("fly api", Verdict.WRONG, told, fix)]
    except ConfigError as error:
        return [Check("fly api", Verdict.WRONG, str(error), "correct HTTPS_PROXY or ALL_PROXY, or unset it")]
    took_ms = (after - before).total_seconds() * 1000
    reached = Check("fly api", Verdict.RIGHT, f"{url} answers within {took_ms:.0f} ms")
    return [reached, _clock(answer.headers.get("date", ""), before + (after - before) / 2)]


def _clock(told: str, ours: datetime) -> Check:
    try:
        theirs = parsedate_to_datetime(told)
    except ValueError:
        return Check("clock", Verdict.NOTE, "the API does not say what time it is")
    skew_s = (ours - theirs).total_seconds()
    if abs(skew_s) <= _MOST_SKEW_S:
        return Check("clock", Verdict.RIGHT, f"agrees with the API's within {_MOST_SKEW_S:.0f} s")
    where = "ahead of" if skew_s > 0 else "behind"
    return Check("clock", Verdict.WRONG, f"{abs(skew_s):.0f} s {where} the API's", "set this computer's clock")


async def app(name: str | None) -> list[Check]:
    """Whether the app is there, and the token may use it; whether its machines are counted says nothing of that."""
    if not name:
        return [Check("app", Verdict.NOTE, "none is named", "give --app or set FLY_APP to have it looked at")]
    counted: Counted | None = None
    count_until = anyio.current_time() + 0.9 * WITHIN_S  # later nothing of all this would be told
    try:
        check_app_name(name)
        async with FlyClient(timeout_s=WITHIN_S, retry_for_s=0) as client:
            known = await client.get_app(name)
            machines = await client.list_machines(name)
            with anyio.move_on_after(min(_COUNT_S, count_until - anyio.current_time())):
                counted = await count_machines(client, known)
    except NoTokenError:
        return [Check("app", Verdict.NOTE, f"{name} could not be asked for: there is no Fly token")]
    except NotFoundError:
        fix = f"flaude app create {name}"
        return [Check("app", Verdict.WRONG, f"there is no app {name}, or the token may not see it", fix)]
    except UnreachableError as error:
        return [Check("app", Verdict.WRONG, f"{name} could not be asked for: {error}", "see `fly api`")]
    except (FlyError, ConfigError) as error:
        return [Check("app", Verdict.WRONG, str(error), f"`fly tokens create deploy -a {name}` makes a token for it")]
    told = f"{name} is there, and the token may use it; machines now: {len(machines)}"
    return [Check("app", Verdict.RIGHT, told), _machine_limit(counted)]


def _machine_limit(counted: Counted | None) -> Check:
    """How much of the organisation's limit may be used up; its number is Fly's secret."""
    if counted is None:
        return Check("machine limit", Verdict.NOTE, f"the machines could not be counted in time; {LIMIT_IN_WORDS}")
    told = f"machines now in {counted.where}: {counted.machines}; {LIMIT_IN_WORDS}"
    if counted.machines < SMALLEST_LIMIT:
        return Check("machine limit", Verdict.RIGHT, told)
    fix = "delete what is not needed (`flaude reap`, `fly apps list`): at the limit a batch waits for places"
    return Check("machine limit", Verdict.NOTE, told, fix)


async def limit_note(app_name: str, at_once: int) -> str:
    """A note for a batch that may exceed the organisation's machine limit, counting existing machines; else empty.

    Args:
        app_name: The batch's app.
        at_once: How many machines the batch may have at the same time.
    """
    counted: Counted | None = None
    try:
        with anyio.move_on_after(WITHIN_S):
            async with FlyClient(timeout_s=WITHIN_S, retry_for_s=0) as client:
                counted = await count_machines(client, await client.get_app(app_name))
    except (FlyError, ConfigError) as error:
        _log.debug("machines could not be counted: %s", error)  # the check needs no token and no network
    there = counted.machines if counted else 0
    if at_once + there <= SMALLEST_LIMIT:
        return ""
    existing = f" next to the {there} that exist in {counted.where}" if counted and there else ""
    machines = "1 machine" if at_once == 1 else f"{at_once} machines"
    return f"up to {machines} at once{existing}: {LIMIT_IN_WORDS}; at the limit runs wait for places"
