"""Machines of all apps of an organization, and what the token may."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flaude.local import replies
from flaude.local.machine import Machine
from flaude.local.replies import Reply
from flaude.local.request import Call

_MOST = 1000
_IN_OVERVIEW = ("guest", "image", "metadata")


async def current_token(call: Call) -> Reply:
    """`GET /v1/tokens/current`: one token, for the apps of one organization; of no person and no machine."""
    return Reply(
        200,
        {
            "tokens": [
                {
                    "token_id": "local",
                    "organization": "1",
                    "org_slug": "personal",
                    "apps": [app.name for app in call.world.apps("personal")],
                }
            ]
        },
    )


async def machines(call: Call) -> Reply:
    """`GET /v1/orgs/SLUG/machines`: oldest change first, at most `limit` at once; `cursor` goes on after these."""
    states, regions = call.words("state"), call.words("region")
    after, limit = _after(call), _limit(call)
    found = sorted(
        (
            machine
            for app in call.world.apps(call.params["org"])
            for machine in call.world.machines(app.name)
            if _key(machine) > after
            and (machine.state != "destroyed" or call.flag("include_deleted"))
            and (not states or machine.state in states)
            and (not regions or machine.region in regions)
        ),
        key=_key,
    )
    page = found[:limit]
    answer: dict[str, Any] = {"machines": [_shown(machine, summary=call.flag("summary")) for machine in page]}
    if page:
        answer |= {"last_machine_id": page[-1].id, "last_updated_at": page[-1].updated_at}
    if len(found) > limit:
        answer["next_cursor"] = "/".join(_key(page[-1]))
    return Reply(200, answer)


def _key(machine: Machine) -> tuple[str, str]:
    return machine.updated_at, machine.id


def _after(call: Call) -> tuple[str, str]:
    if cursor := call.query.get("cursor", ("",))[-1]:
        updated_at, _, machine_id = cursor.partition("/")
        return updated_at, machine_id
    wanted = call.query.get("updated_after", ("",))[-1]
    if not wanted:
        return "", ""
    try:
        moment = datetime.fromisoformat(wanted).astimezone(UTC)
    except ValueError as error:
        raise replies.invalid("invalid_argument: updated_after is not a time of RFC 3339") from error
    # Later than all machines of that very moment.
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"), "~"


def _limit(call: Call) -> int:
    limit = call.query.get("limit", (str(_MOST),))[-1]
    if not limit.isdigit() or not int(limit):
        raise replies.invalid("invalid_argument: limit is not a number")
    return min(int(limit), _MOST)


def _shown(machine: Machine, *, summary: bool) -> dict[str, Any]:
    about = {key: value for key, value in machine.shown(summary=True).items() if key != "image_ref"}
    config = {key: machine.config[key] for key in _IN_OVERVIEW if key in machine.config}
    return {**about, "app_name": machine.app, **({} if summary else {"config": config})}
