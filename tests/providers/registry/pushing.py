"""Images in a registry, pushed as docker pushes them; their layers are a few bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx2

from flaude._providers.registry.manifests import digest_of

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPES = {
    OCI_MANIFEST: "application/vnd.oci.image.config.v1+json",
    DOCKER_MANIFEST: "application/vnd.docker.container.image.v1+json",
}
LAYER = b"not really a tar archive"


def config(architecture: str = "amd64", **settings: Any) -> dict[str, Any]:
    """A config blob; `settings` are those of the Dockerfile, such as `User`."""
    return {"os": "linux", "architecture": architecture, "config": settings, "rootfs": {"type": "layers"}}


def manifest(
    of: Mapping[str, Any] | bytes, *, media_type: str = OCI_MANIFEST, layers: Sequence[int] = (len(LAYER),)
) -> dict[str, Any]:
    """The manifest of an image with this config, and with layers of so many bytes."""
    blob = of if isinstance(of, bytes) else encoded(of)
    return {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {"mediaType": CONFIG_TYPES[media_type], "digest": digest_of(blob), "size": len(blob)},
        "layers": [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest_of(LAYER), "size": size}
            for size in layers
        ],
    }


def encoded(document: Mapping[str, Any]) -> bytes:
    """As it travels."""
    return json.dumps(document).encode()


class Registry:
    """A registry on this computer.

    Attributes:
        address: Host and port.
    """

    def __init__(self, address: str, client: httpx2.Client) -> None:
        self.address = address
        self._client = client

    def push(
        self,
        repository: str,
        of: Mapping[str, Any],
        *,
        tag: str | None = None,
        media_type: str = OCI_MANIFEST,
        layers: Sequence[int] = (len(LAYER),),
    ) -> dict[str, Any]:
        """Push an image; returns its descriptor, for an index."""
        document = manifest(of, media_type=media_type, layers=layers)
        for blob in (encoded(of), LAYER):
            self.push_blob(repository, blob)
        platform = {"os": of["os"], "architecture": of["architecture"]}
        return {**self.push_manifest(repository, document, tag=tag), "platform": platform}

    def push_index(
        self,
        repository: str,
        images: Sequence[Mapping[str, Any]],
        *,
        tag: str | None = None,
        media_type: str = OCI_INDEX,
    ) -> dict[str, Any]:
        """Push a list of images that are there; returns its descriptor."""
        document = {"schemaVersion": 2, "mediaType": media_type, "manifests": images}
        return self.push_manifest(repository, document, tag=tag)

    def push_manifest(self, repository: str, document: Mapping[str, Any], *, tag: str | None) -> dict[str, Any]:
        """Push a manifest whose parts are there; returns its descriptor."""
        content, media_type = encoded(document), document["mediaType"]
        reference = tag or digest_of(content)
        headers = {"Content-Type": media_type}
        done = self._client.put(f"/v2/{repository}/manifests/{reference}", content=content, headers=headers)
        assert done.status_code == 201, done.text
        assert done.headers["Docker-Content-Digest"] == digest_of(content)
        return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}

    def push_blob(self, repository: str, blob: bytes) -> None:
        """Push what a manifest is to name."""
        begun = self._client.post(f"/v2/{repository}/blobs/uploads/")
        assert begun.status_code == 202, begun.text
        place = httpx2.URL(begun.headers["Location"]).copy_merge_params({"digest": digest_of(blob)})
        done = self._client.put(place, content=blob, headers={"Content-Type": "application/octet-stream"})
        assert done.status_code == 201, done.text
