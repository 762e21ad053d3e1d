"""Apps: create, get, list, delete."""

from __future__ import annotations

import re
import time

from flaude.local import replies
from flaude.local.replies import Reply
from flaude.local.request import Call

_NAME = re.compile(r"[a-z0-9-]{1,63}")
_NETWORK = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_PAGE = 5000


async def create(call: Call) -> Reply:
    """`POST /v1/apps`: the spec says `name`, Fly's docs say `app_name`; both are taken. `wait` does not help here."""
    fields = call.fields
    name, org_slug = fields.get("name") or fields.get("app_name"), fields.get("org_slug")
    if not isinstance(org_slug, str) or not org_slug:
        raise replies.invalid("invalid_argument: org_slug is required")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise replies.app_name_invalid()
    network = fields.get("network") or "default"
    if not isinstance(network, str) or not _NETWORK.fullmatch(network):
        raise replies.network_invalid()
    young_s = call.world.quirks.young_app_s
    app = call.world.add_app(name, org_slug=org_slug, network=network, young_s=young_s)
    return Reply(201, {"id": app.name, "created_at": time.time_ns() // 1_000_000})


async def get(call: Call) -> Reply:
    """`GET /v1/apps/NAME`."""
    return Reply(200, call.app.shown(_living(call, call.app.name)))


async def list_(call: Call) -> Reply:
    """`GET /v1/apps?org_slug=&limit=&cursor=`, paged as Fly's API description says; `cursor` is the last name."""
    org_slug = call.query.get("org_slug", ("",))[-1]
    if not org_slug:
        raise replies.invalid("invalid_argument: org_slug is required")
    limit, cursor = call.query.get("limit", (str(_PAGE),))[-1], call.query.get("cursor", ("",))[-1]
    if not limit.isdecimal() or not 1 <= int(limit) <= _PAGE:
        raise replies.invalid("invalid_argument: limit")
    found = sorted(call.world.apps(org_slug), key=lambda app: app.name)
    page = [app for app in found if app.name > cursor]
    apps = [app.shown(_living(call, app.name)) for app in page[: int(limit)]]
    more = {"next_cursor": apps[-1]["name"]} if len(page) > len(apps) else {}
    return Reply(200, {"apps": apps, "total_apps": len(found), **more})


async def delete(call: Call) -> Reply:
    """`DELETE /v1/apps/NAME?force=`: with `force`, machines go too."""
    if _living(call, call.app.name) and not call.flag("force"):
        raise replies.app_has_machines()
    call.world.remove_app(call.app)
    return Reply(202)


def _living(call: Call, app: str) -> int:
    return sum(machine.state != "destroyed" for machine in call.world.machines(app))
