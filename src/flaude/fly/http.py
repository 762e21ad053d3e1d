"""HTTP to the Machines API: one pool of connections, and what its failures mean. The one place that knows aiohttp."""

from __future__ import annotations

import ipaddress
import os
import resource
import ssl
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import anyio.to_thread
import truststore
from yarl import URL

_KEPT_OPEN_S = 75.0
_OTHER_FILES = 128
_FEWEST_CONNECTIONS, _UNLIMITED = 16, 65_536


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
                cookie_jar=aiohttp.CookieJar(unsafe=True),  # a stand-in's address has no name
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
                proxy=self._way.proxy,
                proxy_headers=self._way.proxy_headers,
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
    trusted = _trusted() if urlsplit(base_url).scheme == "https" else True
    host = urlsplit(base_url).hostname or ""
    named = getproxies().get(urlsplit(base_url).scheme)
    # A stand-in or tunnel on this computer is never behind a proxy, nor is our token shown to one.
    if not named or _is_this_computer(base_url) or proxy_bypass(host):
        return _Way(trusted)
    proxy = URL(named)
    if proxy.user is None:
        return _Way(trusted, proxy)
    password = aiohttp.encode_basic_auth(proxy.user, proxy.password or "")
    return _Way(trusted, proxy.with_user(None), {"Proxy-Authorization": password})


def _trusted() -> ssl.SSLContext:
    """Whom this computer trusts."""
    if sys.platform != "linux":
        return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # There truststore reads all certificates for each connection, some 20 ms of the event loop.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    if ssl.get_default_verify_paths().cafile is None:
        for file in filter(os.path.isfile, _CERTIFICATES):
            context.load_verify_locations(file)
            break
    return context


def _is_this_computer(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
