"""The one way that every request goes: let in, counted, answered, shown."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any, TypeVar
from urllib.parse import parse_qs

import anyio
from starlette.requests import Request
from starlette.responses import Response

from flaude.local import ids, replies
from flaude.local.faults import Answer, Delay, DropAfter, DropBefore, Effect, Faults, Hang, Hook, Told, Truncate
from flaude.local.json_text import encode
from flaude.local.misbehaving import HalfAnswer, NoAnswer, hang
from flaude.local.request import Call, Handler, parse_body
from flaude.local.state import State
from flaude.local.tokens import LocalTokens

_log = logging.getLogger(__name__)


NO_STATUS = 0
"""In `requests`: no answer left."""

T = TypeVar("T")


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


class Middleware:
    """Passes requests to their handlers.

    Args:
        world: What the handlers work on.
        tokens: The tokens that clients may send.
        faults: What goes wrong on request.
        on_exchange: Called for every request that is answered in order; what it or a hook raises is kept in
            `complaints`.
    """

    def __init__(
        self, world: State, *, tokens: LocalTokens, faults: Faults, on_exchange: Callable[[Exchange], None] | None
    ) -> None:
        self._world = world
        self._tokens = tokens
        self._faults = faults
        self._on_exchange = on_exchange
        self._under_way: set[anyio.CancelScope] = set()
        self._closed = False
        self.requests: Counter[tuple[str, int]] = Counter()
        self.complaints: list[Exception] = []

    async def pass_(self, request: Request, action: str, handler: Handler) -> Response:
        """Answer a request, or let go wrong what is to: every one goes through here."""
        effect: Effect | None = None
        content = await request.body()
        try:
            self._let_in(request)
            effect = self._faults.strike(action)
            if (instead := await self._instead(request, action, effect)) is not None:
                return instead
            self._limit(request, action)
            reply = await self._handle(request, handler, content, effect)
        except replies.RefusedError as refused:
            reply = refused.reply
        if isinstance(effect, DropAfter):
            self.requests[action, NO_STATUS] += 1
            return NoAnswer()
        self.requests[action, reply.status] += 1
        headers = {"fly-request-id": f"{ids.ulid()}-local", **reply.headers}
        if isinstance(effect, Truncate):
            return HalfAnswer(reply.body, reply.status, headers)
        if isinstance(effect, Hook) and effect.after:
            await self._tell(effect.after, request)
        self._show(request, content, reply)
        if reply.body is None:
            return Response(status_code=reply.status, headers=headers)
        answer = encode(reply.body) if reply.content is None else reply.content
        return Response(answer, reply.status, headers, media_type="application/json")

    async def _instead(self, request: Request, action: str, effect: Effect | None) -> Response | None:
        """What is answered without doing what was asked; None when it is to be done."""
        match effect:
            case Answer():
                self.requests[action, effect.status] += 1
                body = json.dumps({"error": effect.error}) if effect.body is None else effect.body
                headers = {} if effect.retry_after is None else {"retry-after": str(effect.retry_after)}
                return Response(body, effect.status, headers, media_type="application/json")
            case DropBefore():
                self.requests[action, NO_STATUS] += 1
                return NoAnswer()
            case Hang():
                self.requests[action, NO_STATUS] += 1
                return await self._interruptible(lambda: hang(request))
            case Delay(seconds=seconds):
                await self._interruptible(lambda: anyio.sleep(seconds))
            case Hook(before=told) if told:
                await self._tell(told, request)
        return None

    def close(self) -> None:
        """Let nobody in any more, and send away who still waits for an answer."""
        self._closed = True
        for scope in self._under_way:
            scope.cancel()

    def _let_in(self, request: Request) -> None:
        if self._closed:
            raise replies.shutting_down()
        self._tokens.check(request.headers.get("authorization", ""))

    def _limit(self, request: Request, action: str) -> None:
        identifier = request.path_params.get("machine") or request.path_params.get("app") or ""
        if self._world.limits and not self._world.limits.allow(action, identifier):
            raise replies.rate_limited()

    async def _handle(self, request: Request, handler: Handler, content: bytes, effect: Effect | None) -> replies.Reply:
        query = parse_qs(request.scope["query_string"].decode(), keep_blank_values=True)
        call = Call(self._world, request.path_params, query, parse_body(content), effect, len(content))
        return await self._interruptible(lambda: handler(call))

    async def _interruptible(self, work: Callable[[], Awaitable[T]]) -> T:
        """Its result, unless the stand-in closes before; refuses then."""
        if self._closed:
            raise replies.shutting_down()
        with anyio.CancelScope() as scope:
            self._under_way.add(scope)
            try:
                return await work()
            finally:
                self._under_way.discard(scope)
        raise replies.shutting_down()

    def _show(self, request: Request, content: bytes, reply: replies.Reply) -> None:
        if self._on_exchange is None:
            return
        query = {name: ",".join(request.query_params.getlist(name)) for name in request.query_params}
        try:
            body = parse_body(content)
        except replies.RefusedError:
            body = None
        exchange = Exchange(request.method, request.url.path, query, body, reply.status, reply.body)
        try:
            self._on_exchange(exchange)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is raised when the block is left
            _log.exception("on_exchange complains about %s %s", exchange.method, exchange.path)
            self.complaints.append(error)

    async def _tell(self, told: Told, request: Request) -> None:
        try:
            answer = told(request.url.path)
            if isawaitable(answer):
                await answer
        except Exception as error:  # noqa: BLE001  # whatever it is, it is raised when the block is left
            _log.exception("a hook failed at %s %s", request.method, request.url.path)
            self.complaints.append(error)
