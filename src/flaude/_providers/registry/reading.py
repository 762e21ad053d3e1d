"""Read an image's manifest and config from its registry: a handful of GET requests, and nothing is downloaded.

Source: github.com/opencontainers/distribution-spec, "Pulling manifests" and "Pulling blobs".
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

from flaude._providers.http import Answer, Http, NoAnswerError, is_this_computer
from flaude._providers.registry.challenge import Basic, Bearer, read_challenge, read_token
from flaude._providers.registry.image_name import ImageName
from flaude._providers.registry.manifests import (
    ACCEPTED,
    Config,
    Index,
    NotAManifestError,
    Platform,
    digest_of,
    read_config,
    read_manifest,
)

_CONNECT_S, _ANSWER_S = 5.0, 5.0
# The spec has registries take manifests of 4 MiB.
_LARGEST_DOCUMENT = 4 * 2**20
_LARGEST_TOKEN = 2**16
_MOST_REDIRECTS = 4
_MOST_INDEXES = 2
_REDIRECTS = (301, 302, 303, 307, 308)
_SENDABLE = re.compile(r"[!-~]+")


class NotReadError(Exception):
    """The registry does not tell; the text says why, for people."""


class NoSuchImageError(Exception):
    """The registry says that it has no such image."""


@dataclass(frozen=True)
class Image:
    """What a registry says about an image.

    Attributes:
        digest: Of what the name means now: an image, or an index of images for several platforms.
        platforms: Those it is for.
        config: Of the image that Fly's machines get; where there is none for them, of another one.
        compressed_bytes: What a machine downloads of it.
    """

    digest: str
    platforms: tuple[Platform, ...]
    config: Config
    compressed_bytes: int


@dataclass(frozen=True)
class Credentials:
    """A user name and a password, for one registry alone."""

    user: str
    password: str = field(repr=False)

    @property
    def header(self) -> str:
        """As HTTP has them."""
        return f"Basic {base64.b64encode(f'{self.user}:{self.password}'.encode()).decode()}"


async def read_image(name: ImageName, credentials: Credentials | None = None) -> Image:
    """Read what the registry says about an image.

    Args:
        name: The image.
        credentials: For the registry, when it asks for any; they are sent to no other host.

    Raises:
        NotReadError: It does not tell, cannot be reached, or answers something else.
        NoSuchImageError: There is no such image.
        ConfigError: The environment names a proxy that cannot be used.
    """
    reader = _Reader(name, credentials)
    try:
        return await _read(name, reader)
    except NoAnswerError as error:
        raise NotReadError(f"no answer from {name.registry}: {error}") from None
    except NotAManifestError as error:
        raise NotReadError(f"{name.registry}: {error}") from None


async def _read(name: ImageName, reader: _Reader) -> Image:
    content = await reader.manifest(name.reference)
    digest = digest_of(content)
    platforms: tuple[Platform, ...] = ()
    for _ in range(_MOST_INDEXES):
        found = read_manifest(content)
        if not isinstance(found, Index):
            break
        platforms = platforms or found.platforms
        chosen = found.for_fly() or found.any_image()
        if chosen is None:
            raise NotReadError(f"{name.registry} lists no image under this name")
        content = await reader.manifest(chosen.digest)
    manifest = read_manifest(content)
    if isinstance(manifest, Index):
        raise NotReadError(f"{name.registry} has lists within lists under this name")
    config = read_config(await reader.blob(manifest.config.digest))
    return Image(digest, platforms or (config.platform,), config, manifest.compressed_bytes)


class _Reader:
    def __init__(self, name: ImageName, credentials: Credentials | None) -> None:
        self._name = name
        self._credentials = credentials
        self._authorization: str | None = None

    async def manifest(self, reference: str) -> bytes:
        return await self._get("manifests", reference)

    async def blob(self, digest: str) -> bytes:
        return await self._get("blobs", digest)

    async def _get(self, kind: str, reference: str) -> bytes:
        url = f"{self._name.base_url}/v2/{self._name.repository}/{kind}/{reference}"
        accepted = {"Accept": ", ".join(ACCEPTED)} if kind == "manifests" else {}
        answer = await self._ask(url, accepted)
        if answer.status == 401 and self._authorization is None:
            self._authorization = await self._let_in(answer)
            answer = await self._ask(url, accepted)
        for _ in range(_MOST_REDIRECTS):
            if answer.status not in _REDIRECTS:
                break
            url = self._checked(urljoin(url, answer.headers.get("location", "")))
            answer = await self._ask(url, accepted)
        self._check(answer, kind)
        algorithm, named, _ = reference.partition(":")
        if named and digest_of(answer.content, algorithm) != reference:
            raise NotReadError(f"{self._name.registry} answers with something else than {reference}")
        return answer.content

    async def _ask(self, url: str, headers: dict[str, str]) -> Answer:
        # Blobs are often elsewhere: what lets us in here is nobody else's business.
        if self._authorization and _origin(url) == self._name.base_url:
            headers = {**headers, "Authorization": self._authorization}
        return await _request(url, headers, at_most=_LARGEST_DOCUMENT)

    async def _let_in(self, answer: Answer) -> str:
        challenge = read_challenge(answer.headers.get("www-authenticate", ""), repository=self._name.repository)
        match challenge:
            case Basic() if self._credentials:
                return self._credentials.header
            case Bearer(url):
                return await self._token(self._checked(url))
        raise NotReadError(f"{self._name.registry} asks for a user name and a password, and flaude has none for it")

    async def _token(self, url: str) -> str:
        headers = {}
        if self._credentials and _origin(url) == self._name.base_url:
            headers["Authorization"] = self._credentials.header
        answer = await _request(url, headers, at_most=_LARGEST_TOKEN)
        if answer.status != 200:
            raise NotReadError(f"{self._name.registry} gives flaude no token to read it (HTTP {answer.status})")
        token = read_token(answer.content)
        if token is None:
            raise NotReadError(f"{self._name.registry} gives flaude no token to read it (an answer without one)")
        return f"Bearer {token}"

    def _checked(self, url: str) -> str:
        """The URL, when it is one that a registry may send us to."""
        try:
            parts = urlsplit(url)
            right = bool(_SENDABLE.fullmatch(url) and parts.hostname and "@" not in parts.netloc and parts.port != 0)
        except ValueError:
            right = False
        else:
            # In the clear on this computer alone, and never from elsewhere to what listens here.
            plain = self._name.base_url.startswith("http:") and is_this_computer(parts.hostname or "")
            right = right and parts.scheme in (("http", "https") if plain else ("https",))
        if not right:
            raise NotReadError(f"{self._name.registry} sends flaude to an address that it does not follow")
        return url

    def _check(self, answer: Answer, kind: str) -> None:
        registry, status = self._name.registry, answer.status
        match status:
            case 200:
                return
            case 401 | 403:
                raise NotReadError(f"{registry} does not let flaude read it (HTTP {status}): private, or not there")
            case 404 if kind == "manifests":
                raise NoSuchImageError(f"{registry} has no such image")
            case 429:
                raise NotReadError(f"{registry} takes no more requests for now (HTTP 429)")
            case _ if status in _REDIRECTS:
                raise NotReadError(f"{registry} sends flaude from one address to the next")
            case _:
                raise NotReadError(f"{registry} answers HTTP {status}")


async def _request(url: str, headers: dict[str, str], *, at_most: int) -> Answer:
    # A pool of connections for each: the headers are the pool's, and a handful of requests is all there is.
    origin = _origin(url)
    async with Http(origin, headers) as http:
        path = url[len(origin) :].partition("#")[0]
        return await http.request("GET", path, connect_s=_CONNECT_S, answer_s=_ANSWER_S, at_most=at_most)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
