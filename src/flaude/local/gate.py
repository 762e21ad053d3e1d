"""The one way that every request goes: let in, counted, answered, shown."""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from flaude.local import ids, replies
from flaude.local.call import Call, Handler, parse_body
from flaude.local.world import World

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exchange:
    """One answered request.

    Attributes:
        method: HTTP method.
        path: Path as it was asked for, such as `/v1/apps/my-app/machines`.
        query: Query parameters; one that was repeated has its values joined by commas.
        request: JSON of the request's body, None when it had none or was no JSON.
        status: HTTP status of the answer.
        response: JSON of the answer's body, None when it had none.
    """

    method: str
    path: str
    query: dict[str, str]
    request: Any
    status: int
    response: Any


class Gate:
    """Passes requests to their handlers.

    Args:
        world: What the handlers work on.
        token: The token that clients must send.
        on_exchange: Called for every answered request; what it raises is kept in `complaints`.
    """

    def __init__(self, world: World, *, token: str, on_exchange: Callable[[Exchange], None] | None) -> None:
        self._world = world
        self._token = token
        self._on_exchange = on_exchange
        self._under_way: set[anyio.CancelScope] = set()
        self._closed = False
        self.requests: Counter[tuple[str, int]] = Counter()
        self.complaints: list[Exception] = []

    async def pass_(self, request: Request, action: str, handler: Handler) -> Response:
        """Answer a request: every one goes through here, so whatever is to go wrong on request has its place here."""
        body: Any = None
        try:
            self._let_in(request, action)
            body = parse_body(await request.body())
            reply = await self._handle(request, handler, body)
        except replies.RefusedError as refused:
            reply = refused.reply
        self.requests[action, reply.status] += 1
        self._show(request, body, reply)
        headers = {"fly-request-id": f"{ids.ulid()}-local", **reply.headers}
        if reply.body is None:
            return Response(status_code=reply.status, headers=headers)
        return JSONResponse(reply.body, reply.status, headers)

    def close(self) -> None:
        """Let nobody in any more, and send away who still waits for an answer."""
        self._closed = True
        for scope in self._under_way:
            scope.cancel()

    def _let_in(self, request: Request, action: str) -> None:
        if self._closed:
            raise replies.shutting_down()
        if not self._known(request.headers.get("authorization", "")):
            raise replies.unauthorized()
        identifier = request.path_params.get("machine") or request.path_params.get("app") or ""
        if self._world.limits and not self._world.limits.allow(action, identifier):
            raise replies.rate_limited()

    def _known(self, authorization: str) -> bool:
        """Read as Fly's Go client writes it: `Bearer` or `FlyV1`, several tokens with commas between them."""
        scheme, _, tokens = authorization.partition(" ")
        given = [token.strip().encode() for token in tokens.split(",")]
        return scheme.lower() in ("bearer", "flyv1") and any(
            secrets.compare_digest(token, self._token.encode()) for token in given
        )

    async def _handle(self, request: Request, handler: Handler, body: Any) -> replies.Reply:
        query = {name: request.query_params.getlist(name) for name in request.query_params}
        with anyio.CancelScope() as scope:
            self._under_way.add(scope)
            try:
                return await handler(Call(self._world, request.path_params, query, body))
            finally:
                self._under_way.discard(scope)
        raise replies.shutting_down()

    def _show(self, request: Request, body: Any, reply: replies.Reply) -> None:
        if self._on_exchange is None:
            return
        query = {name: ",".join(request.query_params.getlist(name)) for name in request.query_params}
        exchange = Exchange(request.method, request.url.path, query, body, reply.status, reply.body)
        try:
            self._on_exchange(exchange)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is raised when the block is left
            _log.exception("on_exchange complains about %s %s", exchange.method, exchange.path)
            self.complaints.append(error)
