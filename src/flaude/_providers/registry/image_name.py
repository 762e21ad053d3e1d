"""Names of images, as docker and Fly write them: `node:22`, `registry.fly.io/my-app@sha256:…`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Self
from urllib.parse import urlsplit

from flaude._model.errors import ConfigError
from flaude._providers.http import is_this_computer

# Source: github.com/distribution/reference, regexp.go and normalize.go.
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"(?P<host>{_LABEL}(?:\.{_LABEL})*|\[(?P<ipv6>[0-9A-Fa-f:]+)\])(?::(?P<port>[0-9]{{1,5}}))?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
DIGEST = r"(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})"
_DIGEST = re.compile(DIGEST)
_LONGEST = 255

_HUB = "docker.io"
_HUB_NAMES = (_HUB, "index.docker.io", "registry-1.docker.io")
_HUB_HOST = "registry-1.docker.io"
"""Where Docker Hub answers; `docker.io` itself does not."""


@dataclass(frozen=True)
class ImageName:
    """The name of an image in a registry.

    Attributes:
        written: The registry and repository as they were written, without tag and digest.
        registry: Host, and port where one was written: `docker.io`, `registry.fly.io`, `127.0.0.1:5000`.
        repository: Such as `library/node` or `my-app`.
        tag: `latest` where neither a tag nor a digest was written.
        digest: Such as `sha256:` and 64 hex digits; where it is set, it alone decides which image is meant.
    """

    written: str
    registry: str
    repository: str
    tag: str | None
    digest: str | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a name by docker's rules.

        Raises:
            ConfigError: It is not the name of an image.
        """
        rest, at, digest = text.partition("@")
        # A colon after the last slash begins a tag; one before it begins the port of the registry.
        head, slash, last = rest.rpartition("/")
        last, colon, tag = last.partition(":")
        written = head + slash + last
        first, _, below = written.partition("/")
        if below and (set(first) & set(".:[") or first == "localhost" or first != first.lower()):
            registry, repository = first, below
        else:
            registry, repository = _HUB, written
        if registry in _HUB_NAMES:
            registry, repository = _HUB, repository if "/" in repository else f"library/{repository}"
        right = (
            _is_host(registry)
            and _REPOSITORY.fullmatch(repository)
            and len(registry) + 1 + len(repository) <= _LONGEST
            and (not colon or _TAG.fullmatch(tag))
            and (not at or _DIGEST.fullmatch(digest))
        )
        if not right:
            example = "node:22-bookworm or registry.fly.io/my-app@sha256:…"
            raise ConfigError(f"image: {text[:_LONGEST]!r} is not a valid image name; write it like {example}")
        return cls(written, registry, repository, tag or (None if digest else "latest"), digest or None)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.written}{tag}" + (f"@{self.digest}" if self.digest else "")

    @property
    def reference(self) -> str:
        """What stands in the path of a request for it: the digest, else the tag."""
        return self.digest or self.tag or "latest"

    @property
    def base_url(self) -> str:
        """Where its registry answers; plain HTTP on this computer alone, as docker does it."""
        host = _HUB_HOST if self.registry == _HUB else self.registry
        name = urlsplit(f"//{host}").hostname or ""
        return f"{'http' if is_this_computer(name) else 'https'}://{host}"

    def pinned(self, digest: str) -> str:
        """The same image by a digest, which never moves."""
        return f"{self.written}@{digest}"


def _is_host(registry: str) -> bool:
    found = _HOST.fullmatch(registry)
    if found is None or (found["port"] and not 0 < int(found["port"]) < 2**16):
        return False
    try:
        return not found["ipv6"] or bool(IPv6Address(found["ipv6"]))
    except ValueError:
        return False
