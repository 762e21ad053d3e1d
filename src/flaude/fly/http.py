"""HTTP to the Machines API: one pool of connections, and what its failures mean. The one place that knows aiohttp."""

from __future__ import annotations

import ipaddress
import resource
import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

import aiohttp
import truststore
from yarl import URL

_KEPT_OPEN_S = 75.0
_OTHER_FILES = 128


class Answer(NamedTuple):
    """What came back, read; header names are found whatever their case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class NoAnswerError(Exception):
    """No whole answer came; `sent` is false when the request cannot have arrived."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


_NEVER_SENT = (
    aiohttp.ClientConnectorError,  # also a proxy that is not there, a certificate that is not trusted
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,
    aiohttp.InvalidURL,
)


class Http:
    """A pool of connections to one server; use it as `async with`.

    A call that waits holds a connection of its own, and so do a thousand runs: connections are found in constant time,
    and there are as many as this process may open files, less some for others. A call beyond that waits for one.

    Args:
        base_url: Scheme, host and port.
        headers: Sent with every request.
    """

    def __init__(self, base_url: str, headers: Mapping[str, str] | None = None) -> None:
        self._base_url = base_url
        self._headers = dict(headers or {})
        self._session: aiohttp.ClientSession | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open the pool. Its cookie jar keeps `fly_flaps_affinity`, which pins us to the node that knows our app."""
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=_most_connections(),
                    keepalive_timeout=_KEPT_OPEN_S,
                    ssl=truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
                ),
                headers=self._headers,
                cookie_jar=aiohttp.CookieJar(unsafe=True),  # a stand-in's address has no name
                # A stand-in or tunnel on this computer is never behind the proxy that HTTP_PROXY names, nor is our
                # token shown to it.
                trust_env=not _is_this_computer(self._base_url),
            )
        )
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the pool."""
        self._session = None
        await self._stack.aclose()

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        connect_s: float,
        answer_s: float,
    ) -> Answer:
        """Send a request and read the answer, whatever its status; redirects are not followed.

        Args:
            method: HTTP method.
            path: Path with query, encoded.
            body: JSON.
            connect_s: How long connecting may take, in seconds.
            answer_s: How long nothing may come, in seconds.

        Raises:
            NoAnswerError: There is none, or it broke off.
        """
        if self._session is None:
            raise RuntimeError("use it as `async with`")
        try:
            async with self._session.request(
                method,
                URL(self._base_url + path, encoded=True),
                data=body,
                headers=_JSON if body is not None else None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_s, sock_read=answer_s),
            ) as response:
                return Answer(response.status, response.headers, await response.read())
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            # The class says what `str` of many of them does not.
            told = f"{type(error).__name__} {error}".rstrip()
            raise NoAnswerError(told, sent=not isinstance(error, _NEVER_SENT)) from error


_JSON = {"Content-Type": "application/json"}


def _most_connections() -> int:
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 0 if most == resource.RLIM_INFINITY else max(16, most - _OTHER_FILES)


def _is_this_computer(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
