"""Answers that no server should give: none at all, or half of one."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

_TRANSPORT = "flaude.local.transport"


def protocol(*, fast: bool) -> type[asyncio.Protocol]:
    """HTTP that lets the application get at its connection.

    Args:
        fast: Whether it is httptools that reads and writes, where that is installed.
    """
    if fast:
        with suppress(ImportError):
            from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol  # noqa: PLC0415

            return type("FastProtocol", (_WithTransport, HttpToolsProtocol), {})
    return type("Protocol", (_WithTransport, H11Protocol), {})


class _WithTransport:
    app: ASGIApp

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Remember the connection in every request's scope."""
        super().connection_made(transport)  # type: ignore[misc]
        application: ASGIApp = self.app

        async def with_transport(scope: Scope, receive: Receive, send: Send) -> None:
            scope["extensions"] = {_TRANSPORT: transport}
            await application(scope, receive, send)

        self.app = with_transport


class NoAnswer(Response):
    """Closes the connection instead."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # nothing is sent
        """Close, and wait until it is closed: before, the server would answer 500 in our place."""
        scope["extensions"][_TRANSPORT].abort()
        await until_gone(receive)


class HalfAnswer(JSONResponse):
    """Promises the whole body, sends half of it, and closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what is sent, then close."""
        body = bytes(self.body)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        scope["extensions"][_TRANSPORT].close()
        await until_gone(receive)


async def until_gone(receive: Receive) -> None:
    """Return when the client has gone, or the connection has been closed."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def hang(request: Request) -> Response:
    """Answer nothing until the client goes."""
    await until_gone(request.receive)
    return NoAnswer()
