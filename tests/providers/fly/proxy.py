"""A real proxy in front of a Machines API that misbehaves as it is told: the network as it can be."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal

import anyio
import anyio.abc
import httpx2


@dataclass(frozen=True)
class Trouble:
    """What happens to one request.

    `drop`: the connection is closed without doing it; `lose`: it is done, and the answer is lost; `half`: it is done,
    and half of the answer's body arrives; `answer`: it is not done, and `status` is answered with `body`; `pass`: all
    is well; `silence`: it is not done, and nothing is ever said.
    """

    kind: Literal["pass", "drop", "lose", "half", "answer", "silence"]
    status: int = 0
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass
class Proxy:
    """Where it listens, what is still to happen (one `Trouble` a request, then none), and what it has seen.

    `on_request` is called with method and path before anything happens to a request.
    """

    upstream: str
    base_url: str = ""
    troubles: list[Trouble] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    on_request: Callable[[str, str], None] = lambda _method, _path: None

    async def serve(self, stream: anyio.abc.SocketStream) -> None:
        """One connection; it is closed after each answer."""
        async with stream:
            head, body = await _request(stream)
            if not head:
                return
            method, path, _ = head[0].split(" ", 2)
            headers = dict(line.split(": ", 1) for line in head[1:])
            self.seen.append((method, path))
            self.on_request(method, path)
            trouble = self.troubles.pop(0) if self.troubles else None
            if trouble is not None and trouble.kind == "drop":
                return
            if trouble is not None and trouble.kind == "silence":
                await anyio.sleep_forever()
            if trouble is not None and trouble.kind == "answer":
                await stream.send(_response(trouble.status, trouble.body.encode(), dict(trouble.headers)))
                return
            async with httpx2.AsyncClient(base_url=self.upstream, timeout=70) as client:
                kept = {name: headers[name] for name in headers if name.lower() in ("authorization", "content-type")}
                answer = await client.request(method, path, content=body, headers=kept)
            if trouble is not None and trouble.kind == "lose":
                return
            whole = _response(answer.status_code, answer.content, {})
            half = trouble is not None and trouble.kind == "half"
            await stream.send(whole[: -len(answer.content) // 2] if half else whole)


async def _request(stream: anyio.abc.SocketStream) -> tuple[list[str], bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        try:
            data += await stream.receive()
        except anyio.EndOfStream:
            return [], b""
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    length = next((int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length")), 0)
    while len(body) < length:
        body += await stream.receive()
    return lines, body


def _response(status: int, body: bytes, headers: dict[str, str]) -> bytes:
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"content-length: {len(body)}",
        "connection: close",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def refusal(status: int, text: str, **headers: str) -> Trouble:
    """An answer in Fly's form of an error."""
    return Trouble("answer", status, json.dumps({"error": text}), tuple(headers.items()))


@asynccontextmanager
async def proxy(upstream: str, *, port: int = 0) -> AsyncIterator[Proxy]:
    """Serve until the block ends, on a free port unless told which."""
    made = Proxy(upstream)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, made.serve)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610  # not Django's
        made.base_url = f"http://127.0.0.1:{port}"
        yield made
        tasks.cancel_scope.cancel()
