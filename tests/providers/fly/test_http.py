from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import anyio.to_thread
import pytest
from anyio.streams.tls import TLSStream
from tests.conftest import needs

from flaude import ConfigError
from flaude._providers.http import Http, NoAnswerError, _way_to

HEADERS = {"Authorization": "Bearer ours"}
WELL = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of this computer says where calls go."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@asynccontextmanager
async def proxy(answer: bytes | None = WELL) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server, or proxy, that answers everything itself, or nothing: its address, and what it was asked."""
    asked: list[bytes] = []

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            asked.append(await stream.receive())
            await (stream.send(answer) if answer else anyio.sleep_forever())

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


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("HTTPS_PROXY", "http://proxy.example.com:3128", True),
        ("ALL_PROXY", "http://proxy.example.com:3128", True),
        ("all_proxy", "proxy.example.com:3128", True),
        ("http_proxy", "http://proxy.example.com:3128", False),
    ],
)
@pytest.mark.parametrize(
    ("no_proxy", "left_out"),
    [("", False), ("example.com", True), ("api.example.com:443", True), ("api.example.com:80", False), ("*", True)],
)
def test_which_proxy(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, found: bool, no_proxy: str, left_out: bool
) -> None:
    """The proxy of the scheme or else of all, with a scheme or without; none for what NO_PROXY has."""
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    expected = "http://proxy.example.com:3128" if found and not left_out else "None"
    assert str(_way_to("https://api.example.com").proxy) == expected


@pytest.mark.parametrize("value", ["socks5://me:secret@127.0.0.1:1080", "http://me:secret@[x", "http://me:secret@h:x"])
def test_a_proxy_of_another_kind(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A proxy that cannot be used is told at once, without the password that it may have."""
    monkeypatch.setenv("ALL_PROXY", value)
    with pytest.raises(ConfigError, match="proxy") as caught:
        _way_to("https://api.example.com")
    assert "secret" not in str(caught.value) + repr(caught.value.__context__)


async def test_a_proxy_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """To wait for a proxy is to connect: it ends, and nothing was sent."""
    async with proxy(None) as (address, _):
        monkeypatch.setenv("https_proxy", f"http://{address}")
        async with Http("https://api.example.com", HEADERS) as http:
            with anyio.fail_after(10), pytest.raises(NoAnswerError, match="ConnectionTimeout") as caught:
                await http.request("POST", "/v1/apps", body=b"{}", connect_s=0.1, answer_s=60)
    assert not caught.value.sent


async def test_a_body_that_nobody_takes() -> None:
    """Sending ends too, when the other side does not read; it may have arrived for all we know."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        async with Http(f"http://127.0.0.1:{server.getsockname()[1]}", HEADERS) as http:
            with anyio.fail_after(20), pytest.raises(NoAnswerError, match="neither sent nor answered") as caught:
                await http.request("POST", "/v1/apps", body=bytes(1_000_000) * 20, connect_s=0.1, answer_s=0.1)
    assert caught.value.sent


@pytest.mark.parametrize("secure", [False, True], ids=["server", "proxy"])
@pytest.mark.parametrize(
    "answer",
    [
        b"canary\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncanary canary\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"canary" * 9_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: canary\r\nY: 1",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ncanary\r\n",
        b"HTTP/1.1 407 Who\r\nX: canary\r\nContent-Length: 9\r\n\r\n",
    ],
    ids=["status", "header", "long", "cut", "chunk", "407"],
)
async def test_what_is_no_answer(monkeypatch: pytest.MonkeyPatch, answer: bytes, secure: bool) -> None:
    """What came is not told, nor are the headers that were sent: not in the error, nor in an error behind it."""
    async with proxy(answer) as (address, _):
        monkeypatch.setenv("https_proxy", f"http://me:secret@{address}")
        async with Http("https://api.example.com" if secure else f"http://{address}", HEADERS) as http:
            with pytest.raises(NoAnswerError) as caught:
                await http.request("POST", "/v1/apps", body=b"{}", connect_s=5, answer_s=5)
    error = caught.value
    assert error.__cause__ is None and error.__context__ is None
    assert "canary" not in str(error) and len(str(error)) < 200
    assert error.sent is not (secure and b"407" in answer)


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_what_is_sent_twice(method: str) -> None:
    """A connection that is closed when it is used again: what may be done twice is sent again, a POST never is."""
    requests: list[bytes] = []

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            for answers in (True, False):
                requests.append(await stream.receive())
                if answers:
                    await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610  # no Django
        async with Http(f"http://127.0.0.1:{port}", HEADERS) as http:
            await http.request(method, "/v1/apps", connect_s=5, answer_s=5)
            if method == "POST":
                with pytest.raises(NoAnswerError) as caught:
                    await http.request(method, "/v1/apps", connect_s=5, answer_s=5)
                assert caught.value.sent
            else:
                await http.request(method, "/v1/apps", connect_s=5, answer_s=5)
        assert len(requests) == (2 if method == "POST" else 3)
        tasks.cancel_scope.cancel()


async def test_a_cookie_goes_back_as_it_came() -> None:
    """Its value is not put into quotes, whatever it is made of."""
    answer = WELL.replace(b"\r\n\r\n", b"\r\nSet-Cookie: fly_flaps_affinity=a/b==; path=/\r\n\r\n")
    async with proxy(answer) as (address, asked), Http(f"http://{address}", HEADERS) as http:
        for _ in range(2):
            await http.request("GET", "/v1/apps", connect_s=5, answer_s=5)
    assert b"Cookie: fly_flaps_affinity=a/b==\r\n" in asked[1]


async def test_a_certificate_of_ones_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """SSL_CERT_FILE says whom to trust; without trust nothing is sent."""
    needs("openssl", "run scripts/install-test-tools", there=shutil.which("openssl") is not None)
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    made += [
        "-subj",
        "/CN=ours",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        str(key),
        "-out",
        str(certificate),
    ]
    await anyio.to_thread.run_sync(lambda: subprocess.run(made, check=True, capture_output=True))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def serve(stream: anyio.abc.SocketStream) -> None:
        try:
            async with await TLSStream.wrap(stream, server_side=True, ssl_context=context) as secret:
                await secret.receive()
                await secret.send(WELL)
        except anyio.BrokenResourceError:
            await stream.aclose()  # it does not trust us

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        base_url = f"https://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"  # noqa: S610  # no Django
        async with Http(base_url, HEADERS) as http:
            with pytest.raises(NoAnswerError, match="Certificate") as caught:
                await http.request("POST", "/v1/apps", body=b"{}", connect_s=5, answer_s=5)
        assert not caught.value.sent
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        async with Http(base_url, HEADERS) as http:
            answer = await http.request("POST", "/v1/apps", body=b"{}", connect_s=5, answer_s=5)
        assert answer.content == b"{}"
        tasks.cancel_scope.cancel()
