"""HTTP to the Machines API: one pool of connections, and what its failures mean. The one place that knows aiohttp."""

from __future__ import annotations

import base64
import ipaddress
import os
import resource
import ssl
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from io import BytesIO
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import anyio
import anyio.to_thread
import truststore
from yarl import URL

from flaude._model.errors import ConfigError

_KEPT_OPEN_S = 75.0
_OTHER_FILES = 128
_FEWEST_CONNECTIONS, _UNLIMITED = 16, 65_536
_LONGEST_WORDS = 100
_IN_PIECES_BYTES = 2**20  # beyond it aiohttp warns: it would be handed over in one piece, and hold up all others


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
    UnicodeError,  # a host whose name cannot be one
)


class Http:
    """A pool of connections to one server; use it as `async with`.

    A call that waits holds a connection, and a thousand runs hold a thousand: connections are found in constant time.
    There are `most` of them, as many as this process may open files, less some for others; a call beyond waits for one.

    Args:
        base_url: Scheme, host and port.
        headers: Sent with every request.
    """

    def __init__(self, base_url: str, headers: Mapping[str, str] | None = None) -> None:
        self._base_url = base_url
        self._headers = dict(headers or {})
        self.most = _most_connections()
        self._session: aiohttp.ClientSession | None = None
        self._way = _Way()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open the pool. Its cookie jar keeps `fly_flaps_affinity`, which pins us to the node that knows our app."""
        self._way = await anyio.to_thread.run_sync(_way_to, self._base_url)
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self.most,
                    keepalive_timeout=_KEPT_OPEN_S,
                    ssl=self._way.trusted,
                ),
                headers=self._headers,
                # A stand-in's address has no name, and a value goes back as it came.
                cookie_jar=aiohttp.CookieJar(unsafe=True, quote_cookie=False),
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
        headers: Mapping[str, str] | None = None,
        connect_s: float,
        answer_s: float,
        at_most: int | None = None,
    ) -> Answer:
        """Send a request and read the answer, whatever its status; redirects are not followed.

        Args:
            method: HTTP method.
            path: Path with query, encoded.
            body: JSON.
            headers: Sent with this request, besides those of all.
            connect_s: How long connecting may take, and how long sending, in seconds.
            answer_s: How long nothing may come, in seconds.
            at_most: Bytes that the answer may have, once it is unpacked; None for no limit.

        Raises:
            NoAnswerError: There is none, it broke off, or it is longer than that.
        """
        if self._session is None:
            raise RuntimeError("use it as `async with`")
        try:
            # aiohttp counts from when all has been sent: a body that nobody takes would be sent for ever.
            with anyio.fail_after(2 * connect_s + answer_s):
                response = await self._session.request(
                    method,
                    URL(self._base_url + path, encoded=True),
                    data=BytesIO(body) if body and len(body) > _IN_PIECES_BYTES else body,
                    headers={**(headers or {}), **(_JSON if body is not None else {})},
                    allow_redirects=False,
                    proxy=self._way.proxy,
                    proxy_headers=self._way.proxy_headers,
                    # `connect` is also for the name server and the proxy, which `sock_connect` is not.
                    timeout=aiohttp.ClientTimeout(total=None, connect=connect_s, sock_read=answer_s),
                )
            async with response:
                return Answer(response.status, response.headers, await _content(response, at_most))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            unanswered = NoAnswerError(_told(error), sent=not isinstance(error, _NEVER_SENT))
        # Raised out here it has no context: aiohttp's errors hold the request's headers, and show them.
        raise unanswered


async def _content(response: aiohttp.ClientResponse, at_most: int | None) -> bytes:
    if at_most is None:
        return await response.read()
    content = bytearray()
    async for piece in response.content.iter_any():
        content += piece
        if len(content) > at_most:
            raise NoAnswerError(f"the answer has more than {at_most:,} bytes", sent=True)
    return bytes(content)


def _told(error: Exception) -> str:
    match error:
        case aiohttp.ClientHttpProxyError():
            words = f"the proxy answers {error.status} {error.message[:_LONGEST_WORDS]}"
        case aiohttp.ClientResponseError():
            words = error.message.partition(":")[0]  # then comes what is wrong, as long as it may be
        case aiohttp.ServerDisconnectedError():
            words = "Server disconnected"  # it may have the head of half an answer
        case _:
            words = str(error) or "neither sent nor answered in time"
    # The class says what `str` of many of them does not.
    return f"{type(error).__name__} {words}".rstrip()


_JSON = {"Content-Type": "application/json"}


def _most_connections() -> int:
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _UNLIMITED if most == resource.RLIM_INFINITY else max(_FEWEST_CONNECTIONS, most - _OTHER_FILES)


# Where the systems have their certificates: some Pythons bring an OpenSSL that does not know.
_CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",
)


class _Way(NamedTuple):
    trusted: ssl.SSLContext | bool = True
    proxy: URL | None = None
    proxy_headers: Mapping[str, str] | None = None


def _way_to(base_url: str) -> _Way:
    """How to get there, found out once.

    By itself aiohttp looks for a proxy, and for a password in ~/.netrc, for each request.
    """
    parts = urlsplit(base_url)
    trusted = _trusted() if parts.scheme == "https" else True
    host, named = parts.hostname or "", getproxies()
    proxy = named.get(parts.scheme) or named.get("all")
    # NO_PROXY may be about a port.
    asked = host if ":" in host else f"{host}:{parts.port or _PORTS[parts.scheme]}"
    # A stand-in or tunnel on this computer is never behind a proxy, nor is our token shown to one.
    if not proxy or is_this_computer(host) or proxy_bypass(asked):
        return _Way(trusted)
    return _Way(trusted, *_proxy(proxy))


_PORTS = {"http": 80, "https": 443}


def _proxy(named: str) -> tuple[URL, Mapping[str, str] | None]:
    # Whatever is wrong with it is told without it: there may be a password in it.
    url = None
    with suppress(ValueError):
        url = URL(named if "://" in named else f"http://{named}")
    if url is None or url.scheme not in _PORTS or not url.host:
        raise ConfigError("the proxy that the environment names must be like http://host:port; no other kind is known")
    if url.user is None:
        return url, None
    password = base64.b64encode(f"{url.user}:{url.password or ''}".encode()).decode()
    return url.with_user(None), {"Proxy-Authorization": f"Basic {password}"}


def _trusted() -> ssl.SSLContext:
    """Whom this computer trusts, or whom the environment names instead."""
    if sys.platform != "linux" and not os.environ.get("SSL_CERT_FILE") and not os.environ.get("SSL_CERT_DIR"):
        return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # On Linux truststore reads all certificates for each connection, some 20 ms of the event loop.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    if ssl.get_default_verify_paths().cafile is None:
        for file in filter(os.path.isfile, _CERTIFICATES):
            context.load_verify_locations(file)
            break
    return context


def is_this_computer(host: str) -> bool:
    """Whether what is sent to this host stays on this computer."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
