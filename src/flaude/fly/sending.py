"""One call to the Machines API: paced, sent over the pool, repeated where it may be, and read."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlencode

import httpx2
from pydantic import SecretStr

from flaude._version import __version__
from flaude.errors import UnreachableError
from flaude.fly import settings
from flaude.fly.failures import failure
from flaude.fly.pacing import Pace
from flaude.fly.retries import OwnRetries, repeating

T = TypeVar("T")

_ANSWER_MARGIN_S = 15.0
_SHORTEST_SECRET = 8  # shorter ones are words of tests, and would be found in any text
# A stand-in or tunnel on this computer is never behind the proxy that HTTP_PROXY names, nor is our token shown to it.
NO_PROXY: dict[str, httpx2.AsyncBaseTransport | None] = {
    f"all://{host}": None for host in ("127.0.0.1", "localhost", "[::1]")
}


@dataclass(frozen=True)
class Call:
    """A call as Fly documents it; `action` and `identifier` are what Fly counts for its rate limits.

    `takes_s` is how long Fly waits before it answers, for the calls that wait for something; `harmless` says that
    doing it twice is as good as once; `clean` takes what must not be told out of the text of an error.
    """

    action: str
    identifier: str
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    takes_s: float = 0.0
    harmless: bool = True
    clean: Callable[[str], str] = str

    @property
    def where(self) -> str:
        """Path with query."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path


class Sender:
    """Sends calls; use it as `async with`. Arguments and errors are `FlyClient`'s."""

    def __init__(self, *, base_url: str | None, token: str | None, timeout_s: float, retry_for_s: float) -> None:
        self.base_url = settings.base_url(base_url, os.environ)
        self._token = SecretStr(settings.find_token(token, os.environ))
        self._timeout_s = timeout_s
        self._retry_for_s = retry_for_s
        self._pace = Pace()
        self._http: httpx2.AsyncClient | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open the pool. Its cookie jar keeps `fly_flaps_affinity`, which pins us to the node that knows our app."""
        stamina_log, own = logging.getLogger("stamina"), OwnRetries()
        stamina_log.addFilter(own)
        self._stack.callback(stamina_log.removeFilter, own)
        self._http = await self._stack.enter_async_context(
            httpx2.AsyncClient(
                base_url=self.base_url,
                headers={
                    "Authorization": settings.authorization(self._token.get_secret_value()),
                    "User-Agent": f"flaude/{__version__}",
                },
                timeout=self._timeout_s,
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100),
                mounts=NO_PROXY,
            )
        )
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the pool."""
        self._http = None
        await self._stack.aclose()

    async def ask(self, call: Call, read: Callable[[bytes], T]) -> T:
        """Wait for the call's turn, then `send` it."""
        await self.turn(call)
        return await self.send(call, read)

    async def turn(self, call: Call, *, again: bool = False) -> None:
        """Return when Fly's rate limits allow the call; `again` says that it has been sent before."""
        await self._pace.wait(call.action, call.identifier, again=again)

    async def send(self, call: Call, read: Callable[[bytes], T]) -> T:
        """Send a call whose turn it is until there is an answer that counts.

        Args:
            call: What to ask for.
            read: Makes a value of the answer's body; a ValueError of it means that the answer is not readable.

        Raises:
            FlyError: Fly's last answer, or that there was none.
        """

        async def attempt(number: int) -> T:
            if number > 1:
                await self.turn(call, again=True)
            return await self._once(call, read)

        return await repeating(
            attempt,
            f"{call.method} {call.where}",
            for_s=self._retry_for_s,
            harmless=call.harmless,
            takes_time=call.takes_s > 0,
        )

    async def _once(self, call: Call, read: Callable[[bytes], T]) -> T:
        if self._http is None:
            raise RuntimeError("use FlyClient as `async with FlyClient(...) as fly`")

        def redact(text: str) -> str:
            return call.clean(self._redact(text))

        timeout = httpx2.Timeout(
            self._timeout_s, read=max(self._timeout_s, call.takes_s + min(self._timeout_s, _ANSWER_MARGIN_S))
        )
        try:
            response = await self._http.request(
                call.method, f"/v1{call.path}", params=call.query, json=call.body, timeout=timeout
            )
        except httpx2.HTTPError as error:
            cause = redact(f"{type(error).__name__} {error}".rstrip())
            raise UnreachableError(
                f"no answer from {self.base_url}: {cause}", method=call.method, path=call.where
            ) from error
        if not response.is_success:
            raise failure(response, call.where, redact)
        try:
            return read(response.content)
        except ValueError:
            # What is wrong with the answer would be told with the answer's content, which may be a secret.
            raise UnreachableError(
                "Fly's answer is cut, or not what its API promises",
                method=call.method,
                path=call.where,
                status=response.status_code,
                request_id=response.headers.get("fly-request-id", ""),
            ) from None

    def _redact(self, text: str) -> str:
        for part in settings.token_parts(self._token.get_secret_value()):
            if len(part) >= _SHORTEST_SECRET:
                text = text.replace(part, "[token]")
        return text
