from __future__ import annotations

import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import pytest

from flaude.fly.http import Http, _way_to

HEADERS = {"Authorization": "Bearer ours"}


@asynccontextmanager
async def proxy() -> AsyncIterator[tuple[str, list[bytes]]]:
    """A proxy that answers everything itself: its address, and what it was asked."""
    asked: list[bytes] = []

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            asked.append(await stream.receive())
            await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        port = listener.listeners[0].extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610  # no Django
        yield f"127.0.0.1:{port}", asked
        tasks.cancel_scope.cancel()


async def test_a_proxy_is_used_and_netrc_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment's proxy is asked, unless for this computer; passwords in ~/.netrc are not for this API."""
    (tmp_path / ".netrc").write_text("default login somebody password else\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    async with proxy() as (address, asked):
        monkeypatch.setenv("http_proxy", f"http://{address}")
        async with Http("http://api.example.com", HEADERS) as http:
            assert (await http.request("GET", "/v1/apps", connect_s=5, answer_s=5)).content == b"{}"
        assert asked[0].startswith(b"GET http://api.example.com/v1/apps") and b"Authorization: Bearer ours" in asked[0]
        async with Http(f"http://{address}", HEADERS) as http:
            await http.request("GET", "/v1/apps", connect_s=5, answer_s=5)
        assert asked[1].startswith(b"GET /v1/apps")


def test_a_proxys_password_is_not_in_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes into a header: addresses are told in errors."""
    monkeypatch.setenv("https_proxy", "http://me:secret@proxy.example.com:3128")
    way = _way_to("https://api.example.com")
    assert str(way.proxy) == "http://proxy.example.com:3128"
    assert way.proxy_headers == {"Proxy-Authorization": "Basic bWU6c2VjcmV0"}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system itself looks at certificates")
def test_certificates_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for each connection: that takes as long as a dozen calls."""
    trusted = _way_to("https://api.example.com").trusted
    assert isinstance(trusted, ssl.SSLContext) and trusted.verify_mode is ssl.CERT_REQUIRED and trusted.check_hostname
    reads: list[object] = []
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: reads.append(1))
    monkeypatch.setattr(ssl.SSLContext, "set_default_verify_paths", lambda *_: reads.append(1))
    for _ in range(2):
        trusted.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="api.example.com")
    assert reads == []
