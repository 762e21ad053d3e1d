"""Registries that ask for a token, send elsewhere, or answer whatever they like: real servers on this computer."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send
from tests.providers.registry.pushing import config, encoded, manifest

from flaude._providers.registry import reading
from flaude._providers.registry.image_name import ImageName
from flaude._providers.registry.manifests import digest_of
from flaude._providers.registry.reading import Credentials, NotReadError, read_image
from flaude.local.server import listening, serving

MANIFEST, CONFIG = encoded(manifest(config())), encoded(config())
MINE = Credentials("x", "fm2_canary")
Answering = Callable[[Request], Awaitable[Response] | Response]


@dataclass
class Server:
    """A server, and what it was asked: paths with queries, and what came as Authorization."""

    answer: Answering
    address: str = ""
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        request = Request(scope, receive)
        query = f"?{request.url.query}" if request.url.query else ""
        self.asked.append((request.url.path + query, request.headers.get("authorization")))
        answer = self.answer(request)
        await (answer if isinstance(answer, Response) else await answer)(scope, receive, send)

    @property
    def name(self) -> ImageName:
        """An image in it."""
        return ImageName.parse(f"{self.address}/library/node:22")


@asynccontextmanager
async def server(answer: Answering) -> AsyncIterator[Server]:
    """Serve on a free port of 127.0.0.1."""
    with listening(0) as listener:
        found = Server(answer, f"127.0.0.1:{listener.getsockname()[1]}")
        async with serving(found, listener):
            yield found


def image(request: Request) -> Response:
    """What a registry answers that has the image."""
    return Response(MANIFEST if "/manifests/" in request.url.path else CONFIG)


def asking(challenge: str, token: str) -> Callable[[Request], Response]:
    """A registry that has the image for those alone who have the token."""

    def answer(request: Request) -> Response:
        if request.url.path == "/token":
            return JSONResponse({"token": token})
        if request.headers.get("authorization") == f"Bearer {token}":
            return image(request)
        return Response(status_code=401, headers={"WWW-Authenticate": challenge.format(host=request.url.netloc)})

    return answer


async def test_a_token_is_fetched_once() -> None:
    """A registry says where tokens are; one is fetched without a password, and used for all requests."""
    challenge = 'Bearer realm="http://{host}/token",service="registry.docker.io",scope="repository:library/node:pull"'
    async with server(asking(challenge, "anonymous-token")) as registry:
        found = await read_image(registry.name)
    assert (found.digest, found.config.runs_as_root) == (digest_of(MANIFEST), True)
    scope = "scope=repository%3Alibrary%2Fnode%3Apull"
    assert registry.asked == [
        ("/v2/library/node/manifests/22", None),
        (f"/token?{scope}&service=registry.docker.io", None),
        ("/v2/library/node/manifests/22", "Bearer anonymous-token"),
        (f"/v2/library/node/blobs/{digest_of(CONFIG)}", "Bearer anonymous-token"),
    ]


async def test_a_token_that_does_not_help_is_fetched_once() -> None:
    """A registry that hands out a token and refuses it is not asked for another one."""

    def answer(request: Request) -> Response:
        if request.url.path == "/token":
            return JSONResponse({"token": "useless"})
        challenge = f'Bearer realm="http://{request.url.netloc}/token"'
        return Response(status_code=401, headers={"WWW-Authenticate": challenge})

    async with server(answer) as registry:
        with pytest.raises(NotReadError, match=r"does not let flaude read it \(HTTP 401\)"):
            await read_image(registry.name)
    image = "/v2/library/node/manifests/22"
    assert [path.partition("?")[0] for path, _ in registry.asked] == [image, "/token", image]


async def test_a_blob_that_is_refused() -> None:
    """A token that is good for the manifest alone is used for the blob too, and no other one is fetched."""

    def answer(request: Request) -> Response:
        if "/blobs/" in request.url.path:
            return Response(status_code=401, headers={"WWW-Authenticate": 'Bearer realm="http://127.0.0.1:1/"'})
        return asking('Bearer realm="http://{host}/token"', "t")(request)

    async with server(answer) as registry:
        with pytest.raises(NotReadError, match=r"does not let flaude read it \(HTTP 401\)"):
            await read_image(registry.name)
    assert registry.asked[-1] == (f"/v2/library/node/blobs/{digest_of(CONFIG)}", "Bearer t")


async def test_a_password_is_shown_to_its_own_registry_alone() -> None:
    """Who hands out tokens elsewhere gets no password; the registry's own token server does."""
    async with server(asking("", "of-another-host")) as other:
        challenge = f'Bearer realm="http://{other.address}/token"'
        async with server(asking(challenge, "of-another-host")) as registry:
            assert (await read_image(registry.name, MINE)).config.runs_as_root
        assert [authorization for _, authorization in other.asked] == [None]
        assert MINE.header not in [authorization for _, authorization in registry.asked]
    async with server(asking('Bearer realm="http://{host}/token"', "its-own")) as registry:
        await read_image(registry.name, MINE)
    assert [path.partition("?")[0] for path, sent in registry.asked if sent == MINE.header] == ["/token"]


async def test_blobs_that_are_elsewhere() -> None:
    """A redirect is followed, and what lets us in is not sent along."""
    async with server(image) as store:

        def answer(request: Request) -> Response:
            if request.headers.get("authorization") != MINE.header:
                return Response(status_code=401, headers={"WWW-Authenticate": "Basic realm=x"})
            if "/blobs/" in request.url.path:
                return RedirectResponse(f"http://{store.address}/store/blobs/x?signed=a%2Fb", 307)
            return image(request)

        async with server(answer) as registry:
            assert (await read_image(registry.name, MINE)).config.runs_as_root
        assert store.asked == [("/store/blobs/x?signed=a%2Fb", None)]


def status(code: int, **headers: str) -> Answering:
    """A registry that answers everything so."""
    return lambda _: Response(b"{}", code, {name.replace("_", "-"): value for name, value in headers.items()})


def swapped(request: Request) -> Response:
    """A registry that answers with another config than the manifest names."""
    return Response(MANIFEST) if "/manifests/" in request.url.path else JSONResponse(config(User="node"))


ODD: dict[str, tuple[Answering, str]] = {
    "endless": (lambda _: Response(b"x" * (4 * 2**20 + 1)), "more than 4,194,304 bytes"),
    "a bomb": (
        lambda _: Response(gzip.compress(b"x" * 2**24), headers={"Content-Encoding": "gzip"}),
        "more than 4,194,304 bytes",
    ),
    "a page": (lambda _: Response(b"<html>"), "not a JSON object"),
    "another config": (swapped, "answers with something else than sha256:"),
    "in circles": (status(307, Location="/v2/again"), "from one address to the next"),
    "to ftp": (status(302, Location="ftp://x.y/"), "does not follow"),
    "to a file": (status(302, Location="file:///etc/passwd"), "does not follow"),
    "in the clear": (status(302, Location="http://x.y/"), "does not follow"),
    "with a password": (status(302, Location="https://me:pw@x.y/"), "does not follow"),
    "to no port": (status(302, Location="https://x:y/"), "does not follow"),
    "to nowhere": (status(302, Location="https://"), "does not follow"),
    "401 alone": (status(401), "asks for a user name and a password"),
    "a password": (status(401, WWW_Authenticate="Basic"), "asks for a user name and a password"),
    "a token by ftp": (status(401, WWW_Authenticate='Bearer realm="ftp://x.y/"'), "does not follow"),
    "a token in the clear": (status(401, WWW_Authenticate='Bearer realm="http://10.0.0.1/"'), "does not follow"),
    "no token": (asking('Bearer realm="http://{host}/none"', "t"), "no token to read it .HTTP 401"),
    "an odd token": (asking('Bearer realm="http://{host}/token"', "a b"), "an answer without one"),
    "403": (status(403), "does not let flaude read it .HTTP 403"),
    "429": (status(429), "takes no more requests for now"),
    "500": (status(500), "answers HTTP 500"),
}


@pytest.mark.parametrize("odd", ODD)
async def test_a_registry_that_does_not_tell(odd: str) -> None:
    """Whatever else a registry answers, why it was not read is told, and no password with it."""
    answer, told = ODD[odd]
    async with server(answer) as registry:
        with pytest.raises(NotReadError, match=told) as caught:
            await read_image(registry.name)
    assert registry.address in str(caught.value) and "pw" not in str(caught.value)


async def test_a_registry_elsewhere_does_not_lead_to_this_computer() -> None:
    """A registry that is not on this computer leads to nothing that listens here in the clear."""
    async with server(image) as here:
        name = ImageName.parse("registry.example.com/a:1")
        reader = reading._Reader(name, None)  # noqa: SLF001  # a registry elsewhere is no thing that a test can have
        for url in (f"http://{here.address}/", f"HTTP://{here.address}/", "http://localhost/"):
            with pytest.raises(NotReadError, match="does not follow"):
                reader._checked(url)  # noqa: SLF001
        assert reader._checked("https://store.example.com/x") and here.asked == []  # noqa: SLF001


async def test_nobody_is_there() -> None:
    """A registry that cannot be reached was not read."""
    with listening(0) as closed:
        name = ImageName.parse(f"127.0.0.1:{closed.getsockname()[1]}/a")
        with pytest.raises(NotReadError, match=f"no answer from {name.registry}"):
            await read_image(name)


async def test_a_registry_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that never answers is given up."""
    monkeypatch.setattr(reading, "_CONNECT_S", 0.2)
    monkeypatch.setattr(reading, "_ANSWER_S", 0.2)

    async def never(request: Request) -> Response:
        await request.body()
        await request.receive()  # that the connection is closed
        return Response()

    async with server(never) as registry:
        with pytest.raises(NotReadError, match="no answer from"), anyio.fail_after(20):
            await read_image(registry.name)
