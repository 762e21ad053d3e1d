"""Images in a real registry."""

from __future__ import annotations

import pytest
from tests.providers.registry.conftest import PASSWORD, USER
from tests.providers.registry.pushing import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    LAYER,
    OCI_INDEX,
    OCI_MANIFEST,
    Registry,
    config,
    encoded,
    manifest,
)

from flaude._providers.registry.image_name import ImageName
from flaude._providers.registry.reading import Credentials, NoSuchImageError, NotReadError, read_image


def named(registry: Registry, rest: str) -> ImageName:
    """An image of this registry."""
    return ImageName.parse(f"{registry.address}/{rest}")


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, DOCKER_MANIFEST])
async def test_one_platform(registry: Registry, media_type: str) -> None:
    """Platform, user, size and digest of a single image are those that were pushed, whoever built it."""
    of = config("arm64", User="node", Entrypoint=["/entry"])
    pushed = registry.push("team/single", of, tag="v1", media_type=media_type)
    found = await read_image(named(registry, "team/single:v1"))
    assert [str(platform) for platform in found.platforms] == ["linux/arm64"]
    assert (found.digest, found.config.user, found.config.runs_as_root) == (pushed["digest"], "node", False)
    assert found.compressed_bytes == len(encoded(of)) + len(LAYER)
    assert await read_image(named(registry, f"team/single@{pushed['digest']}")) == found


@pytest.mark.parametrize(("media_type", "inner"), [(OCI_INDEX, OCI_MANIFEST), (DOCKER_LIST, DOCKER_MANIFEST)])
async def test_many_platforms(registry: Registry, media_type: str, inner: str) -> None:
    """Of a list, the image for Fly's machines is looked at, and the digest is that of the list."""
    arm = registry.push("many", config("arm64", User="node"), media_type=inner)
    amd = registry.push("many", config("amd64", User="root"), media_type=inner)
    pushed = registry.push_index("many", [arm, amd], tag="both", media_type=media_type)
    found = await read_image(named(registry, "many:both"))
    assert [str(platform) for platform in found.platforms] == ["linux/arm64", "linux/amd64"]
    assert (found.digest, found.config.architecture, found.config.user) == (pushed["digest"], "amd64", "root")


async def test_a_list_without_flys_platform(registry: Registry) -> None:
    """Where no image is for Fly's machines, another one is looked at; what docker's builder attests is none."""
    attestation = registry.push("arm-only", {**config("unknown"), "os": "unknown"})
    arm = registry.push("arm-only", config("arm64", User="1000:1000"))
    registry.push_index("arm-only", [attestation, arm], tag="latest")
    found = await read_image(named(registry, "arm-only"))
    assert [str(platform) for platform in found.platforms] == ["linux/arm64"]
    assert found.config.user == "1000:1000"


async def test_a_list_that_names_no_platforms(registry: Registry) -> None:
    """An entry without a platform says in its config what it is for."""
    pushed = registry.push("bare", config("amd64"))
    del pushed["platform"]
    inner = registry.push_index("bare", [pushed])
    registry.push_index("bare", [inner], tag="nested")
    found = await read_image(named(registry, "bare:nested"))
    assert [str(platform) for platform in found.platforms] == ["linux/amd64"]


async def test_what_is_not_there(registry: Registry) -> None:
    """A tag, a digest or a repository that does not exist is missing, and not merely unread."""
    registry.push("there", config(), tag="v1")
    for rest in ("there:v2", f"there@sha256:{'0' * 64}", "nowhere:v1"):
        with pytest.raises(NoSuchImageError):
            await read_image(named(registry, rest))


async def test_what_is_no_image(registry: Registry) -> None:
    """What else a registry may hold is told as such."""
    chart = encoded({"name": "a chart"})
    registry.push_blob("chart", chart)
    registry.push_blob("chart", LAYER)
    registry.push_manifest("chart", manifest(chart), tag="v1")
    with pytest.raises(NotReadError, match="not the config of an image: look at its field os"):
        await read_image(named(registry, "chart:v1"))


@pytest.mark.parametrize("credentials", [None, Credentials(USER, "wrong"), Credentials(USER, PASSWORD)])
async def test_a_password(locked_registry: Registry, credentials: Credentials | None) -> None:
    """A registry that wants a password is read with the right one, and is not read with none or another."""
    locked_registry.push("private", config(), tag="v1")
    name = named(locked_registry, "private:v1")
    if credentials is not None and credentials.password == PASSWORD:
        assert (await read_image(name, credentials)).config.runs_as_root
        return
    with pytest.raises(NotReadError, match="asks for a user name" if credentials is None else "HTTP 401") as caught:
        await read_image(name, credentials)
    assert "wrong" not in str(caught.value)
