"""What manifests and config blobs say. No I/O: bytes come in, of any content.

Source: github.com/opencontainers/image-spec (manifest.md, image-index.md, config.md) and Docker's image manifest v2,
schema 2, which has the same fields.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flaude._providers.registry.image_name import DIGEST

ACCEPTED = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
"""Media types that are understood here, for the `Accept` of a request."""

_T = TypeVar("_T", bound=BaseModel)
_Digest = Annotated[str, Field(pattern=rf"^{DIGEST}$")]
_Size = Annotated[int, Field(ge=0, strict=True)]


class NotAManifestError(Exception):
    """What came is not what was asked for; the text says what it is instead."""


class _Part(BaseModel):
    # Whatever else stands there is nobody's business here; annotations are the builder's.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Platform(_Part):
    """What a machine must be to run an image."""

    os: str
    architecture: str

    def __str__(self) -> str:
        return f"{self.os}/{self.architecture}"


FLY_PLATFORM = Platform(os="linux", architecture="amd64")
"""The only platform of Fly's machines. Source: flyctl, internal/build/imgsrc/dockerfile_builder.go."""


class Descriptor(_Part):
    """A reference to something else in the same repository; the size is in bytes."""

    digest: _Digest
    size: _Size
    platform: Platform | None = None

    @property
    def is_an_image(self) -> bool:
        """Whether it can be run: docker's builder lists its attestations as images of an unknown platform."""
        return self.platform is None or str(self.platform) != "unknown/unknown"


class Index(_Part):
    """One image for several platforms: an OCI index, or a manifest list of docker's."""

    manifests: tuple[Descriptor, ...]

    @property
    def platforms(self) -> tuple[Platform, ...]:
        """Those that are named, each once."""
        return tuple(
            dict.fromkeys(one.platform for one in self.manifests if one.platform is not None and one.is_an_image)
        )

    def for_fly(self) -> Descriptor | None:
        """The image that Fly's machines would get, if there is one.

        An entry without a platform may be for any: it comes after those that name Fly's.
        """
        named = [one for one in self.manifests if one.platform == FLY_PLATFORM]
        return next(iter(named + [one for one in self.manifests if one.platform is None]), None)

    def any_image(self) -> Descriptor | None:
        """Any image of it, to look at where there is none for Fly."""
        return next((one for one in self.manifests if one.is_an_image), None)


class Manifest(_Part):
    """An image for one platform: its config blob and its layers, which are compressed."""

    config: Descriptor
    layers: tuple[Descriptor, ...]

    @property
    def compressed_bytes(self) -> int:
        """What a machine downloads."""
        return sum({part.digest: part.size for part in (self.config, *self.layers)}.values())


class _Settings(_Part):
    user: str | None = Field(default=None, alias="User")


class Config(_Part):
    """The config blob of an image."""

    os: str
    architecture: str
    config: _Settings | None = None

    @property
    def platform(self) -> Platform:
        """What the image was built for."""
        return Platform(os=self.os, architecture=self.architecture)

    @property
    def user(self) -> str:
        """The `USER` of its Dockerfile; empty where there is none."""
        return (self.config.user if self.config else None) or ""

    @property
    def runs_as_root(self) -> bool:
        """Whether its main program has the rights of root."""
        name = self.user.partition(":")[0]
        return name in ("", "root") or set(name) == {"0"}


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    """The digest by which a registry knows this content; `sha512` is the other algorithm that there is."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def read_manifest(content: bytes) -> Index | Manifest:
    """What a registry has answered for an image.

    Raises:
        NotAManifestError: It is something else.
    """
    found = _object(content)
    # One with both could be read in two ways, by us and by Fly.
    match ("manifests" in found, "layers" in found):
        case (True, False):
            return _read(Index, found)
        case (False, True):
            return _read(Manifest, found)
    if found.get("schemaVersion") == 1:
        raise NotAManifestError("the manifest is of the first version, which registries no longer take")
    raise NotAManifestError("the answer is not the manifest of an image")


def read_config(content: bytes) -> Config:
    """The config blob of an image.

    Raises:
        NotAManifestError: It is something else; also the config of what is no image, such as a Helm chart.
    """
    return _read(Config, _object(content))


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise NotAManifestError("the answer is not a JSON object")
    return found


def _read(kind: type[_T], found: dict[str, Any]) -> _T:
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
    raise NotAManifestError(f"the answer is not the {kind.__name__.lower()} of an image: look at its field {where}")
