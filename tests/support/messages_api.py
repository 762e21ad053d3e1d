"""A scripted stand-in of Anthropic's Messages API on 127.0.0.1, for the real Claude Code CLI.

It answers `POST /v1/messages` with server-sent events, one scripted turn a request. A turn is what the model does
next: use a tool, say something, or be refused.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


@dataclass(frozen=True)
class Say:
    """The model answers with text and ends its turn."""

    text: str


@dataclass(frozen=True)
class Use:
    """The model uses the tool Bash, or another one with the input that it takes."""

    command: str = ""
    tool: str = "Bash"
    input: dict[str, Any] | None = None


@dataclass(frozen=True)
class Hang:
    """The API does not answer."""


@dataclass(frozen=True)
class Refuse:
    """The API answers with an error."""

    status: int
    kind: str = "error"
    message: str = "scripted"


Turn = Say | Use | Refuse | Hang
Script = Callable[[str], Sequence[Turn]]
"""From the prompt of a conversation to its turns; the last one is repeated."""


@dataclass
class MessagesApi:
    """Where it listens, and what it was asked."""

    base_url: str
    script: Script
    authorizations: list[str] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        """One turn of the conversation that the request's messages belong to."""
        body = json.loads(await request.body())
        self.authorizations.append(request.headers.get("authorization") or request.headers.get("x-api-key") or "")
        prompt = "\n".join(_texts(body["messages"][0]))
        self.prompts.append(prompt)
        turns = self.script(prompt)
        done = sum(message["role"] == "assistant" for message in body["messages"])
        turn = turns[min(done, len(turns) - 1)]
        if isinstance(turn, Hang):
            while (await request.receive())["type"] != "http.disconnect":
                pass
            return Response()
        if isinstance(turn, Refuse):
            error = {"type": "error", "error": {"type": turn.kind, "message": turn.message}}
            return JSONResponse(error, status_code=turn.status)
        assert isinstance(turn, (Say, Use))
        return Response(_events(turn, body.get("model", "claude"), done), media_type="text/event-stream")


def _texts(message: dict[str, Any]) -> list[str]:
    content = message["content"]
    return [content] if isinstance(content, str) else [block.get("text", "") for block in content]


def _events(turn: Say | Use, model: str, number: int) -> str:
    if isinstance(turn, Say):
        block: dict[str, Any] = {"type": "text", "text": ""}
        delta: dict[str, Any] = {"type": "text_delta", "text": turn.text}
        stop = "end_turn"
    else:
        block = {"type": "tool_use", "id": f"toolu_{number:02}", "name": turn.tool, "input": {}}
        used = {"command": turn.command, "description": "x"} if turn.input is None else turn.input
        delta = {"type": "input_json_delta", "partial_json": json.dumps(used)}
        stop = "tool_use"
    message: dict[str, Any] = {
        "id": f"msg_{number:02}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 100, "output_tokens": 1},
    }
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": stop, "stop_sequence": None},
            "usage": {"output_tokens": 20},
        },
        {"type": "message_stop"},
    ]
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)


class _Server(uvicorn.Server):
    """uvicorn inside a test: it leaves the signal handlers alone and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = anyio.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.listening.set()


@asynccontextmanager
async def served(app: Starlette) -> AsyncIterator[str]:
    """Serve an app on 127.0.0.1 until the block ends; yields its address."""
    server = _Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server._serve)  # noqa: SLF001  # `serve` would take the signal handlers
        await server.listening.wait()
        try:
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        finally:
            server.should_exit = True


@asynccontextmanager
async def messages_api(script: Script) -> AsyncIterator[MessagesApi]:
    """Serve the scripted API until the block ends."""
    api = MessagesApi("", script)
    routes = [Route("/v1/messages", api.answer, methods=["POST"])]
    async with served(Starlette(routes=routes)) as api.base_url:
        yield api
