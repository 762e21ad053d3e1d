"""What the stand-in serves: each path of the Machines API with its action's name and its handler.

Not there: volumes, secrets, leases, certificates, IP addresses, `ps`, cordon, suspend. Asking for them is a 404.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from flaude.local import apps, execs, lifecycle, machines, metadata, organizations
from flaude.local.middleware import Middleware
from flaude.local.request import Handler


@dataclass(frozen=True)
class Served:
    """One method of one path; `action` is what limits and counts go by."""

    method: str
    path: str
    action: str
    handler: Handler


_MACHINES = "/v1/apps/{app}/machines"
_MACHINE = "/v1/apps/{app}/machines/{machine}"
_ORG_MACHINES = "/v1/orgs/{org}/machines"

SERVED = (
    Served("GET", "/v1/apps", "list_apps", apps.list_),
    Served("POST", "/v1/apps", "create_app", apps.create),
    Served("GET", "/v1/apps/{app}", "get_app", apps.get),
    Served("DELETE", "/v1/apps/{app}", "delete_app", apps.delete),
    Served("GET", "/v1/tokens/current", "current_token", organizations.current_token),
    Served("GET", _ORG_MACHINES, "list_org_machines", organizations.machines),
    Served("GET", _MACHINES, "list_machines", machines.list_),
    Served("POST", _MACHINES, "create_machine", machines.create),
    Served("GET", _MACHINE, "get_machine", machines.get),
    Served("POST", _MACHINE, "update_machine", machines.update),
    Served("DELETE", _MACHINE, "delete_machine", machines.delete),
    Served("GET", _MACHINE + "/events", "list_events", machines.events),
    Served("GET", _MACHINE + "/versions", "list_versions", machines.versions),
    Served("GET", _MACHINE + "/wait", "wait_machine", lifecycle.wait),
    Served("POST", _MACHINE + "/start", "start_machine", lifecycle.start),
    Served("POST", _MACHINE + "/stop", "stop_machine", lifecycle.stop),
    Served("POST", _MACHINE + "/restart", "restart_machine", lifecycle.restart),
    Served("POST", _MACHINE + "/signal", "signal_machine", lifecycle.signal),
    Served("POST", _MACHINE + "/exec", "exec_machine", execs.exec_),
    Served("GET", _MACHINE + "/metadata", "get_metadata", metadata.get_all),
    Served("PUT", _MACHINE + "/metadata", "put_metadata", metadata.put),
    Served("PATCH", _MACHINE + "/metadata", "put_metadata", metadata.put),
    Served("GET", _MACHINE + "/metadata/{key}", "get_metadata_key", metadata.get),
    Served("POST", _MACHINE + "/metadata/{key}", "set_metadata_key", metadata.set_),
    Served("DELETE", _MACHINE + "/metadata/{key}", "delete_metadata_key", metadata.delete),
)


def application(gate: Middleware) -> ASGIApp:
    """The ASGI application that passes all of `SERVED` through the gate."""
    # In every path names and variables take turns, so the names and their number say which one it is.
    known = {(served.method, _names(served.path.split("/"))): served for served in SERVED}
    variables = {served.path: _values(served.path.replace("{", "").replace("}", "").split("/")) for served in SERVED}

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        parts = scope["path"].split("/")
        served, values = known.get((scope["method"], _names(parts))), _values(parts)
        if served is None or "" in values:
            error = f"not_found: {request.method} {request.url.path} is not served here"
            await JSONResponse({"error": error}, 404)(scope, receive, send)
            return
        scope["path_params"] = dict(zip(variables[served.path], values, strict=True))
        response = await gate.pass_(request, served.action, served.handler)
        await response(scope, receive, send)

    return serve


def _names(parts: list[str]) -> tuple[int | str, ...]:
    return len(parts), *parts[1:2], *parts[2::2]


def _values(parts: list[str]) -> list[str]:
    return parts[3::2]
